"""A build loses nothing to SIGKILL, whatever it hits, and to a faulty molecule nothing but that molecule."""

import time
from collections import Counter
from pathlib import Path

import pytest

from storage.claims import claim_shard
from storage.receipts import read_receipt, write_receipt
from tests.chaos.faults import build_with_faults
from tests.chaos.kills import Attack, build_under_fire, build_undisturbed
from tests.chaos.molecules import write_waters
from tests.chaos.watch import MOMENT, Watch


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_kills_of_flow_scheduler_nanny_worker_and_child_change_nothing(tmp_path: Path) -> None:
    reference, store = tmp_path / "undisturbed/store.zarr", tmp_path / "fire/store.zarr"
    build_undisturbed(write_waters(reference.parent, 60, 0.5), reference, 2)
    attack = Attack(rounds=1, cluster=True, pause=1.0, seconds=240)
    verdict = build_under_fire(write_waters(store.parent, 60, 0.5), store, reference, attack, seed=4)
    assert not verdict.faults
    assert verdict.kills == {"flow": 1, "scheduler": 1, "nanny": 1, "worker": 1, "child": 1}


@pytest.mark.chaos
def test_an_aborting_a_hanging_and_a_memory_eating_molecule_cost_themselves_alone(tmp_path: Path) -> None:
    assert not build_with_faults(tmp_path, 40, 4.0)


def test_work_that_is_done_twice_would_be_seen(tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    build_undisturbed(write_waters(tmp_path, 6, 0.0), store, 1)
    watch = Watch(store)
    assert not watch.conclude(Counter())
    with claim_shard(store, 0):
        watch.look()
        time.sleep(1.5 * MOMENT)
        watch.look()  # too late to know that it was held all the time
        assert not watch.faults
        for _ in range(4):
            time.sleep(0.4 * MOMENT)
            watch.look()
    write_receipt(store, read_receipt(store, 1))
    key = next(iter(read_receipt(store, 2).objects))
    (store / key).touch()
    faults = "\n".join(watch.conclude(Counter()))
    assert "shard 0 was worked on for 1 s after its receipt" in faults
    assert "shard 1: work/receipts/" in faults
    assert f"shard 2: {key} was written again" in faults
    assert f"shard 2: {key} is younger than the receipt" in faults
