"""Complexes and structures become datasets; what is wrong with a row is its outcome, by name."""

from pathlib import Path

import numpy as np
import pytest

from flows.recipe import RecipeError, parse_recipe
from pipeline.engines.promolecule import PromoleculeEngine
from pipeline.superposition import sample_superposition
from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import StoreError
from storage.reader import Dataset, open_dataset
from tests.flows.small_build import build_here, rhoflow_here
from tests.pipeline.complex_files import PENTAVALENT, write_ligand, write_protein
from training.catalog import read_catalog
from training.property.channel_boxes import check_atoms_fit

RECIPE = """
[source]
path = "complexes.csv"
protein = "protein"
ligand = "ligand"
id = "name"
labels = ["pK"]
[conformers]
keep = true
[densities.promolecule]
engine = "promolecule"
xtb_atoms = 8
[grid]
spacing_angstrom = 0.6
margin_angstrom = 2.5
classes = [16, 20]
[channels]
gradient_magnitude = ["promolecule"]
atom_types = true
[store]
shard_samples = 4
round_to = 0
"""
ROWS = {
    "good": ("protein.pdb", "methanol.sdf"),
    "larger": ("protein.pdb", "propanol.sdf"),
    "other": ("other.pdb", "methanol.sdf"),
    "gone": ("protein.pdb", "gone.sdf"),
    "bad": ("protein.pdb", "bad.sdf"),
    "clash": ("protein.pdb", "inside.sdf"),
    "far": ("protein.pdb", "far.sdf"),
    "damaged": ("damaged.pdb", "methanol.sdf"),
}


def write_folder(folder: Path) -> Path:
    write_protein(folder / "protein.pdb")
    write_protein(folder / "other.pdb", ((4, 0, 0), (0, 5, 0), (0, -5, 0)))
    (folder / "damaged.pdb").write_text("ATOM, but no more\n")
    write_ligand(folder / "methanol.sdf")
    write_ligand(folder / "propanol.sdf", "CCCO", (-1, 0, 0))
    write_ligand(folder / "inside.sdf", place=(4.5, 0.3, 0))
    write_ligand(folder / "far.sdf", place=(80, 0, 0))
    (folder / "bad.sdf").write_text(PENTAVALENT)
    lines = [f"{name},{protein},{ligand},{k}" for k, (name, (protein, ligand)) in enumerate(ROWS.items())]
    (folder / "complexes.csv").write_text("\n".join(["name,protein,ligand,pK", *lines]) + "\n")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("complexes")
    return open_dataset(build_here(write_folder(folder), folder / "store.zarr"))


def test_every_row_has_its_outcome(dataset: Dataset) -> None:
    assert dataset.rows.outcome.to_dict() == {
        "good": "ok", "larger": "ok", "other": "ok", "gone": "invalid_input", "bad": "invalid_input",
        "clash": "clash", "far": "empty_pocket", "damaged": "invalid_input",
    }  # fmt: skip
    assert "gone.sdf: there is no such file" in dataset.rows.message["gone"]
    assert "Explicit valence" in dataset.rows.message["bad"]


def test_a_sample_says_which_atoms_are_the_ligands_and_has_its_box_around_them(dataset: Dataset) -> None:
    sample = dataset["good#0"]
    ligand = sample.positions[: sample.conformer.ligand_atoms]
    assert dataset.table.ligand_atoms.to_dict() == {"good#0": 6, "larger#0": 12, "other#0": 6}
    middle = np.array(sample.grid.origin) + np.array(sample.grid.spacing) * (np.array(sample.grid.shape) - 1) / 2
    assert middle == pytest.approx((ligand.min(axis=0) + ligand.max(axis=0)) / 2)
    assert sample.grid.shape == (16, 16, 16)
    assert sample.conformer.smiles == "CO"


def test_complexes_of_one_protein_stay_in_one_split(dataset: Dataset) -> None:
    groups = dataset.table.group
    assert groups["good#0"] == groups["larger#0"] != groups["other#0"]
    assert dataset.table.split["good#0"] == dataset.table.split["larger#0"]


def test_a_networks_cube_has_to_hold_the_ligand_and_not_the_pocket(dataset: Dataset) -> None:
    catalog = read_catalog([dataset.store], dataset.table.split["good#0"], ())
    check_atoms_fit(catalog, 16)
    with pytest.raises(StoreError, match="atoms outside a cube of 2 cells"):
        check_atoms_fit(catalog, 2)


def test_a_complex_has_no_orbitals(tmp_path: Path) -> None:
    path = write_folder(tmp_path)
    path.write_text(RECIPE.replace("[grid]", '[densities.whole]\nengine = "gfn2"\n[grid]'))
    rows = open_dataset(build_here(path, tmp_path / "store.zarr")).rows
    assert rows.outcome["good"] == "invalid_input"
    assert "density 'whole' needs orbitals, which are not computed of a complex" in rows.message["good"]


def test_complexes_may_be_split_by_their_ligands_with_the_ligand_alone_as_a_control(tmp_path: Path) -> None:
    path = write_folder(tmp_path)
    control = '[densities.alone]\nengine = "promolecule"\npart = "ligand"\n[splits]\nby = "ligand"\n[grid]'
    path.write_text(RECIPE.replace("[grid]", control).replace("xtb_atoms = 8", ""))
    dataset = open_dataset(build_here(path, tmp_path / "store.zarr"))
    groups = dataset.table.group
    assert groups["good#0"] == groups["other#0"] != groups["larger#0"]
    good, other = (dataset[id].channels for id in ("good#0", "other#0"))
    assert np.array_equal(good["alone"], other["alone"])
    assert not np.array_equal(good["promolecule"], other["promolecule"])


def test_the_stored_density_is_that_of_the_engine_and_says_where_its_seam_is(dataset: Dataset) -> None:
    """Methanol has orbitals, propanol (12 atoms, more than 8) has none."""
    assert dataset.table.promolecule_orbital_atoms.to_dict() == {"good#0": 6, "larger#0": 0, "other#0": 6}
    for id in dataset.ids:
        sample = dataset[id]
        whole = PromoleculeEngine("valence", 8).superpose(sample.conformer)
        expected = sample_superposition(whole, sample.grid, "cell")
        assert sample.channels["promolecule"] == pytest.approx(expected, rel=1e-6, abs=1e-7)
        assert dataset.table.promolecule_electrons[id] == pytest.approx(whole.count)


def test_a_promolecule_is_voxelized_anew_where_no_density_needs_wavefunctions(
    dataset: Dataset, scheduler: str, tmp_path: Path
) -> None:
    wide = ("--spacing-angstrom", "0.9")
    printed = rhoflow_here("voxelize", str(dataset.store), tmp_path / "wide.zarr", *wide, "--cluster", scheduler)
    assert "error" not in printed.lower()
    voxelized = open_dataset(tmp_path / "wide.zarr")
    assert len(voxelized) == 3
    assert voxelized["good#0"].grid.spacing[0] == pytest.approx(0.9 * BOHR_PER_ANGSTROM)


def test_a_ligand_that_is_posed_anew_is_followed(tmp_path: Path) -> None:
    """Though the table is what it was."""
    recipe = write_folder(tmp_path)
    store = build_here(recipe, tmp_path / "store.zarr")
    before = open_dataset(store)["good#0"].positions
    write_ligand(tmp_path / "methanol.sdf", place=(0.1, 0, 0))
    after = open_dataset(build_here(recipe, store))["good#0"].positions
    assert after[:6] - before[:6] == pytest.approx(np.tile([0.1 * BOHR_PER_ANGSTROM, 0, 0], (6, 1)), abs=1e-3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('record = "pose"\nligand = ""', "record is given without ligand"),
        ('ligand = "ligand"', "ligand is given without protein"),
        ('residues = ["lipids"]', "residues"),
        ("model = -1", r"source\.model = -1"),
    ],
)
def test_keys_that_go_wrong_are_named(line: str, message: str) -> None:
    text = f'[source]\npath = "a.csv"\n{line}\n[densities.p]\nengine = "promolecule"\n[grid]\n'
    with pytest.raises(RecipeError, match=message):
        parse_recipe(text, Path("recipe.toml"))


REAL = """
[source]
path = "{path}"
model = 0
labels = {labels}
[conformers]
keep = true
[densities.promolecule]
engine = "promolecule"
[grid]
spacing_angstrom = 1.2
margin_angstrom = 2.0
classes = [16, 24, 32, 64, 80]
[channels]
atom_types = true
"""


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "labels", "rows", "samples"), [("fep", ["r_exp_dg"], 111, 100), ("biomolecules", [], 2, 21)]
)
def test_real_complexes_and_biomolecules_become_samples(
    reference: Path, tmp_path: Path, name: str, labels: list[str], rows: int, samples: int
) -> None:
    """Eleven ligands have the pose of another one: they have its sample, and labels of their own."""
    path = tmp_path / "recipe.toml"
    path.write_text(REAL.format(path=reference / "complexes" / name, labels=labels))
    dataset = open_dataset(build_here(path, tmp_path / "store.zarr"))
    assert dataset.rows.outcome.to_dict() == dict.fromkeys(dataset.rows.index, "ok")
    assert (len(dataset.rows), len(dataset)) == (rows, samples)
    summed, inside = (dataset.table[f"promolecule_{kind}_electrons"] for kind in ("summed", "box"))
    assert (summed - inside).abs().max() < 1e-6
    for label in labels:
        assert dataset.rows[label].notna().all()
