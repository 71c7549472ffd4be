"""Who works on a store: locks that the operating system drops when their holder ends, however it ends."""

import fcntl
import json
import os
import platform
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import StoreError
from storage.objects import Location

CLAIM = "work/claim.json"  # names the one that builds; its lock, not its presence, says whether it still does
SHARDS = "work/shards.lock"  # empty: its n-th byte is the lock of shard n


@contextmanager
def claim_store(store: Location, shared: bool = False) -> Iterator[None]:
    """Held while a begun store is planned, built or sealed; `shared` by the jobs that each compute a part of it.

    Raises StoreError naming the process that holds it.
    """
    path = store / CLAIM
    with path.open("a+") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StoreError(
                f"{store} is being worked on by {_name_holder(file.read())}: wait for it, or stop it first"
            ) from None
        file.truncate(0)  # an earlier holder's name
        if not shared:
            file.write(
                json.dumps({"host": platform.node(), "pid": os.getpid(), "command": sys.argv, "at": time.time()})
            )
            file.flush()
        yield


def _name_holder(claim: str) -> str:
    """In words; of jobs that share a claim, none is named."""
    try:
        holder = json.loads(claim)
    except ValueError:
        return "batch jobs (`rhoflow run`)"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["at"]))
    return f"process {holder['pid']} on {holder['host']} since {since} ({' '.join(holder['command'])})"


@contextmanager
def claim_shard(store: Location, number: int) -> Iterator[None]:
    """Held while a shard is computed and stored. Waits for another holder: what was killed may take moments to end."""
    path = store / SHARDS
    with path.open("a+b") as file:
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLKW, lock)  # of this open file: threads exclude each other too
        yield
