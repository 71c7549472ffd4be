"""A build loses nothing to SIGKILL, whatever it hits, and to a faulty molecule nothing but that molecule."""

from pathlib import Path

from tests.chaos.faults import build_with_faults
from tests.chaos.kills import Attack, build_under_fire, build_undisturbed
from tests.chaos.molecules import write_waters


def test_kills_of_flow_scheduler_nanny_worker_and_child_change_nothing(tmp_path: Path) -> None:
    reference, store = tmp_path / "undisturbed/store.zarr", tmp_path / "fire/store.zarr"
    build_undisturbed(write_waters(reference.parent, 24, 0.5), reference, 2)
    attack = Attack(rounds=1, cluster=True, pause=1.0, seconds=240)
    verdict = build_under_fire(write_waters(store.parent, 24, 0.5), store, reference, attack, seed=4)
    assert not verdict.faults
    assert verdict.kills == {"flow": 1, "scheduler": 1, "nanny": 1, "worker": 1, "child": 1}


def test_an_aborting_a_hanging_and_a_memory_eating_molecule_cost_themselves_alone(tmp_path: Path) -> None:
    assert not build_with_faults(tmp_path, 40, 4.0)
