"""`rhoflow predict` of ethanol, from its SMILES to a cube file, on one core, beside its imports alone."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

TRIES = 5
IMPORTS = "import flows.prediction.guess_computed, flows.prediction.predict, tblite.interface"


def main() -> None:
    """Wall and CPU seconds of each, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        cube = str(Path(folder) / "ethanol.cube")
        commands = {
            "predict": (sys.executable, "-m", "flows.cli", "predict", "qm9-gfn2", "CCO", cube),
            "imports": (sys.executable, "-c", IMPORTS),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(TRIES):
            for name, command in commands.items():
                taken[name].append(_time(command))
    for name, seconds in taken.items():
        wall, cpu = map(median, zip(*seconds, strict=True))
        print(f"  {name}: {wall:.1f} s wall, {cpu:.1f} CPU s (medians of {TRIES})", flush=True)


def _time(command: Sequence[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a process that has one core to itself, as far as the machine lets it."""
    core = min(os.sched_getaffinity(0))
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, capture_output=True, preexec_fn=partial(os.sched_setaffinity, 0, {core}))
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
