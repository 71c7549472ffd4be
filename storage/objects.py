"""Whole objects, by key, on disk or in a bucket: written in one move and flushed, or not at all."""

import gzip
import hashlib
import json
import os
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from storage import buckets
from storage.buckets import Bucket
from storage.errors import RequestError, StoreError

MOST_FLUSHES = 16  # at once
PARTIAL = ".partial"  # what a killed writer leaves behind
Location: TypeAlias = Path | Bucket  # where a store lies

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


def locate(text: str | Location) -> Location:
    """Where "s3://bucket/name.zarr", or a path, points to. Raises RequestError."""
    if not isinstance(text, str):
        return text
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    name, _, prefix = rest.partition("/")
    if scheme != "s3" or not name or not prefix.strip("/"):
        raise RequestError(f"{text}: a store lies at s3://BUCKET/NAME.zarr, or in a folder: write one of the two")
    return Bucket(name, prefix.strip("/"))


def resolve(store: Location) -> Location:
    """The same place, wherever a process works."""
    return store if isinstance(store, Bucket) else store.resolve()


def name_store(store: Location) -> str:
    """("…/molecules.zarr") → "molecules"."""
    return str(resolve(store)).rsplit("/", 1)[-1].removesuffix(".zarr")


def write_object(store: Location, key: str, content: bytes) -> None:
    """Put `content` at `key`; a reader sees the old object or the new one, also after a power cut."""
    if isinstance(store, Bucket):
        buckets.put(store, key, content)
        return
    path = store / key
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    flush(path.parent)


def read_object(store: Location, key: str) -> bytes:
    """Raises FileNotFoundError."""
    if isinstance(store, Bucket):
        return buckets.get(store, key).content
    return (store / key).read_bytes()


def has_object(store: Location, key: str) -> bool:
    if isinstance(store, Path):
        return (store / key).is_file()
    try:
        buckets.get_size(store, key)
    except FileNotFoundError:
        return False
    return True


def delete_object(store: Location, key: str) -> None:
    """What is not there is no error."""
    if isinstance(store, Bucket):
        buckets.delete(store, key)
    else:
        (store / key).unlink(missing_ok=True)


def list_keys(store: Location, folder: str = "") -> list[str]:
    """Of every object, in order; leftovers of killed writers and locks among them."""
    if isinstance(store, Bucket):
        return sorted(buckets.list_all(store, folder))
    return sorted(path.relative_to(store).as_posix() for path in (store / folder).rglob("*") if path.is_file())


def copy_object(store: Location, new: Location, key: str) -> None:
    write_object(new, key, read_object(store, key))


def measure_object(store: Location, key: str) -> int:
    """Bytes."""
    if isinstance(store, Bucket):
        return buckets.get_size(store, key)
    return (store / key).stat().st_size


def checksum_object(store: Location, key: str) -> str:
    """sha256 in hexadecimal; "" where there is no such object."""
    if isinstance(store, Path):
        return checksum(store / key) if has_object(store, key) else ""
    try:
        return hashlib.sha256(read_object(store, key)).hexdigest()
    except FileNotFoundError:
        return ""


def flush_objects(store: Location, keys: Iterable[str]) -> None:
    """Force objects that were written without `write_object` to disk, with their entries in their folders.

    All at once: the file system then writes its journal once, not once for each.
    """
    if isinstance(store, Path) and (paths := [store / key for key in keys]):
        folders = {path.parent for path in paths}
        with ThreadPoolExecutor(MOST_FLUSHES) as threads:
            list(threads.map(flush, [*paths, *folders]))


def flush(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(store: Location, key: str, record: Json) -> None:
    """Put a JSON record at `key`, gzipped where the key ends in .gz; the same record gives the same bytes."""
    content = json.dumps(record, allow_nan=False, separators=(",", ":") if key.endswith(".gz") else None).encode()
    write_object(store, key, gzip.compress(content, 6, mtime=0) if key.endswith(".gz") else content)


def read_record(store: Location, key: str) -> dict[str, object]:
    """The JSON record at `key`. Raises StoreError where it is missing or is no JSON object."""
    path = f"{store}/{key}"
    try:
        content = read_object(store, key)
    except FileNotFoundError:
        raise StoreError(
            f"{path} is missing: this is no rhoflow store, or a stage before this one has not run"
        ) from None
    try:
        record = json.loads(gzip.decompress(content) if key.endswith(".gz") else content)
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise StoreError(f"{path} is damaged ({error}): delete it and run the same build again") from error
    if not isinstance(record, dict):
        raise StoreError(f"{path} is damaged (no JSON object): delete it and run the same build again")
    return record
