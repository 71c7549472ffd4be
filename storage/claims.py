"""Who works on a store: locks that the operating system drops when their holder ends, or in buckets, leases."""

import fcntl
import json
import os
import platform
import struct
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.buckets import Bucket
from storage.errors import StoreError
from storage.faults import name_place
from storage.leases import Claim, HeldError, hold_lease, read_claim, watch_claim
from storage.objects import PARTIAL, Location, delete_object, list_keys

CLAIM = "work/claim.json"  # names the one that builds; its lock, not its presence, says whether it still does
SHARDS = "work/shards.lock"  # empty: its n-th byte is the lock of shard n
JOBS = "work/jobs"  # in buckets: a lease for each job that shares the store; swept at sealing, as all leftovers are
LEASED_SHARDS = "work/shards"  # in buckets: a lease for each shard in the making


@contextmanager
def claim_store(store: Location, shared: bool = False) -> Iterator[None]:
    """Held while a begun store is planned, built or sealed; `shared` by the jobs that each compute a part of it.

    Raises StoreError naming the process that holds it.
    """
    try:
        with name_place(store), _lock_store(store, shared) if isinstance(store, Path) else _lease_store(store, shared):
            yield
    except HeldError as held:
        raise StoreError(
            f"{store} is being worked on by {_name_holder(held.holder)}: wait for it, or stop it first"
        ) from None


@contextmanager
def _lock_store(store: Path, shared: bool) -> Iterator[None]:
    path = store / CLAIM
    with path.open("a+") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise HeldError(_read_holder(file.read())) from None
        file.truncate(0)  # an earlier holder's name
        if not shared:
            file.write(json.dumps(_describe_holder()))
            file.flush()
        yield


@contextmanager
def _lease_store(store: Bucket, shared: bool) -> Iterator[None]:
    """Either kind announces itself first and then looks for the other: two that come at once cannot both go on."""
    if not shared:
        with hold_lease(store, CLAIM, _describe_holder()):
            jobs = {key: read_claim(store, key) for key in list_keys(store, JOBS)}
            for key, found in jobs.items():  # seen at once: all the dead among them are waited for together
                _refuse_living(store, key, found)
                delete_object(store, key)
            yield
    else:
        with hold_lease(store, f"{JOBS}/{uuid.uuid4().hex}{PARTIAL}", {}):
            _refuse_living(store, CLAIM, read_claim(store, CLAIM))
            yield


def _refuse_living(store: Bucket, key: str, found: Claim | None) -> None:
    """Raises HeldError where somebody renews the claim that was found."""
    later = found and watch_claim(store, key, found)
    if later and later is not found:
        raise HeldError(later.holder)


def _describe_holder() -> dict[str, Any]:
    return {"host": platform.node(), "pid": os.getpid(), "command": sys.argv, "at": time.time()}


def _read_holder(claim: str) -> Mapping[str, Any]:
    """Of jobs that share a claim, none is named."""
    try:
        holder: Mapping[str, Any] = json.loads(claim)
    except ValueError:
        return {}
    return holder


def _name_holder(holder: Mapping[str, Any]) -> str:
    """In words."""
    if not holder:
        return "batch jobs (`rhoflow run`)"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["at"]))
    return f"process {holder['pid']} on {holder['host']} since {since} ({' '.join(holder['command'])})"


@contextmanager
def claim_shard(store: Location, number: int) -> Iterator[None]:
    """Held while a shard is computed and stored. Waits for another holder: what was killed may take moments to end."""
    if isinstance(store, Bucket):
        with hold_lease(store, f"{LEASED_SHARDS}/{number:06d}{PARTIAL}", {}, waits=True):
            yield
        return
    path = store / SHARDS
    with name_place(store), path.open("a+b") as file:
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLKW, lock)  # of this open file: threads exclude each other too
        yield
