"""A recipe is right, or refused by file, key, value and remedy before any work."""

import json
import sys
from pathlib import Path

import pytest

from flows.engines import build_engines
from flows.recipe import RecipeError, read_recipe, recipe_schema, recipe_values
from storage.errors import RequestError

GOOD = """
[source]
path = "molecules.csv"
[densities.target]
engine = "gaussian"
[grid]
spacing_angstrom = 0.2
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "molecules.csv").write_text("smiles\nC\n")
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    return path


def test_three_tables_are_enough_and_the_rest_has_the_documented_defaults(recipe: Path) -> None:
    values = recipe_values(read_recipe(recipe))
    assert values["electrons"] == "valence"
    assert values["conformers"] == {"keep": False, "count": 1, "optimise": "mmff", "seed": 7}
    assert values["grid"]["classes"] == [32, 48, 64, 80, 96]
    assert values["splits"] == {"by": "molecule", "train": 0.8, "validation": 0.1, "test": 0.1}
    assert values["store"] == {"shard_samples": 16, "round_to": 1e-6, "wavefunctions": True}


def test_the_source_is_found_beside_the_recipe(recipe: Path) -> None:
    assert read_recipe(recipe).source.path == recipe.parent / "molecules.csv"


PATH = 'path = "molecules.csv"'


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", r'source: give either path = "…", a file of molecules, or package = "qm9"'),
        (f'{PATH}\npackage = "qm9"', r'source: give either path = "…", a file of molecules, or package = "qm9"'),
        (f"{PATH}\ncount = 5", r"source: count goes with package: leave it out, or give package"),
        (f"{PATH}\nheavy_atoms = 5", r"source: heavy_atoms goes with package: leave it out, or give package"),
        ('package = "qm9"\nid = "name"', r"source: id goes with path: leave it out, or give path"),
        ('package = "qm10"', r"source\.package = 'qm10': input should be 'qm9'"),
    ],
)
def test_molecules_come_from_a_path_or_a_package(recipe: Path, source: str, message: str) -> None:
    recipe.write_text(GOOD.replace(PATH, source))
    with pytest.raises(RecipeError, match=message):
        read_recipe(recipe)


def test_a_package_that_is_not_installed_is_missed_at_once(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe.write_text(GOOD.replace(PATH, 'package = "qm9"'))
    monkeypatch.setitem(sys.modules, "qm9pack", None)  # no such package can be found
    with pytest.raises(RequestError, match=r"pip install 'rhoflow\[qm9\]'"):
        read_recipe(recipe)


def test_a_density_from_files_needs_a_path(recipe: Path) -> None:
    recipe.write_text(
        GOOD.replace(PATH, 'package = "qm9"')
        .replace('"gaussian"', '"file"')
        .replace("spacing_angstrom = 0.2", 'box = "file"')
    )
    with pytest.raises(RecipeError, match=r"\[densities\.target\] comes from files: give source\.path"):
        read_recipe(recipe)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("spacing_angstrm = 0.2", r"grid\.spacing_angstrm = 0\.2: unknown key; did you mean spacing_angstrom\?"),
        ("margin_angstrom = -1", r"grid\.margin_angstrom = -1: input should be greater than or equal to 0"),
        ('sampling = "voxel"', r"grid\.sampling = 'voxel': input should be 'cell' or 'point'"),
        ("classes = [64, 32]", r"grid: \[64, 32\] are not even numbers in ascending order"),
        ("[splits]\ntrain = 0.5", r"splits: train, validation and test add up to 0\.7, not to 1"),
        ('[densities.guess]\nengine = "pm6"', r"densities\.guess.*'pm6'"),
        (
            '[densities.guess]\nengine = "dft"\nbais = "x"',
            r"densities\.guess\.bais = 'x': unknown key; did you mean basis",
        ),
        ('[channels]\ndensities = ["guess"]', r"channels\.densities names 'guess', but \[densities\] has target"),
        ('[densities.all]\nengine = "dft"\npseudopotential = "none"', r"\[densities\.all\] counts all electrons"),
        ("[conformers]\nkeep = true\ncount = 3", r"conformers: keep = true keeps the one geometry given"),
        ('[densities.charge]\nengine = "gfn2"', r"\[densities\.charge\]: the store's own arrays use this name"),
        ('[channels]\natom_type_elements = ["Xx"]', r"channels: atom_type_elements names 'Xx', which is no element"),
        ('[channels]\ndensities = ["target", "target"]', r"two channels would be called 'target'"),
        ("[nonsense]\nx = 1", r"nonsense = \{'x': 1\}: unknown key"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_remedy(recipe: Path, change: str, message: str) -> None:
    recipe.write_text(GOOD + change)
    with pytest.raises(RecipeError, match=message) as raised:
        read_recipe(recipe)
    assert str(recipe) in str(raised.value)


def test_a_missing_key_is_named(recipe: Path) -> None:
    recipe.write_text(GOOD.replace("[grid]\nspacing_angstrom = 0.2", ""))
    with pytest.raises(RecipeError, match="grid: must be given"):
        read_recipe(recipe)


def test_a_missing_source_is_named_with_the_place_looked_at(recipe: Path) -> None:
    (recipe.parent / "molecules.csv").unlink()
    with pytest.raises(RecipeError, match=r'source\.path = "molecules\.csv": no such file'):
        read_recipe(recipe)


def test_text_that_is_no_toml_is_refused_by_line(recipe: Path) -> None:
    recipe.write_text("[source\n")
    with pytest.raises(RecipeError, match=r"is no TOML.*line 1"):
        read_recipe(recipe)


def test_the_schema_describes_every_table() -> None:
    schema = json.loads(recipe_schema())
    assert set(schema["properties"]) == {
        "electrons", "source", "conformers", "densities", "grid", "channels", "splits", "limits", "store",
    }  # fmt: skip
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("density", "message"),
    [
        ('engine = "dft"\nfunctional = "PEBE"', r'\[densities\.wrong\]: PySCF knows no functional "PEBE"'),
        ('engine = "dft"\nbasis = "gth-tzv2q"', r"\[densities\.wrong\]: it serves none of the common elements"),
    ],
)
def test_settings_that_an_engine_refuses_are_named_before_any_work(recipe: Path, density: str, message: str) -> None:
    recipe.write_text(f"{GOOD}[densities.wrong]\n{density}\n")
    with pytest.raises(RecipeError, match=message):
        build_engines(read_recipe(recipe))


@pytest.mark.parametrize("label", ["split", "dG/kcal"])
def test_labels_may_not_hide_the_tables_own_columns(recipe: Path, label: str) -> None:
    recipe.write_text(GOOD.replace("[densities.target]", f'labels = ["{label}"]\n[densities.target]'))
    with pytest.raises(RecipeError, match=f"labels names '{label}'"):
        read_recipe(recipe)


ALL_ELECTRONS = """
electrons = "all"
[source]
path = "molecules.csv"
[densities.guess]
engine = "gfn2"
[densities.target]
engine = "dft"
basis = "def2-svp"
pseudopotential = "none"
[grid]
"""


def test_engines_of_an_all_electron_recipe_leave_no_electron_out(recipe: Path) -> None:
    recipe.write_text(ALL_ELECTRONS)
    engines = build_engines(read_recipe(recipe))
    assert {name: engine.core_electrons(8) for name, engine in engines.items()} == {"guess": 0, "target": 0}
    recipe.write_text(ALL_ELECTRONS.replace('pseudopotential = "none"', 'pseudopotential = "gth-pbe"'))
    with pytest.raises(RecipeError, match=r"\[densities\.target\] counts valence electrons"):
        read_recipe(recipe)
