"""Another grid from kept wavefunctions is what a build on that grid would have stored."""

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from storage.identity import identify
from storage.layout import HEADER, RECEIPTS, SEAL, generation_key, plan_key, receipt_key
from storage.outcomes import read_row_outcomes
from storage.plan import read_plan
from storage.reader import open_dataset
from storage.receipts import read_receipt
from tests.flows.small_build import build_here, command, environment, rhoflow, rhoflow_here, write_recipe

EXTRA = ("broken,C(C)(C)(C)(C)C,1.5", "twin,OC,9.5", "giant,CCCCCCCCCCCCCCCCCCCC,2.5")
COARSE = ("--spacing-angstrom", "0.8", "--margin-angstrom", "2", "--classes", "8,12,40", "--box", "tight")


FINE = ("spacing_angstrom = 0.5\nclasses = [16, 20, 24]", "[store]\nround_to = 0\nshard_samples = 2")


def build(folder: Path, grid: str = FINE[0], store: str = FINE[1]) -> Path:
    """A store of the small build with these lines in its [grid] and its [store], in this process."""
    recipe = write_recipe(folder, EXTRA)
    recipe.write_text(recipe.read_text().replace(FINE[0], grid).replace("[store]\nshard_samples = 2", store))
    return build_here(recipe, folder / "store.zarr")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def coarse(built: Path) -> Path:
    """Made by the command itself, on two workers."""
    new = built.parent / "coarse.zarr"
    printed = rhoflow(built.parent / "home", "voxelize", built, new, *COARSE, "--workers", "2")
    assert "13 done" in printed
    return new


def test_the_same_grid_again_is_the_identical_store(built: Path, scheduler: str, tmp_path: Path) -> None:
    rhoflow_here("voxelize", built, tmp_path / "again.zarr", "--cluster", scheduler)
    assert identify(tmp_path / "again.zarr") == identify(built)


def test_wavefunctions_alone_may_be_kept_and_voxelized_elsewhere(built: Path, scheduler: str, tmp_path: Path) -> None:
    bare, again, whole = (tmp_path / f"{name}.zarr" for name in ("bare", "again", "whole"))
    rhoflow_here("voxelize", built, bare, "--densities", "none", "--cluster", scheduler)
    expected, kept = open_dataset(built), open_dataset(bare)
    assert kept.ids == expected.ids
    assert not kept.channels
    assert not kept[kept.ids[0]].channels
    assert " 0 not as they were written" in rhoflow_here("verify", bare)
    channels = expected.channels
    assert len(channels) > 1
    rhoflow_here("voxelize", bare, again, "--densities", ",".join(channels), "--cluster", scheduler)
    rhoflow_here("voxelize", bare, whole, "--densities", channels[0], "--cluster", scheduler)
    assert open_dataset(whole).channels == channels[:1]
    for id in expected.ids:
        for name in channels:
            np.testing.assert_array_equal(open_dataset(again)[id].channels[name], expected[id].channels[name])
    printed = rhoflow_here("voxelize", bare, tmp_path / "no.zarr", "--densities", "other", code=2)
    assert "channels.densities names 'other', but [densities] has guess, target" in printed


def test_another_grid_equals_a_build_on_it(coarse: Path, tmp_path: Path) -> None:
    grid = 'spacing_angstrom = 0.8\nmargin_angstrom = 2\nclasses = [8, 12, 40]\nbox = "tight"'
    direct = build(tmp_path, grid)
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
    assert "no wavefunction of it was ever made: needs" in after["giant"].message
    assert after["twin"].duplicate_of == "m4#0"


@pytest.mark.parametrize("after", [HEADER, f"{RECEIPTS}/*.json"], ids=["begun", "in the middle"])
def test_a_killed_voxelization_resumes_to_the_identical_store(
    built: Path, coarse: Path, scheduler: str, tmp_path: Path, after: str
) -> None:
    new = tmp_path / "new.zarr"
    running = subprocess.Popen(
        command("voxelize", built, new, *COARSE, "--workers", 1),
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(new.glob(after)):
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    running.wait()
    assert not (new / SEAL).exists()
    rhoflow_here("voxelize", built, new, *COARSE, "--cluster", scheduler)
    assert identify(new) == identify(coarse)
    refused = rhoflow_here("voxelize", built, new, "--spacing-angstrom", "0.7", code=2)
    assert "grid.spacing_angstrom was 0.8, is 0.7" in refused


@pytest.mark.parametrize("left", ["header", "copy", "plan", "half"])
def test_whatever_was_left_behind_is_finished(
    built: Path, coarse: Path, scheduler: str, tmp_path: Path, left: str
) -> None:
    new = tmp_path / "new.zarr"
    shutil.copytree(coarse, new)
    (new / SEAL).unlink()
    shutil.rmtree(new / "rows")
    for shard in read_plan(new).shards()[1 if left == "half" else 0 :: 2]:
        (new / receipt_key(shard.number)).unlink()
    if left != "half":
        shutil.rmtree(new / "work/receipts")
    if left in ("header", "copy"):
        (new / plan_key(1)).unlink()
        (new / generation_key(1)).unlink()
    if left == "header":
        shutil.rmtree(new / "work/conformers")
    if left in ("header", "copy"):  # no other molecules may take the place of those that were being copied
        assert "begun by `rhoflow voxelize`" in rhoflow_here("plan", write_recipe(tmp_path / "other"), new, code=2)
    rhoflow_here("voxelize", built, new, *COARSE, "--cluster", scheduler)
    assert identify(new) == identify(coarse)


def test_a_changed_or_damaged_source_stops_the_work_and_fails_no_molecule(
    built: Path, coarse: Path, scheduler: str, tmp_path: Path
) -> None:
    source, new = tmp_path / "source.zarr", tmp_path / "new.zarr"
    shutil.copytree(built, source)
    rhoflow_here("voxelize", source, new, *COARSE, "--cluster", scheduler)
    (new / receipt_key(1)).unlink()
    lost = next(key for key in read_receipt(source, 1).objects if "orbitals_" in key)
    (source / lost).rename(tmp_path / "kept")
    assert f"{lost} is gone" in rhoflow(tmp_path / "home", "run", new, code=1)
    (tmp_path / "kept").rename(source / lost)
    receipt = source / receipt_key(0)
    receipt.write_text(receipt.read_text().replace('"ok"', '"timeout"', 1))
    assert "it has changed since" in rhoflow(tmp_path / "home", "run", new, code=1)
    shutil.rmtree(source)
    shutil.copytree(built, source)
    rhoflow_here("voxelize", source, new, *COARSE, "--cluster", scheduler)  # sealed, but one receipt was gone
    assert identify(new) == identify(coarse)


TURNED = """
[source]
path = "molecules.smi"
[densities.guess]
engine = "gfn2"
[densities.atoms]
engine = "sad"
[grid]
spacing_angstrom = 0.4
classes = [24, 32]
orient = false
[store]
round_to = 0
"""


def test_turned_molecules_are_what_a_build_in_that_orientation_gives(scheduler: str, tmp_path: Path) -> None:
    (tmp_path / "molecules.smi").write_text("CO methanol\nC#N cyanide\nFS(F)=O fluoride\n")
    stores = {}
    for orient in ("false", "true"):
        (tmp_path / "recipe.toml").write_text(TURNED.replace("orient = false", f"orient = {orient}"))
        stores[orient] = tmp_path / f"{orient}.zarr"
        for arguments in (("plan", tmp_path / "recipe.toml"), ("run",), ("seal",)):
            rhoflow_here(*arguments, stores[orient])
    for here, there, option in (("false", "true", "--orient"), ("true", "false", "--no-orient")):
        turned = tmp_path / f"turned-{there}.zarr"
        rhoflow_here("voxelize", stores[here], turned, option, "--cluster", scheduler)
        found, expected = open_dataset(turned), open_dataset(stores[there])
        assert len(found) == 3
        for id in found.ids:
            assert found[id].positions == pytest.approx(expected[id].positions, abs=1e-10)
            for name in found.channels:
                difference = np.abs(found[id].channels[name] - expected[id].channels[name])
                assert difference.sum() < 1e-6 * expected[id].channels[name].sum()


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


def test_periodic_densities_keep_their_box(scheduler: str, tmp_path: Path) -> None:
    (tmp_path / "hydrogen.smi").write_text("[H][H] hydrogen\n")
    (tmp_path / "recipe.toml").write_text(PERIODIC)
    store, again = tmp_path / "store.zarr", tmp_path / "again.zarr"
    for arguments in (("plan", tmp_path / "recipe.toml", store), ("run", store), ("seal", store)):
        rhoflow_here(*arguments)
    sample = open_dataset(store)["hydrogen#0"]
    assert sample.states["target"].cell == sample.states["guess"].cell
    values, volume = sample.channels["target"], sample.grid.cell_volume
    assert values.sum(dtype=np.float64) * volume == pytest.approx(2, abs=1e-3)  # in one box, points hold every electron
    rhoflow_here("voxelize", store, again, "--cluster", scheduler)
    assert identify(again) == identify(store)
    assert "cannot be turned" in rhoflow_here("voxelize", store, tmp_path / "turned.zarr", "--orient", code=2)


def test_what_cannot_be_voxelized_is_refused(built: Path, coarse: Path, tmp_path: Path) -> None:
    assert "into itself" in rhoflow_here("voxelize", built, built, code=2)
    nothing_fits = rhoflow_here("voxelize", built, tmp_path / "a", "--spacing-angstrom", "0.05", code=2)
    assert "no molecule fits" in nothing_fits
    assert "give larger --classes" in nothing_fits
    assert "write numbers with commas" in rhoflow_here("voxelize", built, tmp_path / "a", "--classes", "8;9", code=2)
    assert "grid.sampling" in rhoflow_here("voxelize", built, tmp_path / "a", "--sampling", "mean", code=2)
    assert not (tmp_path / "a").exists()
    other = tmp_path / "other.zarr"
    shutil.copytree(built, other)
    (other / SEAL).unlink()
    assert "not sealed yet" in rhoflow_here("voxelize", other, tmp_path / "a", code=2)
    bare = build(tmp_path / "bare", store="[store]\nwavefunctions = false")
    assert "keeps no wavefunctions of guess, target" in rhoflow_here("voxelize", bare, tmp_path / "a", code=2)
    assert "was voxelized from" in rhoflow_here("voxelize", other_than(built, tmp_path), coarse, *COARSE, code=2)


def other_than(built: Path, folder: Path) -> Path:
    """A sealed store with other contents."""
    other = folder / "changed.zarr"
    shutil.copytree(built, other)
    receipt = other / receipt_key(0)
    receipt.write_text(receipt.read_text().replace('"ok"', '"timeout"', 1))
    return other
