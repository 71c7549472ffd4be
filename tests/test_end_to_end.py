"""From SMILES to a model's first step, with real engines."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.units import ANGSTROM_PER_BOHR, DEBYE_PER_EBOHR
from storage.reader import Dataset, open_dataset
from tests.flows.small_build import build_here
from training.config import SuperresConfig
from training.superres.evaluation import evaluate_superres
from training.superres.task import train_superres

RECIPE = """
[source]
path = "{source}"
[conformers]
keep = {keep}
[densities.guess]
engine = "gfn2"
[densities.target]
engine = "dft"
basis = "gth-dzvp"
[grid]
spacing_angstrom = {spacing}
classes = [32, 40, 48, 64, 80]
[channels]
gradient_magnitude = ["guess"]
atom_types = true
[splits]
train = {third}
validation = {third}
test = {third}
[store]
shard_samples = 2
"""


def build(folder: Path, source: Path, keep: bool, spacing: float) -> Dataset:
    """The dataset of a source, built in this process."""
    text = RECIPE.format(source=source, keep=str(keep).lower(), spacing=spacing, third=1 / 3)
    (folder / "recipe.toml").write_text(text)
    return open_dataset(build_here(folder / "recipe.toml", folder / "store.zarr"))


def grid_dipole(dataset: Dataset, id: str, density: str) -> np.ndarray:
    """Dipole of valence ions and voxels about the coordinate origin, debye."""
    sample = dataset[id]
    values, grid = sample.channels[density].astype(np.float64), sample.grid
    others = ((1, 2), (0, 2), (0, 1))
    electrons = [values.sum(axis=rest) @ grid.centres(axis) for axis, rest in enumerate(others)]
    ions = np.where(sample.numbers > 2, sample.numbers - 2, sample.numbers)
    return (ions @ sample.positions - np.array(electrons) * grid.cell_volume) * DEBYE_PER_EBOHR


def check_physics(dataset: Dataset) -> None:
    """Stored voxels hold the molecule's electrons and give the engines' own dipoles."""
    for id in dataset.ids:
        sample, facts = dataset[id], dataset.table.loc[id]
        for density in dataset.densities:
            held = sample.channels[density].sum(dtype=np.float64) * sample.grid.cell_volume
            assert held == pytest.approx(sample.states[density].electrons, abs=1e-3)
            engine = [facts[f"{density}_dipole_{axis}_ebohr"] * DEBYE_PER_EBOHR for axis in "xyz"]
            np.testing.assert_allclose(grid_dipole(dataset, id, density), engine, atol=0.01)


def test_three_smiles_become_a_dataset_and_a_trained_model(tmp_path: Path) -> None:
    source = tmp_path / "molecules.csv"
    source.write_text("smiles\nCO\nC#N\nC=O\n")  # by their hashes in the training, validation and test split
    dataset = build(tmp_path, source, keep=False, spacing=0.3)
    assert list(dataset.table["split"]) == ["train", "validation", "test"]
    check_physics(dataset)
    assert dataset["0#0"].channels["atom_types"].shape == (11, 32, 32, 32)
    assert dataset["0#0"].grid.spacing[0] * ANGSTROM_PER_BOHR == pytest.approx(0.3)
    run = tmp_path / "run"
    train_superres(SuperresConfig(store=(dataset.store,), steps=1, width=4, depth=1, crop=16), run)
    evaluation = evaluate_superres(run, dataset.store)
    assert evaluation.model_nmae == pytest.approx(evaluation.guess_nmae, rel=0.2)


@pytest.mark.reference
def test_given_geometries_keep_their_electrons_and_dipoles(tmp_path: Path, reference: Path) -> None:
    import gzip

    frames = tmp_path / "qm9.extxyz"
    with gzip.open(reference / "qm9/qm9_2000.extxyz.gz", "rt") as file:
        lines = file.readlines()
    end = 0
    for _ in range(6):
        end += int(lines[end]) + 2
    frames.write_text("".join(lines[:end]))
    dataset = build(tmp_path, frames, keep=True, spacing=0.2)
    assert len(dataset) == 6
    check_physics(dataset)
