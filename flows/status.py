"""What stands in a store: rows by outcome, time spent, rate."""

import calendar
import dataclasses
import json
import math
import os
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.generations import count_generations, count_parts, read_latest
from storage.header import read_header
from storage.layout import conformers_key, run_key
from storage.manifest import vouch_again
from storage.objects import Location, has_object, list_keys, read_record, write_record
from storage.outcomes import MISSING, read_receipts, read_version
from storage.parts import read_circumstances
from storage.plan import is_planned, read_plan
from storage.seal import is_sealed

SECONDS_BETWEEN_RECORDS = 1
STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True)
class Status:
    rows: int  # of the source, as far as it has been read
    done: int  # rows whose samples are ok, duplicates among them
    failed: dict[str, int]  # rows by reason
    missing: int  # rows still to be computed
    sealed: bool
    version: int  # of the dataset: each state of its source is one
    computing_seconds: float  # CPU seconds of the child processes
    wall_seconds: float  # of the runs that computed something
    workers: int  # of the last of these runs, and of those at work beside it
    worker_seconds: float  # wall seconds times workers, added up over these runs

    @property
    def overhead(self) -> float:
        """Wall time over computing time divided by workers, less one."""
        return self.worker_seconds / self.computing_seconds - 1 if self.computing_seconds else 0.0


def read_status(store: Location) -> Status:
    """Raises StoreError where there is no store."""
    read_header(store)
    rows = _count_rows(store)
    counts: Counter[str] = Counter()
    computing = 0.0
    if is_planned(store):
        plan = read_plan(store)
        receipts = read_receipts(store, plan)
        counts = Counter(row.outcome for row in read_version(store, plan, receipts).rows)
        computing += sum(receipt.circumstances["computing_seconds"] for receipt in receipts)
    parts = [key for part in range(_count_parts(store)) if has_object(store, (key := conformers_key(part)))]
    computing += sum(read_circumstances(store, key)["computing_seconds"] for key in parts)
    runs = [run for run in _read_runs(store) if run["computed"]]
    done, missing = counts.pop("ok", 0), counts.pop(MISSING, 0)
    return Status(
        rows=rows,
        done=done,
        failed=dict(sorted(counts.items())),
        missing=missing if is_planned(store) else rows,
        sealed=is_sealed(store),
        version=count_generations(store),
        computing_seconds=computing,
        wall_seconds=_unite([(run["started"], run["started"] + run["wall_seconds"]) for run in runs]),
        workers=_count_workers(runs),
        worker_seconds=sum(run["wall_seconds"] * run["workers"] for run in runs),
    )


def status_json(status: Status) -> str:
    return json.dumps(dataclasses.asdict(status))


def describe_status(store: Location, status: Status) -> str:
    """In a few lines."""
    failed = sum(status.failed.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in status.failed.items())
    rows = f"{status.rows}: {status.done} done, {failed} failed{f' ({reasons})' if failed else ''}"
    lines = [
        f"{store}: {f'sealed, version {status.version}' if status.sealed else 'not sealed yet'}",
        f"  rows       {rows}, {status.missing} missing",
    ]
    if status.computing_seconds:
        rate = (status.done + failed) / status.wall_seconds if status.wall_seconds else 0.0
        left = status.missing / rate if rate else float("nan")
        over = f"{100 * status.overhead:+.1f} % over computing / workers"
        lines += [
            f"  computing  {status.computing_seconds:.1f} CPU s in child processes",
            f"  wall       {status.wall_seconds:.1f} s on {status.workers} workers: {over}",
            f"  rate       {rate:.2f} rows/s" + (f", about {left:.0f} s left" if status.missing else ""),
        ]
    return "\n".join(lines)


class RunRecord:
    """What one run has spent so far; written about once a second as it goes, so that a killed run counts too."""

    def __init__(self, store: Location, workers: int, started: float) -> None:
        """`started` is the time.time() at which the command began."""
        self._store, self._workers, self._started = store, workers, started
        self._computed = 0
        self._written = 0.0
        stamp = time.strftime(STAMP, time.gmtime(started)) + f"{started % 1:.3f}"[1:]
        self._key = run_key(f"{stamp}-{platform.node()}-{os.getpid()}")  # tasks of an array begin together

    def count(self, computed: int) -> None:
        """`computed` more parts or shards were computed, not merely found done; 0 where there are no more."""
        self._computed += computed
        if self._computed and (not computed or time.monotonic() - self._written > SECONDS_BETWEEN_RECORDS):
            self._written = time.monotonic()
            write_record(
                self._store,
                self._key,
                {
                    "started": self._started,
                    "workers": self._workers,
                    "wall_seconds": time.time() - self._started,
                    "computed": self._computed,
                },
            )
            vouch_again(self._store, self._key)


def _unite(intervals: Sequence[tuple[float, float]]) -> float:
    """Seconds in which at least one run was at work."""
    seconds, reached = 0.0, -math.inf
    for begun, ended in sorted(intervals):
        seconds += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return seconds


def _count_workers(runs: Sequence[Mapping[str, float]]) -> int:
    """Of the runs that were at work when the last one began."""
    last = max((run["started"] for run in runs), default=0.0)
    return int(sum(run["workers"] for run in runs if run["started"] + run["wall_seconds"] >= last))


def _count_rows(store: Location) -> int:
    return read_latest(store).rows if count_generations(store) else 0


def _count_parts(store: Location) -> int:
    return count_parts(store) if count_generations(store) else 0


def _read_runs(store: Location) -> list[dict[str, float]]:
    runs = []
    for key in list_keys(store, "work/runs"):
        if key.endswith(".json"):
            begun = time.strptime(key.rsplit("/", 1)[-1][:15], STAMP)  # to the second: earlier versions say no more
            record = {"started": calendar.timegm(begun), **read_record(store, key)}
            runs.append({name: float(str(value)) for name, value in record.items()})
    return runs
