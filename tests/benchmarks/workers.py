"""Two Dask workers beside two plain processes that each compute half the shards, in turns of a few seconds."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from shutil import copytree, rmtree

import psutil

from storage.plan import estimate_costs, read_plan
from storage.receipts import read_receipt
from tests.benchmarks.builds import rhoflow, write_molecules
from tests.benchmarks.molecules import has_qm9

WORKERS = 2
MOLECULES = 24
ROUNDS = 3
TURN = 4.0  # seconds that one contestant runs while the others stand still
RECIPE = """
[source]
path = "qm9.extxyz"
[conformers]
keep = true
[densities.guess]
engine = "gfn2"
[densities.target]
engine = "dft"
basis = "gth-dzvp"
[grid]
spacing_angstrom = 0.2
[store]
shard_samples = 2
"""
READY = "ready"
PLAY = "import sys, tests.benchmarks.workers as workers; workers.play(*sys.argv[1:])"  # importable by its children


def order_shards(store: Path) -> list[int]:
    """The dearest first, as a build takes them."""
    costs = estimate_costs(store, read_plan(store))
    return sorted((shard.number for shard in read_plan(store).shards()), key=lambda number: -costs[number])


def deal_shards(numbers: list[int], part: int) -> list[int]:
    """To and fro, so that nobody has the dearer of every pair."""
    players = cycle([*range(WORKERS), *reversed(range(WORKERS))])
    return [number for number, player in zip(numbers, players, strict=False) if player == part]


def import_engines() -> None:
    import pyscf.dft  # noqa: F401
    import tblite.interface  # noqa: F401


def start_child() -> None:
    """The imports of this process, and its child with its own: a longer build pays them once."""
    import flows.shard  # noqa: F401
    from flows.workers.isolation import borrow_child

    with borrow_child(8) as child:
        child.run(import_engines, seconds=600)


def wait_for_line() -> None:
    sys.stdin.readline()


def compute_with_fleet(store: Path) -> None:
    """The computing stage of `rhoflow build`, without Prefect's pages."""
    from flows.compute import compute_missing
    from flows.status import RunRecord
    from flows.workers.fleet import open_cluster

    with open_cluster(WORKERS, None) as client:
        addresses = [*client.scheduler_info(n_workers=-1)["workers"]]
        client.gather([client.submit(start_child, workers=[address], pure=False) for address in addresses])
        print(READY, flush=True)
        wait_for_line()
        compute_missing(store, client, RunRecord(store, WORKERS, time.time()))
        wait_for_line()  # its CPU time is still to be read


def compute_plainly(store: Path, part: int) -> None:
    """A part of the shards, without any orchestration."""
    from flows.shard import compute_shard

    start_child()
    print(READY, flush=True)
    wait_for_line()
    for number in deal_shards(order_shards(store), part):
        compute_shard(store, number)
    wait_for_line()


def play(role: str, store: str) -> None:
    """What one of a contestant's processes does: the fleet, or the part of a plain one."""
    if role == "fleet":
        compute_with_fleet(Path(store))
    else:
        compute_plainly(Path(store), int(role))


@dataclass
class Contestant:
    """Processes that compute one store, and stand still but in their turns."""

    store: Path
    shards: int
    processes: list[subprocess.Popen[str]]
    cpu_before: float
    seconds: float = 0.0  # of its turns, until its last receipt

    @property
    def is_done(self) -> bool:
        return len(list((self.store / "work/receipts").glob("*.json"))) == self.shards

    def take_turn(self) -> None:
        """Run for a while, or to the end."""
        started = time.monotonic()
        self.signal(signal.SIGCONT)
        while not self.is_done and time.monotonic() - started < TURN:
            time.sleep(0.02)
        self.signal(signal.SIGSTOP)
        self.seconds += time.monotonic() - started

    def signal(self, number: int) -> None:
        for process in self.processes:
            os.killpg(process.pid, number)

    @property
    def cpu_seconds(self) -> float:
        """Of all its processes, since they were ready."""
        return count_cpu(self.processes) - self.cpu_before

    @property
    def computing_seconds(self) -> float:
        """Of the children that compute."""
        return sum(read_receipt(self.store, number).circumstances["computing_seconds"] for number in range(self.shards))


def count_cpu(processes: list[subprocess.Popen[str]]) -> float:
    trees = [[tree := psutil.Process(process.pid), *tree.children(recursive=True)] for process in processes]
    times = [member.cpu_times() for tree in trees for member in tree]
    return sum(spent.user + spent.system for spent in times)


def enter(store: Path, *roles: str) -> Contestant:
    """Its processes have started and imported what they need; they compute nothing before their first turn."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PLAY, role, str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # to be stopped at once; no new session, or the kernel would share out the cores by it
        )
        for role in roles
    ]
    for process in processes:
        if READY not in process.stdout.readline():  # type: ignore[union-attr]
            sys.exit(f"{store}: a process ended before it was ready")
    contestant = Contestant(store, len(read_plan(store).shards()), processes, count_cpu(processes))
    contestant.signal(signal.SIGSTOP)
    for process in processes:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    return contestant


def compete(planned: Path, folder: Path) -> float:
    """How much faster the fleet is than the plain processes, from the same plan."""
    contestants = [
        enter(copytree(planned, folder / "fleet.zarr"), "fleet"),
        enter(copytree(planned, folder / "plain.zarr"), *map(str, range(WORKERS))),
    ]
    try:
        while not all(contestant.is_done for contestant in contestants):
            for contestant in contestants:
                if not contestant.is_done:
                    contestant.take_turn()
        fleet, plain = contestants
        print_round(fleet, plain)
        return plain.seconds / fleet.seconds
    finally:
        for contestant in contestants:
            contestant.signal(signal.SIGKILL)
            rmtree(contestant.store)


def print_round(fleet: Contestant, plain: Contestant) -> None:
    extra = [contestant.cpu_seconds / contestant.computing_seconds - 1 for contestant in (fleet, plain)]
    dearer = fleet.computing_seconds / plain.computing_seconds - 1
    print(
        f"  {fleet.shards} shards of {plain.computing_seconds / plain.shards:.1f} CPU s: "
        f"two workers {fleet.seconds:.1f} s, two plain processes {plain.seconds:.1f} s: "
        f"{100 * plain.seconds / fleet.seconds:.1f} % of their rate; "
        f"computing took {100 * dearer:+.1f} % CPU time, "
        f"beside it {100 * extra[0]:.1f} % against {100 * extra[1]:.1f} %",
        flush=True,
    )


def main() -> None:
    if not has_qm9():
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_molecules(folder / "qm9.extxyz", MOLECULES)
        (folder / "recipe.toml").write_text(RECIPE)
        rhoflow("plan", folder / "recipe.toml", folder / "planned.zarr")
        rates = [100 * compete(folder / "planned.zarr", folder) for _ in range(ROUNDS)]
    print(
        f"  median {statistics.median(rates):.1f} % ({min(rates):.1f} to {max(rates):.1f}) "
        "without the start of the cluster, Prefect, plan and seal"
    )
