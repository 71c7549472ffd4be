"""Two stores are compared sample by sample; a store built again from itself is identical."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.care.compare_stores import compare_stores
from storage.identity import identify
from storage.plan import read_plan
from storage.reader import open_dataset
from storage.receipts import Receipt, read_receipt, write_receipt
from tests.flows.small_build import build_here, rhoflow, rhoflow_here, write_recipe

EXTRA = ("broken,C(C)(C)(C)(C)C,1.5", "twin,OC,9.5")


def build(folder: Path, changes: dict[str, str] | None = None, rows: dict[str, str] | None = None) -> Path:
    """A sealed store of the small build, with words of its recipe and of its source replaced."""
    recipe = write_recipe(folder, EXTRA)
    for path, words in ((recipe, changes), (folder / "molecules.csv", rows)):
        text = path.read_text()
        for old, new in (words or {}).items():
            text = text.replace(old, new)
        path.write_text(text)
    return build_here(recipe, folder / "store.zarr")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another exponent of one density; one row gone, one new, one relabelled."""
    rows = {"m2,O,": "water,O,", "m1,CC,0.14285714285714285": "m1,CC,7.5"}
    return build(tmp_path_factory.mktemp("changed"), {"exponent = 0.6": "exponent = 0.7"}, rows)


def test_a_differing_density_is_measured_and_explained(built: Path, changed: Path) -> None:
    printed = json.loads(rhoflow_here("diff", built, changed, "--json", code=1).splitlines()[0])
    assert not printed["identical"]
    found = printed["comparison"]
    assert (found["only_first"], found["only_second"]) == (["m2#0"], ["water#0"])
    assert found["samples"] == 11
    assert len(found["differing"]) == 11
    first, second = open_dataset(built), open_dataset(changed)
    for sample in found["differing"]:
        assert "target" not in sample["arrays"]
        one, other = (dataset[sample["id"]].channels["guess"].astype(float) for dataset in (first, second))
        assert sample["arrays"]["guess"]["nmae"] == pytest.approx(np.abs(one - other).sum() / one.sum(), rel=1e-9)
        assert sample["arrays"]["guess"]["largest"] == np.abs(one - other).max()
    assert "recipe densities.guess.exponent: 0.6, then 0.7" in found["explanations"]
    assert found["rows"] == [
        "m1: label charge_of_label 0.14285714285714285, then 7.5",
        "m2: in the first only",
        "water: in the second only",
    ]


def test_words_sum_up_each_array(built: Path, changed: Path, tmp_path: Path) -> None:
    printed = rhoflow(tmp_path, "diff", built, changed, code=1)
    assert "different: 11 of 11 common samples, 1 in the first only, 1 in the second only" in printed
    assert "array  guess: 11 samples differ, NMAE up to" in printed


def test_samples_that_lie_elsewhere_are_the_same_samples(built: Path, tmp_path: Path) -> None:
    other = build(tmp_path, {"shard_samples = 2": "shard_samples = 5", "[16, 20, 24]": "[20, 24]"})
    assert len(read_plan(other).shards()) < len(read_plan(built).shards())
    grids = compare_stores(built, other).differing
    assert 0 < len(grids) < 12
    assert all(word.startswith(("grid", "guess", "target")) for sample in grids for word in sample.said)
    wider = build(tmp_path / "wider", {"shard_samples = 2": "shard_samples = 5"})
    printed = rhoflow_here("diff", built, wider)
    assert "identical: 12 samples" in printed
    assert "made with  recipe store.shard_samples: 2, then 5" in printed


def test_positions_outcomes_programs_and_kernels_are_compared(built: Path, tmp_path: Path) -> None:
    other = shutil.copytree(built, tmp_path / "other.zarr")
    receipt = read_receipt(other, 0)
    failed = type(receipt.outcomes[0])(receipt.outcomes[0].id, "timeout", "not done")
    rest = [type(end)(**{**vars(end), "programs": {"target": "other 2.0"}}) for end in receipt.outcomes[1:]]
    circumstances = {**receipt.circumstances, "kernel": "abacus"}
    write_receipt(other, Receipt(0, [failed, *rest], receipt.objects, circumstances))
    comparison = compare_stores(built, other)
    assert [sample.id for sample in comparison.differing] == [failed.id]
    assert comparison.differing[0].said[0] == "outcome: ok, then timeout"
    explained = "\n".join(comparison.explanations)
    assert "abacus" in explained
    assert "other 2.0" in explained


def test_a_store_is_built_again_from_itself_alone(tmp_path: Path) -> None:
    store, again = build(tmp_path / "first"), tmp_path / "again.zarr"
    for path in (tmp_path / "first").glob("*.*"):
        if path.is_file():
            path.unlink()  # recipe and source are gone
    printed = rhoflow(tmp_path, "regenerate", store, again, "--workers", "1")
    assert "identical: 12 samples" in printed
    assert identify(again) == identify(store)
    printed = rhoflow_here("regenerate", store, again, "--workers", "1")
    assert "again.zarr is sealed already: nothing is built again" in printed
    assert "identical" in printed
    assert "into itself" in rhoflow_here("regenerate", store, store, code=2)


def test_a_schedule_builds_each_content_again_once(tmp_path: Path) -> None:
    store = build(tmp_path / "first")

    def rebuild(new: Path) -> str:
        """As a deployment runs it; Prefect binds its log to the streams of a process."""
        script = f"from flows.schedule import rebuild; rebuild.fn({str(store)!r}, {str(new)!r})"
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False)
        return ended.stdout + ended.stderr

    assert "identical: 12 samples" in rebuild(tmp_path / "again")
    printed = rebuild(tmp_path / "again")
    assert "is sealed already: nothing is built again" in printed
    assert "identical: 12 samples" in printed
    (again,) = (tmp_path / "again").iterdir()
    assert identify(again) == identify(store)
    assert "is a store: name a folder in which stores are built" in rebuild(again)


def test_a_voxelized_store_is_built_again_from_its_recipe(built: Path, scheduler: str, tmp_path: Path) -> None:
    coarse, again = tmp_path / "coarse.zarr", tmp_path / "again.zarr"
    rhoflow_here("voxelize", built, coarse, "--spacing-angstrom", "0.8", "--cluster", scheduler)
    printed = rhoflow_here("regenerate", coarse, again, "--workers", "1")
    assert "identical: 12 samples" in printed


@pytest.mark.parametrize("name", ["verify", "diff", "regenerate"])
def test_each_command_has_help_with_an_example(name: str) -> None:
    assert f"rhoflow {name} molecules.zarr" in rhoflow_here(name, "--help")
