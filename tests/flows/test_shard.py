"""A process computes the next shard while it stores one, and nothing else changes."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.prepare import plan_source
from flows.recipe import read_recipe, recipe_values
from flows.shard import Computed, compute_samples, compute_shard, read_work
from flows.status import RunRecord, read_status
from storage.header import Header, begin_store
from storage.identity import identify
from storage.plan import Plan
from storage.receipts import has_receipt
from storage.seal import seal
from tests.flows.small_build import write_recipe


def plan_store(folder: Path, name: str) -> tuple[Path, Plan]:
    recipe, store = write_recipe(folder), folder / name
    values = read_recipe(recipe)
    begin_store(store, Header(recipe_values(values), recipe.read_text()))
    plan, _ = plan_source(store, values, None, None, RunRecord(store, 1, time.time()))
    return store, plan


def test_shards_of_two_threads_make_the_store_that_one_makes(tmp_path: Path) -> None:
    (overlapping, plan), (plain, _) = plan_store(tmp_path, "overlapping.zarr"), plan_store(tmp_path, "plain.zarr")
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda shard: compute_shard(overlapping, shard.number), plan.shards()))
    for shard in plan.shards():
        compute_shard(plain, shard.number)
    for store in (overlapping, plain):
        seal(store)
    assert identify(overlapping) == identify(plain)


def test_tasks_of_an_array_that_run_at_once_count_their_wall_time_once(tmp_path: Path) -> None:
    store, _ = plan_store(tmp_path, "store.zarr")
    for key in (store / "work/runs").glob("*.json"):
        key.unlink()
    now = time.time()
    for begun in (now - 400, now - 100, now - 99.9):  # all still at work
        RunRecord(store, 2, begun).count(1)
    status = read_status(store)
    assert status.wall_seconds == pytest.approx(400, abs=1)
    assert status.workers == 6
    assert status.worker_seconds == pytest.approx(2 * 600, abs=3)
    assert len([*(store / "work/runs").glob("*.json")]) == 3


def test_the_samples_of_the_next_shard_can_be_computed_before_one_has_its_receipt(tmp_path: Path) -> None:
    store, plan = plan_store(tmp_path, "store.zarr")
    first, second = plan.shards()[:2]
    next_samples: list[Computed] = []
    compute_shard(store, first.number, lambda: next_samples.extend(compute_samples(store, read_work(store), second)))
    assert [one.outcome.outcome for one in next_samples] == ["ok"] * (second.last - second.first)
    assert has_receipt(store, first.number)
    assert not has_receipt(store, second.number)


def test_a_fault_of_storing_leaves_no_receipt_and_the_next_attempt_goes_through(tmp_path: Path) -> None:
    store, plan = plan_store(tmp_path, "store.zarr")
    shard = plan.shards()[0]
    metadata = store / f"cells_{shard.cells}" / "target" / "zarr.json"
    kept = metadata.read_bytes()
    metadata.write_bytes(b"{")
    told: list[int] = []
    with pytest.raises(ValueError, match="Expecting property name"):
        compute_shard(store, shard.number, lambda: told.append(shard.number))
    assert told == [shard.number]
    assert not has_receipt(store, shard.number)
    metadata.write_bytes(kept)
    assert {end.outcome for end in compute_shard(store, shard.number).outcomes} == {"ok"}
