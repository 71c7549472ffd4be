"""Experimental maps become channels: honest units, and a name for whatever is wrong with a row's map."""

from pathlib import Path

import numpy as np
import pytest

from flows.keys import choose_keys
from flows.recipe import RecipeError, parse_recipe
from pipeline.engines.map import MapEngine
from pipeline.maps import read_map, resample
from pipeline.units import ANGSTROM_PER_BOHR
from storage.errors import RequestError
from storage.reader import Dataset, open_dataset
from storage.schema import Conformer
from tests.flows.small_build import build_here
from tests.pipeline.map_files import write_map, write_mtz

RECIPE = """
[source]
path = "maps.csv"
protein = "structure"
map = "map"
id = "name"
[conformers]
keep = true
[densities.map]
engine = "map"
method = "xray"
[densities.raw]
engine = "map"
method = "xray"
scale = "file"
[densities.promolecule]
engine = "promolecule"
[grid]
box = "tight"
spacing_angstrom = 0.5
margin_angstrom = 1.5
classes = [24]
[store]
round_to = 0
"""
ATOMS = [(3.0, 4.0, 5.0), (5.0, 2.0, 9.5)]
ROWS = {
    "good": "good.mtz",
    "unphased": "unphased.mtz",
    "gone": "gone.ccp4",
    "part": "part.ccp4",
    "empty": "",
}


def write_folder(folder: Path) -> Path:
    lines = [
        f"ATOM  {number:5d}  CA  GLY A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 10.00           C\n"
        for number, (x, y, z) in enumerate(ATOMS, start=1)
    ]
    (folder / "some.pdb").write_text("".join([*lines, "END\n"]))
    write_mtz(folder / "good.mtz", ATOMS)
    write_mtz(folder / "unphased.mtz", ATOMS, with_phases=False)
    cell = (12.0, 12.0, 12.0, 90.0, 90.0, 90.0)
    write_map(
        folder / "part.ccp4", lambda places: places[:, 0] ** 2 + 0.1, cell=cell, sizes=(24, 24, 24), count=(14, 24, 24)
    )
    rows = [f"{name},some.pdb,{map}" for name, map in ROWS.items()]
    (folder / "maps.csv").write_text("\n".join(["name,structure,map", *rows]) + "\n")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("maps")


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return open_dataset(build_here(write_folder(folder), folder / "store.zarr"))


def test_every_row_has_its_outcome_by_name(dataset: Dataset) -> None:
    assert dataset.rows.outcome.to_dict() == {"good": "ok"} | dict.fromkeys(list(ROWS)[1:], "invalid_input")
    messages = dataset.rows.message
    assert "unphased.mtz: it holds no phases" in messages["unphased"]
    assert "there is no map gone.ccp4" in messages["gone"]
    assert "part.ccp4: the map covers" in messages["part"]
    assert "map is empty: name the map's file" in messages["empty"]


def test_a_channel_is_the_map_in_deviations_or_as_its_file_scales_it(dataset: Dataset, folder: Path) -> None:
    sample, facts = dataset["good#0"], dataset.table.loc["good#0"]
    held = resample(read_map(folder / "good.mtz", "xray"), sample.grid, "cell")
    assert sample.channels["raw"] == pytest.approx(held * ANGSTROM_PER_BOHR**3, abs=1e-6)
    deviations = (held - facts["map_map_mean"]) / facts["map_map_deviation"]
    assert sample.channels["map"] == pytest.approx(deviations, rel=1e-5, abs=1e-5)
    assert facts["map_map_coverage"] == 1
    promolecule = sample.channels["promolecule"].ravel()
    assert np.corrcoef(sample.channels["map"].ravel(), promolecule)[0, 1] > 0.8


def test_where_a_machine_does_not_see_the_maps_no_structure_is_at_fault(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    engine = MapEngine(tmp_path / "away", None, None, "xray", "sigma", None, None, 1.0, "cell")
    sample = dataset["good#0"]
    conformer = Conformer("good#0", sample.numbers, sample.positions, 0, 0, "", "")
    for _ in range(2):
        with pytest.raises(RequestError, match=r"away, beside which maps lie, is empty or missing on this machine"):
            engine.resample(conformer, sample.grid)
        (tmp_path / "away").mkdir(exist_ok=True)


def test_promolecules_of_all_electrons_are_not_taken_for_those_of_valence_electrons(folder: Path) -> None:
    texts = (RECIPE, f'electrons = "all"\n{RECIPE}')
    valence, whole = (choose_keys(parse_recipe(text, folder / "recipe.toml")) for text in texts)
    assert valence.voxels != whole.voxels


def test_the_units_are_what_is_known_of_them(dataset: Dataset) -> None:
    channels = dataset.to_xarray()["cells_24"]
    assert channels["map"].attrs["units"] == "1"
    assert "standard deviations above its mean" in channels["map"].attrs["long_name"]
    assert channels["raw"].attrs["units"] == "electrons bohr-3"
    assert "there is no F000" in channels["raw"].attrs["long_name"]


def test_what_a_map_does_not_cover_has_its_mean_where_that_is_asked_for(folder: Path) -> None:
    (folder / "lenient.toml").write_text(RECIPE.replace('"xray"\n', '"xray"\nleast_coverage = 0.2\n'))
    lenient = open_dataset(build_here(folder / "lenient.toml", folder / "lenient.zarr"))
    covered = lenient.table.map_map_coverage["part#0"]
    assert 0.2 < covered < 1
    assert (lenient["part#0"].channels["map"] == 0).mean() == pytest.approx(1 - covered, abs=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("keep = true", "keep = false", "is a map of structures as they lie"),
        ('box = "tight"', "orient = true", "is a map of structures as they lie"),
        ('protein = "structure"\n', "", "map is given without protein"),
        ('method = "xray"\nscale', 'method = "neutron"\nscale', "method"),
        ("[grid]", '[channels]\ngradient_magnitude = ["map"]\n[grid]', "which is a map, without orbitals"),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(old: str, new: str, message: str) -> None:
    assert RECIPE.count(old) == 1
    with pytest.raises(RecipeError, match=message):
        parse_recipe(RECIPE.replace(old, new), Path("recipe.toml"))
