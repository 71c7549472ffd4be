"""What failed is tried again, and nothing else is touched."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.retry import read_stored_sample
from flows.shard import read_work
from storage.identity import identify
from storage.layout import PLAN
from storage.plan import read_shard_samples
from storage.reader import open_dataset
from storage.receipts import Outcome, read_receipt, write_receipt
from storage.seal import seal
from storage.writer import write_shard
from tests.flows.small_build import rhoflow, write_recipe


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "prefect"


def build(home: Path, recipe: Path, store: Path) -> Path:
    for arguments in (("plan", recipe, store), ("run", store), ("seal", store)):
        rhoflow(home, *arguments)
    return store


def forget_sample(store: Path, number: int, row: int) -> str:
    """Store a shard again as if one of its samples had run out of time; that sample's id."""
    work = read_work(store)
    shard, receipt = work.plan.shards()[number], read_receipt(store, number)
    planned = read_shard_samples(store, shard)
    samples = [
        None if place == row else read_stored_sample(store, shard, place, sample, receipt.outcomes[place], work)
        for place, sample in enumerate(planned)
    ]
    outcomes = list(receipt.outcomes)
    outcomes[row] = Outcome(outcomes[row].id, "timeout", "not done within 1 s")
    objects = write_shard(store, work.plan, shard, samples)
    write_receipt(store, replace(receipt, outcomes=outcomes, objects=objects))
    seal(store)
    return outcomes[row].id


def test_samples_that_ran_out_of_time_are_made_good_and_the_others_keep_their_bytes(home: Path, tmp_path: Path) -> None:
    store = build(home, write_recipe(tmp_path), tmp_path / "store.zarr")
    whole, plan = identify(store), (store / PLAN).read_bytes()
    late = [forget_sample(store, 1, 1), forget_sample(store, 3, 0)]
    dataset = open_dataset(store)
    assert len(dataset) == 10
    assert not set(late) & set(dataset.ids)
    assert identify(store) != whole
    assert "2 samples tried again: 2 ok" in rhoflow(home, "retry", store, "--reason", "timeout")
    assert identify(store) == whole
    assert (store / PLAN).read_bytes() == plan
    assert "0 not as they were written" in rhoflow(home, "verify", store)


def test_where_nothing_failed_so_the_request_is_wrong(home: Path, tmp_path: Path) -> None:
    store = build(home, write_recipe(tmp_path, ("broken,C(C)(C)(C)(C)C,1.5",)), tmp_path / "store.zarr")
    whole = identify(store)
    assert "no computed sample failed with timeout" in rhoflow(home, "retry", store, "--reason", "timeout", code=2)
    assert "no computed sample failed" in rhoflow(home, "retry", store, code=2)
    assert identify(store) == whole
