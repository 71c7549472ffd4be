"""Claims on what lies in a bucket, which knows no locks: leases, which end unless their holder renews them.

They rely on conditional puts (`If-None-Match: *`, `If-Match`) that are atomic, and on clocks that run equally fast,
whatever time they show. A holder writes only within two terms of its last renewal; another takes over only what it saw
unchanged for three. A request that is under way for longer than a term may still write the same bytes once more.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from storage.buckets import Bucket, claims, delete, get, put_if
from storage.errors import StoreError

TERM = 15.0  # seconds between renewals, unless RHOFLOW_LEASE_SECONDS says otherwise: each claim carries its own
TERMS_TO_WRITE = 2
TERMS_TO_TAKE_OVER = 3
LOOKS_PER_TERM = 5


class HeldError(Exception):
    """Another holds the claim, and is alive."""

    def __init__(self, holder: Mapping[str, Any]) -> None:
        super().__init__(holder)
        self.holder = holder


@dataclass(frozen=True)
class Claim:
    """A claim, as it was first seen."""

    tag: str
    token: str  # of the lease
    holder: Mapping[str, Any]
    term: float
    seen: float  # by our own clock


class Lease:
    """A claim of this process."""

    def __init__(self, bucket: Bucket, key: str, holder: Mapping[str, Any], term: float) -> None:
        self.bucket, self.key, self._holder, self._term = bucket, key, holder, term
        self._token, self._beats, self._tag, self._renewed = uuid.uuid4().hex, 0, "", 0.0
        self._lock, self._ended, self._released = threading.Lock(), threading.Event(), False

    def take(self, tag: str = "") -> bool:
        """Put the claim where there is none, or in the place of the one of that tag; whether it is ours now."""
        self._beats += 1
        asked = read_clock()
        record = {"holder": self._holder, "term": self._term, "token": self._token, "beats": self._beats}
        content = json.dumps(record).encode()
        written = put_if(self.bucket, self.key, content, tag)
        if not written:  # a put whose answer was lost may stand in the way of this one
            there = read_claim(self.bucket, self.key)
            if there and there.token == self._token:
                written = put_if(self.bucket, self.key, content, there.tag)
        self._tag = written
        if written:
            self._renewed = asked
        return bool(written)

    def renew(self) -> None:
        """Raises StoreError where another has taken over."""
        with self._lock:
            if not self._tag or not self.take(self._tag):
                self._ended.set()
                raise StoreError(
                    f"{self.bucket} is another's by now: this process had not renewed its claim ({self.key}) for "
                    f"{TERMS_TO_TAKE_OVER * self._term:g} s. Nothing more is written here: when the other has ended, "
                    "run the same command again"
                )

    def confirm(self) -> None:
        """Renew what is about to end. Raises StoreError where another has taken over."""
        late = not self._tag or read_clock() - self._renewed > TERMS_TO_WRITE * self._term
        if late and not self._released:
            self.renew()

    def keep(self) -> None:
        """Renew in time until released, or lost."""
        from obstore.exceptions import BaseError

        while not self._ended.wait(self._term):
            with suppress(BaseError, OSError, StoreError):  # whoever writes next hears of it
                self.renew()

    def release(self) -> None:
        """Where the storage cannot be reached, the claim ends by itself."""
        from obstore.exceptions import BaseError

        self._released = True  # nothing is written under it any more
        self._ended.set()
        if self._tag and read_clock() - self._renewed < TERMS_TO_WRITE * self._term:
            with suppress(BaseError, OSError):
                delete(self.bucket, self.key)


@contextmanager
def hold_lease(bucket: Bucket, key: str, holder: Mapping[str, Any], waits: bool = False) -> Iterator[None]:
    """Held until the end, and taken from the dead. Raises HeldError where another lives, unless it `waits` for that."""
    lease = Lease(bucket, key, holder, float(os.environ.get("RHOFLOW_LEASE_SECONDS", TERM)))
    acquire(lease, waits)
    claims.setdefault(bucket, []).append(lease.confirm)
    threading.Thread(target=lease.keep, daemon=True, name=f"claim {key}").start()
    try:
        yield
    finally:
        claims[bucket].remove(lease.confirm)
        lease.release()


def acquire(lease: Lease, waits: bool) -> None:
    while not lease.take():
        found = read_claim(lease.bucket, lease.key)
        if not found:
            continue  # released in between
        later = watch_claim(lease.bucket, lease.key, found)
        if later is found:
            if lease.take(found.tag):
                return
        elif later and not waits:
            raise HeldError(later.holder)


def watch_claim(bucket: Bucket, key: str, claim: Claim) -> Claim | None:
    """The claim itself, where nobody renews it; else what there is in its place."""
    while True:
        is_over = read_clock() >= claim.seen + TERMS_TO_TAKE_OVER * claim.term
        later = read_claim(bucket, key)
        if not later or later.tag != claim.tag:
            return later
        if is_over:
            return claim
        time.sleep(claim.term / LOOKS_PER_TERM)


def read_claim(bucket: Bucket, key: str) -> Claim | None:
    try:
        found = get(bucket, key)
    except FileNotFoundError:
        return None
    try:
        record: Any = json.loads(found.content)
        return Claim(found.tag, record["token"], record["holder"], float(record["term"]), read_clock())
    except (ValueError, KeyError, TypeError):  # damaged: its holder renews it, if it has one
        return Claim(found.tag, "", {}, TERM, read_clock())


def read_clock() -> float:
    """Seconds that also pass while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
