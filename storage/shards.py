"""Reads single samples of sharded arrays: from a local store past zarr-python, straight into the caller's memory."""

import json
import os
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from storage.errors import StoreError
from storage.layout import class_key, open_group, shard_objects
from storage.objects import Location, read_object

OPEN_SHARDS = 256  # stored objects kept open, with their indices; the usual limit of a process is 1024 files
CHECKSUM_BYTES = 4
ENTRY_BYTES = 16  # of an index: where a chunk begins, and how many bytes it has
ABSENT = 2**64 - 1  # in an index: no chunk was written
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
CRC32C = {"name": "crc32c"}


class SampleArray(Protocol):
    """One array over samples; threads may read from it at once."""

    @property
    def is_encoded(self) -> bool:
        """Whether reading a sample is more work than copying its bytes."""

    def read(self, row: int, id: str, values: NDArray[np.float32]) -> None:
        """Fill `values`, contiguous and of the shape of one sample. `id` is what errors call it.

        Raises StoreError where the sample's bytes are damaged, cut short or missing.
        """


@dataclass(frozen=True)
class Encoding:
    """How an array was written, as far as `LocalSamples` can read it."""

    shard_samples: int
    is_compressed: bool
    separator: str  # between the numbers in the names of stored objects
    axes: int


class ShardFault(Exception):
    """What is wrong with a stored object."""


class StoredObject:
    """An open shard of a local store with its index; closed when nobody holds it any more."""

    def __init__(self, path: str, samples: int) -> None:
        self.handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.handle)
        length = ENTRY_BYTES * samples + CHECKSUM_BYTES
        size = os.fstat(self.handle).st_size
        if size < length:
            raise ShardFault(f"is cut short: {size} bytes cannot hold an index of {samples} samples")
        index = _check(os.pread(self.handle, length, size - length), "index")
        self.places = cast(list[list[int]], index.view("<u8").reshape(samples, 2).tolist())

    def find(self, place: int) -> tuple[int, int]:
        """Where the chunk of a sample begins, and its bytes."""
        offset, length = self.places[place]
        if offset == ABSENT:
            raise ShardFault("holds no values of the sample")
        return offset, length


class OpenShards:
    """The stored objects last read from: each is opened once, its index read once."""

    def __init__(self) -> None:
        self.open = lru_cache(maxsize=OPEN_SHARDS)(StoredObject)


class LocalSamples:
    """An array of a store on disk: reads exactly the bytes of a chunk, and decodes them in place."""

    def __init__(self, store: Path, key: str, encoding: Encoding, shards: OpenShards) -> None:
        self._store, self._key, self._encoding, self._shards = store, key, encoding, shards

    @property
    def is_encoded(self) -> bool:
        return self._encoding.is_compressed

    def read(self, row: int, id: str, values: NDArray[np.float32]) -> None:
        number, place = divmod(row, self._encoding.shard_samples)
        key = self._name_object(number)
        try:
            shard = self._shards.open(f"{self._store}/{key}", self._encoding.shard_samples)
            read = _read_compressed if self._encoding.is_compressed else _read_plain
            read(shard, place, values)
        except FileNotFoundError as error:
            raise _explain(self._store, key, "is missing", id) from error
        except ShardFault as fault:
            raise _explain(self._store, key, str(fault), id) from fault

    def _name_object(self, number: int) -> str:
        separator = self._encoding.separator
        return f"{self._key}/c{separator}{number}" + f"{separator}0" * (self._encoding.axes - 1)


class PlainSamples:
    """An array as zarr-python reads it: wherever the store lies, however it was written."""

    is_encoded = True

    def __init__(self, store: Location, cells: int, channel: str) -> None:
        self._store, self._cells = store, cells
        self._array: Any = open_group(store, "r", class_key(cells))[channel]

    def read(self, row: int, id: str, values: NDArray[np.float32]) -> None:
        number = row // (self._array.shards or self._array.chunks)[0]
        key = shard_objects(self._cells, self._array, number)[0]
        try:
            values[...] = self._array[row]
        except (ValueError, RuntimeError) as error:  # checksums; and what cannot be decompressed
            raise _explain(self._store, key, f"is damaged ({error})", id) from error
        if np.isnan(values[(0,) * values.ndim]):  # zarr-python's answer where nothing is stored
            raise _explain(self._store, key, "is missing, or holds no values of the sample", id)


def open_samples(store: Location, cells: int, channel: str, shards: OpenShards) -> SampleArray:
    """A channel's array of one size class."""
    if isinstance(store, Path):
        key = f"{class_key(cells)}/{channel}"
        encoding = understand(json.loads(read_object(store, f"{key}/zarr.json")))
        if encoding:
            return LocalSamples(store, key, encoding, shards)
    return PlainSamples(store, cells, channel)


def understand(metadata: Mapping[str, Any]) -> Encoding | None:
    """None where an array is written in a way that only zarr-python knows how to read."""
    outer, grid, keys = metadata["codecs"], metadata["chunk_grid"], metadata["chunk_key_encoding"]
    if [codec["name"] for codec in outer] != ["sharding_indexed"] or grid["name"] != "regular":
        return None
    sharding, shard = outer[0]["configuration"], grid["configuration"]["chunk_shape"]
    inner = sharding["codecs"]
    is_compressed = [codec["name"] for codec in inner] == ["bytes", "blosc", "crc32c"]
    is_known = (
        metadata["data_type"] == "float32"
        and shard[1:] == metadata["shape"][1:]
        and sharding["chunk_shape"] == [1, *shard[1:]]
        and sharding["index_codecs"] == [BYTES, CRC32C]
        and sharding.get("index_location", "end") == "end"
        and (is_compressed or inner == [BYTES, CRC32C])
        and inner[0] == BYTES
        and keys["name"] == "default"
        and not metadata.get("storage_transformers")
        and sys.byteorder == "little"
    )
    if not is_known:
        return None
    return Encoding(shard[0], is_compressed, keys.get("configuration", {}).get("separator", "/"), len(shard))


def _read_compressed(shard: StoredObject, place: int, values: NDArray[np.float32]) -> None:
    offset, length = shard.find(place)
    content = os.pread(shard.handle, length, offset)
    if len(content) < length:
        raise ShardFault("is cut short")
    blosc.decompress(_check(content, "chunk"), values)


def _read_plain(shard: StoredObject, place: int, values: NDArray[np.float32]) -> None:
    offset, length = shard.find(place)
    checksum = bytearray(CHECKSUM_BYTES)
    if os.preadv(shard.handle, [values, checksum], offset) < length:  # type: ignore[list-item]
        raise ShardFault("is cut short")
    if google_crc32c.value(values) != int.from_bytes(checksum, "little"):
        raise ShardFault("is damaged: the checksum of a chunk is not that of its bytes")


def _check(content: bytes, what: str) -> NDArray[np.uint8]:
    """What stands before the crc32c at its end. Raises ShardFault."""
    body = np.frombuffer(content, dtype=np.uint8, count=len(content) - CHECKSUM_BYTES)
    if google_crc32c.value(body) != int.from_bytes(content[-CHECKSUM_BYTES:], "little"):
        raise ShardFault(
            f"is damaged: the checksum of {'an' if what == 'index' else 'a'} {what} is not that of its bytes"
        )
    return body


def _explain(store: Location, key: str, fault: str, id: str) -> StoreError:
    return StoreError(
        f"{store}/{key} {fault}; sample {id!r} cannot be read: `rhoflow verify {store} --repair` computes it again"
    )
