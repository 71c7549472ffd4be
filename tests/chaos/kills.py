"""Builds a dataset undisturbed, and again while its processes are killed; then compares."""

import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from storage.identity import identify
from storage.outcomes import read_row_outcomes
from storage.plan import read_plan
from tests.chaos.fleet import Fleet
from tests.chaos.watch import Watch


@dataclass(frozen=True)
class Attack:
    """`rounds` kills of each kind of process in random order, each within `pause` seconds of computing."""

    rounds: int
    cluster: bool  # the workers are a running scheduler's, not the build's own
    pause: float
    seconds: float  # until the build has stalled


@dataclass(frozen=True)
class Verdict:
    """How a build under fire ended."""

    kills: Counter[str]
    starts: Counter[str]
    faults: list[str]  # none: it held
    lost: float  # the part of all shard-seconds that kills cost
    seconds: float

    def describe(self) -> str:
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({kills}) in {self.seconds / 60:.1f} min: {100 * self.lost:.0f} % of the time "
            f"on shards lost, the build started {self.starts['flow']} times"
        )


def build_undisturbed(recipe: Path, store: Path, parts: int) -> None:
    """By batch jobs, all at once."""
    rhoflow = [sys.executable, "-m", "flows.cli"]
    subprocess.run([*rhoflow, "plan", recipe, store], check=True, capture_output=True)
    jobs = [
        subprocess.Popen([*rhoflow, "run", store, "--parts", f"{part}/{parts}"], stderr=subprocess.DEVNULL)
        for part in range(1, parts + 1)
    ]
    for job in jobs:
        if job.wait():
            raise subprocess.CalledProcessError(job.returncode, job.args)
    subprocess.run([*rhoflow, "seal", store], check=True, capture_output=True)


def build_under_fire(recipe: Path, store: Path, reference: Path, attack: Attack, seed: int) -> Verdict:
    """`reference` is the undisturbed store."""
    rng, watch, started = random.Random(seed), Watch(store), time.monotonic()
    fleet = Fleet(recipe, store, attack.cluster)
    kinds = [kind for kind in fleet.kinds for _ in range(attack.rounds)]
    rng.shuffle(kinds)
    try:
        fleet.fire(kinds, rng, attack.pause, watch, attack.seconds)
    finally:
        fleet.end()
    seconds = time.monotonic() - started
    faults = [*fleet.faults, *watch.conclude(fleet.kills), *compare(store, reference)]
    if fleet.kills.total() < len(kinds):
        faults.append(f"only {fleet.kills.total()} of {len(kinds)} kills landed before the work was done")
    lost = 1 - watch.useful_shard_seconds / watch.shard_seconds
    return Verdict(fleet.kills, fleet.starts, faults, lost, seconds)


def compare(store: Path, reference: Path) -> list[str]:
    """What differs from the undisturbed store, and what is wrong by itself."""
    ours, theirs = identify(store), identify(reference)
    faults = [f"{key} differs" for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    verified = subprocess.run([sys.executable, "-m", "flows.cli", "verify", store], capture_output=True, text=True)
    if verified.returncode:
        faults.append(verified.stdout + verified.stderr)
    blamed = [row.id for row in read_row_outcomes(store, read_plan(store)) if row.outcome in ("crashed", "timeout")]
    return faults + [f"{id} was blamed" for id in blamed]
