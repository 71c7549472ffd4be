"""Vouches for every file of a sealed store: their sha256, kept twice, and the seal that vouches for the list itself."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.claims import CLAIM, SHARDS
from storage.errors import StoreError
from storage.layout import SEAL
from storage.objects import (
    PARTIAL,
    Location,
    checksum_object,
    delete_object,
    has_object,
    read_object,
    read_record,
    write_record,
)

MANIFESTS = ("work/manifest.json.gz", "work/manifest.copy.json.gz")  # equal; a lost list could not be made again
UNVOUCHED = (SEAL, CLAIM, SHARDS, *MANIFESTS)  # the lists themselves, and locks: what these hold is of no matter

SEAL_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """What a store held when it was sealed."""

    files: Mapping[str, str]  # key → sha256
    contents: Mapping[str, str]  # of records with circumstances: key → sha256 of the rest, equal when made again
    copies: Mapping[str, Any]  # small records that nothing else in the store could give back


def write_manifest(store: Location, manifest: Manifest) -> None:
    """The list in both its places, then the seal, last."""
    for name in MANIFESTS:
        write_record(store, name, vars(manifest))
    write_record(store, SEAL, _seal_record(checksum_object(store, MANIFESTS[0])))


def vouch_again(store: Location, key: str) -> None:
    """Vouch for a record that was changed on purpose after sealing; nothing is done where nothing is sealed."""
    if any(has_object(store, name) for name in MANIFESTS):
        was = read_manifest(store)
        files = {**was.files, key: checksum_object(store, key)}
        write_manifest(store, Manifest(files, was.contents, {**was.copies, key: read_record(store, key)}))


def unseal(store: Location) -> None:
    """The store is about to change: nothing vouches for it any more."""
    for name in (SEAL, *MANIFESTS):
        delete_object(store, name)


def read_manifest(store: Location) -> Manifest:
    """The copy that the seal vouches for, or where the seal itself is damaged, one that is whole.

    Raises StoreError where neither is.
    """
    expected = read_seal(store)
    whole = [name for name in MANIFESTS if has_object(store, name) and checksum_object(store, name) == expected]
    for name in whole or MANIFESTS:
        try:
            record: Any = read_record(store, name)  # gzip carries a checksum of its own
        except StoreError:
            continue
        return Manifest(**record)
    raise StoreError(f"{store} has no manifest that is whole: {MANIFESTS[0]} and its copy are damaged or missing")


def find_manifest_faults(store: Location) -> dict[str, str]:
    """Which of the seal and the copies of the manifest are "missing" or "damaged": each must agree with the others."""
    sums = {name: checksum_object(store, name) for name in MANIFESTS}
    sealed = read_seal(store)
    expected = sealed if sealed in filter(None, sums.values()) else _expect_copy(store, sums) or sealed
    faults = {name: tell_fault(found, expected) for name, found in sums.items()}
    if sealed != expected or not sealed:
        faults[SEAL] = "damaged" if has_object(store, SEAL) else "missing"
    return {key: fault for key, fault in faults.items() if fault}


def is_vouched_for(key: str) -> bool:
    return key not in UNVOUCHED and not key.endswith(PARTIAL)


def digest_content(store: Location, key: str) -> str:
    """sha256 of a record without its circumstances."""
    record = read_record(store, key)
    content = {name: value for name, value in record.items() if name != "circumstances"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def tell_fault(found: str, expected: str) -> str:
    """From the checksum of a file, "" where there is none, and the one it should have; "" where it is whole."""
    return "missing" if not found else "damaged" if found != expected else ""


def _seal_record(manifest: str) -> dict[str, str | int]:
    return {"version": SEAL_VERSION, "manifest": manifest}


def read_seal(store: Location) -> str:
    """sha256 of the manifest; "" where the seal does not say it in exactly the words it was written in."""
    try:
        manifest = str(read_record(store, SEAL).get("manifest", ""))
    except StoreError:
        return ""
    is_as_written = read_object(store, SEAL) == json.dumps(_seal_record(manifest)).encode()
    return manifest if is_as_written else ""


def _expect_copy(store: Location, sums: Mapping[str, str]) -> str:
    """sha256 of the copy that can be read, where the seal cannot tell."""
    for name in MANIFESTS:
        try:
            read_record(store, name)
        except StoreError:
            continue
        return sums[name]
    return ""
