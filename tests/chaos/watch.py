"""Watches a store while it is built, for work that is done twice.

A shard is computed under a lock of its own and ends with its receipt. So nothing was computed twice after its receipt
if no lock is held for longer than it takes to see the receipt, once there is one; if every receipt stays the file that
it was when first seen; and if every stored object is the file that it was then, and older than its receipt.
"""

import fcntl
import os
import struct
import time
from collections import Counter
from pathlib import Path

from storage.claims import SHARDS
from storage.layout import receipt_key
from storage.plan import is_planned, read_plan
from storage.receipts import read_receipt

MOMENT = 1.0  # seconds: longer than finding a receipt takes, shorter than computing a shard
LOCK = "hhqqi4x"


class Watch:
    """What was seen of a store so far."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._shards: list[int] = []
        self._files: dict[int, dict[Path, tuple[int, int]]] = {}  # by shard with a receipt: inode and time of each file
        self._held: dict[int, float] = {}  # since when a shard that has its receipt is locked
        self._last_look = time.monotonic()
        self.faults: list[str] = []
        self.shard_seconds = 0.0  # for which shards without receipts were locked

    def look(self) -> bool:
        """Whether shards are being computed, some having been computed already."""
        if not self._shards:
            self._shards = _list_shards(self._store)
        now, computing = time.monotonic(), 0
        for shard, locked in _list_locks(self._store, self._shards).items():
            if shard not in self._files and (self._store / receipt_key(shard)).exists():
                self._files[shard] = _list_files(self._store, shard)
            if shard in self._files:
                self._suspect(shard, locked, now)
            computing += locked and shard not in self._files
        self.shard_seconds += computing * (now - self._last_look)
        self._last_look = now
        return bool(computing and self._files)

    def _suspect(self, shard: int, locked: bool, now: float) -> None:
        if not locked:
            self._held.pop(shard, None)
        elif now - self._last_look > MOMENT:  # nobody looked whether it was let go and taken again
            self._held[shard] = now
        elif now - self._held.setdefault(shard, now) > MOMENT:
            self.faults.append(f"shard {shard} was worked on for {MOMENT:g} s after its receipt")

    def conclude(self, kills: Counter[str]) -> list[str]:
        """What speaks against it that each shard was computed to its end once; called when the store is finished."""
        self.look()
        faults = list(dict.fromkeys(self.faults))
        repeated = 0
        for shard in self._shards:
            receipt = read_receipt(self._store, shard)
            faults += [
                f"shard {shard}: {path.relative_to(self._store)} was written again"
                for path, seen in self._files.get(shard, {}).items()
                if _identify(path) != seen
            ]
            written = (self._store / receipt_key(shard)).stat().st_mtime_ns
            faults += [
                f"shard {shard}: {key} is younger than the receipt"
                for key in receipt.objects
                if (self._store / key).stat().st_mtime_ns > written
            ]
            repeated += sum(receipt.circumstances["attempts"]) - len(receipt.outcomes)
        if repeated > kills["child"]:
            faults.append(f"{repeated} attempts were repeated, but {kills['child']} children were killed")
        return faults

    @property
    def useful_shard_seconds(self) -> float:
        """What the receipts account for."""
        return sum(float(read_receipt(self._store, shard).circumstances["wall_seconds"]) for shard in self._shards)


def _list_shards(store: Path) -> list[int]:
    return [shard.number for shard in read_plan(store).shards()] if is_planned(store) else []


def _list_locks(store: Path, shards: list[int]) -> dict[int, bool]:
    """Whether a shard is claimed by anybody."""
    if not (store / SHARDS).exists():
        return dict.fromkeys(shards, False)
    with (store / SHARDS).open("rb") as file:
        locks = {}
        for shard in shards:
            asked = struct.pack(LOCK, fcntl.F_WRLCK, os.SEEK_SET, shard, 1, 0)
            kind = struct.unpack(LOCK, fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))[0]
            locks[shard] = kind != fcntl.F_UNLCK
        return locks


def _list_files(store: Path, shard: int) -> dict[Path, tuple[int, int]]:
    """The receipt and the stored objects it names."""
    paths = [store / receipt_key(shard), *(store / key for key in read_receipt(store, shard).objects)]
    return {path: _identify(path) for path in paths}


def _identify(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
