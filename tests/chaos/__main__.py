"""`make chaos`: what SIGKILL and faulty molecules cost a build. Nothing, and themselves.

`make chaos ONLY="kills faults"` runs some of it: kills (of quick samples), gfn2 (kills of real ones), faults (molecules
that abort, hang and eat memory). `SEED=7` repeats the order of the kills. Damaged bytes are in
tests/flows/test_verify.py, full disks and lost object storage in tests/flows/test_lost_storage.py.
"""

import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos.faults import build_with_faults
from tests.chaos.kills import Attack, build_under_fire, build_undisturbed
from tests.chaos.molecules import write_demo, write_waters

LOCAL = Attack(rounds=7, cluster=False, pause=3.0, seconds=1800)  # 21 kills
CLUSTER = Attack(rounds=6, cluster=True, pause=3.0, seconds=1800)  # 30 kills
FEW = Attack(rounds=2, cluster=True, pause=1.0, seconds=1200)  # 10 kills
SHOWN = 20  # faults


def attack(folder: Path, write: Callable[[Path], Path], attacks: list[Attack], seed: int, parts: int) -> list[str]:
    """What did not hold."""
    reference = folder / "undisturbed/store.zarr"
    build_undisturbed(write(reference.parent), reference, parts)
    faults, kills = [], Counter[str]()
    for number, each in enumerate(attacks):
        place = folder / f"fire{number}"
        verdict = build_under_fire(write(place), place / "store.zarr", reference, each, seed + number)
        print(f"  {verdict.describe()}", flush=True)
        faults += verdict.faults
        kills += verdict.kills
    print(f"  {kills.total()} kills: {', '.join(f'{count} {kind}' for kind, count in kills.items())}")
    return faults


def main(names: list[str]) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    parts = {
        "kills": lambda place: attack(place, lambda at: write_waters(at, 120, 2.0), [LOCAL, CLUSTER], seed, 4),
        "gfn2": lambda place: attack(place, write_demo, [FEW], seed, 1),
        "faults": lambda place: build_with_faults(place, 1000, 10.0),
    }
    unknown = [name for name in names if name not in parts]
    if unknown:
        sys.exit(f"no {', '.join(unknown)}: there are {', '.join(parts)}")
    print(f"seed {seed}")
    faults = []
    for name in names or parts:
        started = time.monotonic()
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            faults += [f"{name}: {fault}" for fault in parts[name](Path(scratch))]
        print(f"  {(time.monotonic() - started) / 60:.1f} min", flush=True)
    print("\n".join([*faults[:SHOWN], "IT DID NOT HOLD" if faults else "held"]))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
