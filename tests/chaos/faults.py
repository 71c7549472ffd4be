"""Molecules that abort, hang and take all memory, among many others: each costs itself alone."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from storage.outcomes import read_row_outcomes
from storage.plan import read_plan
from tests.chaos.molecules import write_waters

ENDS = {"abort": "crashed", "hang": "timeout", "memory": "out_of_memory"}


def build_with_faults(folder: Path, count: int, seconds: float) -> list[str]:
    """Build `count` molecules, three of them faulty, with `seconds` for each; what is not as it should be."""
    faults = {f"water{count // 2 + k}": fault for k, fault in enumerate(ENDS)}
    recipe, store = write_waters(folder, count, 0, 16, faults, limit=seconds, memory=0.5), folder / "store.zarr"
    command = [sys.executable, "-m", "flows.cli", "build", recipe, store, "--workers", "2"]
    subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "PREFECT_HOME": str(folder / "prefect")}
    )
    ends = {row.id: row.outcome for row in read_row_outcomes(store, read_plan(store))}
    expected = {id: ENDS[fault] for id, fault in faults.items()}
    print(f"  {count} molecules: {', '.join(f'{number} {end}' for end, number in Counter(ends.values()).items())}")
    wrong = [f"{id} ended as {end}" for id, end in ends.items() if end != expected.get(id, "ok")]
    return wrong if len(ends) == count else [*wrong, f"{len(ends)} outcomes of {count}"]
