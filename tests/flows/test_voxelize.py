"""Another grid from kept wavefunctions is what a build on that grid would have stored."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from storage.identity import identify
from storage.layout import SEAL, receipt_key
from storage.outcomes import read_row_outcomes
from storage.plan import read_plan
from storage.reader import open_dataset
from tests.flows.small_build import rhoflow, write_recipe

EXTRA = ("broken,C(C)(C)(C)(C)C,1.5", "twin,OC,9.5", "giant,CCCCCCCCCCCCCCCCCCCC,2.5")
COARSE = ("--spacing-angstrom", "0.8", "--margin-angstrom", "2", "--classes", "8,12,40", "--box", "tight")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


FINE = ("spacing_angstrom = 0.5\nclasses = [16, 20, 24]", "[store]\nround_to = 0\nshard_samples = 2")


def build(home: Path, folder: Path, grid: str = FINE[0], store: str = FINE[1]) -> Path:
    """A store of the small build with these lines in its [grid] and its [store], by plain commands."""
    recipe = write_recipe(folder, EXTRA)
    recipe.write_text(recipe.read_text().replace(FINE[0], grid).replace("[store]\nshard_samples = 2", store))
    made = folder / "store.zarr"
    for arguments in (("plan", recipe, made), ("run", made), ("seal", made)):
        rhoflow(home, *arguments)
    return made


@pytest.fixture(scope="module")
def built(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(home, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def coarse(home: Path, built: Path) -> Path:
    new = built.parent / "coarse.zarr"
    printed = rhoflow(home, "voxelize", built, new, *COARSE, "--workers", "2")
    assert "13 done" in printed
    return new


def test_the_same_grid_again_is_the_identical_store(home: Path, built: Path, tmp_path: Path) -> None:
    rhoflow(home, "voxelize", built, tmp_path / "again.zarr", "--workers", "1")
    assert identify(tmp_path / "again.zarr") == identify(built)


def test_another_grid_equals_a_build_on_it(home: Path, coarse: Path, tmp_path: Path) -> None:
    grid = 'spacing_angstrom = 0.8\nmargin_angstrom = 2\nclasses = [8, 12, 40]\nbox = "tight"'
    direct = build(home, tmp_path, grid)
    expected, voxelized = open_dataset(direct), open_dataset(coarse)
    assert set(voxelized.ids) == set(expected.ids) - {"giant#0"}  # a wavefunction that was never made
    assert any(len(set(voxelized[id].grid.shape)) > 1 for id in voxelized.ids)
    for id in voxelized.ids:
        sample, other = voxelized[id], expected[id]
        assert sample.grid == other.grid
        for channel in voxelized.channels:
            assert np.array_equal(sample.channels[channel], other.channels[channel])
        assert sample.states["guess"].energy == pytest.approx(other.states["guess"].energy, nan_ok=True)


def test_what_had_failed_fails_with_the_same_reason(built: Path, coarse: Path) -> None:
    before = {row.id: row for row in read_row_outcomes(built, read_plan(built))}
    after = {row.id: row for row in read_row_outcomes(coarse, read_plan(coarse))}
    assert {id: row.outcome for id, row in after.items()} == {id: row.outcome for id, row in before.items()}
    assert "has no wavefunction of it: needs" in after["giant"].message
    assert after["twin"].duplicate_of == "m4#0"


def test_an_interrupted_voxelization_resumes_to_the_identical_store(home: Path, built: Path, coarse: Path) -> None:
    whole = identify(coarse)
    (coarse / SEAL).unlink()
    for shard in read_plan(coarse).shards()[1::2]:
        (coarse / receipt_key(shard.number)).unlink()
        shutil.rmtree(coarse / "rows", ignore_errors=True)
    rhoflow(home, "voxelize", built, coarse, *COARSE, "--workers", "1")
    assert identify(coarse) == whole
    refused = rhoflow(home, "voxelize", built, coarse, "--spacing-angstrom", "0.7", code=2)
    assert "grid.spacing_angstrom was 0.8, is 0.7" in refused


def test_turned_molecules_keep_their_densities(home: Path, built: Path, tmp_path: Path) -> None:
    rhoflow(home, "voxelize", built, tmp_path / "turned.zarr", "--orient", "--workers", "1")
    turned, before = open_dataset(tmp_path / "turned.zarr"), open_dataset(built)
    for id in turned.ids:
        sample, other = turned[id], before[id]
        assert sample.positions == pytest.approx(other.positions @ sample.planned.rotation.T, abs=1e-12)
        electrons = sample.channels["target"].sum(dtype=np.float64) * sample.grid.cell_volume
        assert electrons == pytest.approx(
            other.channels["target"].sum(dtype=np.float64) * other.grid.cell_volume, abs=1e-4
        )


PERIODIC = """
[source]
path = "hydrogen.smi"
[densities.guess]
engine = "sad"
variant = "gth-szv"
boundary = "periodic"
[densities.target]
engine = "dft"
boundary = "periodic"
[grid]
box = "tight"
sampling = "point"
spacing_angstrom = 0.0831215
classes = [64]
margin_angstrom = 2.0
[store]
shard_samples = 1
"""


def test_periodic_densities_keep_their_box(home: Path, tmp_path: Path) -> None:
    (tmp_path / "hydrogen.smi").write_text("[H][H] hydrogen\n")
    (tmp_path / "recipe.toml").write_text(PERIODIC)
    store, again = tmp_path / "store.zarr", tmp_path / "again.zarr"
    for arguments in (("plan", tmp_path / "recipe.toml", store), ("run", store), ("seal", store)):
        rhoflow(home, *arguments)
    sample = open_dataset(store)["hydrogen#0"]
    assert sample.states["target"].cell == sample.states["guess"].cell
    values, volume = sample.channels["target"], sample.grid.cell_volume
    assert values.sum(dtype=np.float64) * volume == pytest.approx(2, abs=1e-3)  # in one box, points hold every electron
    rhoflow(home, "voxelize", store, again, "--workers", "1")
    assert identify(again) == identify(store)
    assert "cannot be turned" in rhoflow(home, "voxelize", store, tmp_path / "turned.zarr", "--orient", code=2)


def test_what_cannot_be_voxelized_is_refused(home: Path, built: Path, coarse: Path, tmp_path: Path) -> None:
    assert "into itself" in rhoflow(home, "voxelize", built, built, code=2)
    assert "write numbers with commas" in rhoflow(home, "voxelize", built, tmp_path / "a", "--classes", "8;9", code=2)
    assert "grid.sampling" in rhoflow(home, "voxelize", built, tmp_path / "a", "--sampling", "mean", code=2)
    assert not (tmp_path / "a").exists()
    other = tmp_path / "other.zarr"
    shutil.copytree(built, other)
    (other / SEAL).unlink()
    assert "not sealed yet" in rhoflow(home, "voxelize", other, tmp_path / "a", code=2)
    bare = build(home, tmp_path / "bare", store="[store]\nwavefunctions = false")
    assert "keeps no wavefunctions of guess, target" in rhoflow(home, "voxelize", bare, tmp_path / "a", code=2)
    assert "was voxelized from" in rhoflow(home, "voxelize", other_than(built, tmp_path), coarse, *COARSE, code=2)


def other_than(built: Path, folder: Path) -> Path:
    """A sealed store with other contents."""
    other = folder / "changed.zarr"
    shutil.copytree(built, other)
    receipt = other / receipt_key(0)
    receipt.write_text(receipt.read_text().replace('"ok"', '"timeout"', 1))
    return other
