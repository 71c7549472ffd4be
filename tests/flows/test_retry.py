"""What failed is tried again, and nothing else is touched."""

import shutil
from dataclasses import replace
from pathlib import Path

from flows.reuse import KnownSamples
from flows.shard import read_work
from storage.identity import identify
from storage.layout import receipt_key
from storage.manifest import unseal
from storage.plan import read_plan, read_shard_samples
from storage.reader import open_dataset
from storage.receipts import Outcome, read_receipt, write_receipt
from storage.seal import seal
from storage.writer import write_shard
from tests.flows.small_build import rhoflow_here, write_recipe


def build(recipe: Path, store: Path) -> Path:
    for arguments in (("plan", recipe, store), ("run", store), ("seal", store)):
        rhoflow_here(*arguments)
    return store


def forget_sample(store: Path, number: int, row: int) -> str:
    """Store a shard again as if one of its samples had run out of time; that sample's id."""
    plan, known = read_work(store).plan, KnownSamples(store)
    shard, receipt = plan.shards()[number], read_receipt(store, number)
    taken = [known.take_sample(sample) for sample in read_shard_samples(store, shard)]
    samples = [None if place == row or one is None else one.sample for place, one in enumerate(taken)]
    outcomes = list(receipt.outcomes)
    outcomes[row] = Outcome(outcomes[row].id, "timeout", "not done within 1 s")
    objects = write_shard(store, plan, shard, samples)
    write_receipt(store, replace(receipt, outcomes=outcomes, objects=objects))
    seal(store)
    return outcomes[row].id


def list_shard_files(store: Path) -> list[str]:
    """Receipts, and the stored objects that they name."""
    numbers = [shard.number for shard in read_plan(store).shards()]
    return [*map(receipt_key, numbers), *(key for number in numbers for key in read_receipt(store, number).objects)]


def test_samples_that_ran_out_of_time_are_made_good_and_no_finished_shard_is_touched(
    scheduler: str, tmp_path: Path
) -> None:
    store, whole = build(write_recipe(tmp_path), tmp_path / "store.zarr"), tmp_path / "whole.zarr"
    shutil.copytree(store, whole)
    late = [forget_sample(store, 1, 1), forget_sample(store, 3, 0)]
    assert len(open_dataset(store)) == 10
    assert not set(late) & set(open_dataset(store).ids)
    stamps = {key: (store / key).stat().st_mtime_ns for key in list_shard_files(store)}
    assert "different" in rhoflow_here("diff", whole, store, code=1)
    assert "2 samples tried again: 2 ok" in rhoflow_here("retry", store, "--reason", "timeout", "--cluster", scheduler)
    assert {key: (store / key).stat().st_mtime_ns for key in stamps} == stamps
    assert "identical: 12 samples" in rhoflow_here("diff", whole, store)
    assert open_dataset(store).ids == open_dataset(whole).ids
    assert open_dataset(store).attributes["version"] == 2
    assert open_dataset(store).attributes["statistics"] == open_dataset(whole).attributes["statistics"]
    assert "0 not as they were written" in rhoflow_here("verify", store)


def test_a_retry_that_ended_before_it_wrote_what_it_tries_is_finished_by_the_same_command(
    scheduler: str, tmp_path: Path
) -> None:
    store = build(write_recipe(tmp_path), tmp_path / "store.zarr")
    forget_sample(store, 1, 1)
    unseal(store)  # on a full disk deleting works, and writing does not
    assert "1 samples tried again: 1 ok" in rhoflow_here("retry", store, "--cluster", scheduler)
    assert len(open_dataset(store)) == 12
    forget_sample(store, 2, 0)
    unseal(store)
    assert "1 samples tried again: 1 ok" in rhoflow_here("retry", store, "--cluster", scheduler)
    assert open_dataset(store).attributes["version"] == 3


def test_where_nothing_failed_so_the_request_is_wrong(tmp_path: Path) -> None:
    store = build(write_recipe(tmp_path, ("broken,C(C)(C)(C)(C)C,1.5",)), tmp_path / "store.zarr")
    whole = identify(store)
    assert "no computed sample failed with timeout" in rhoflow_here("retry", store, "--reason", "timeout", code=2)
    assert "no computed sample failed" in rhoflow_here("retry", store, code=2)
    assert identify(store) == whole
