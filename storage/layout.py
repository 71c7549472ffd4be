"""Where everything lies inside a store, and how its arrays are encoded."""

import warnings
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from storage.objects import Location

SCHEMA_VERSION = 2
TABLE_CHUNK = 16384  # rows of a small array in one chunk
ATOM_CHUNK = 65536

HEADER = "work/header.json"  # recipe, its digest, the channels: what the store was begun with
PLAN = "work/plan.json"
SEAL = "work/seal.json"  # written last of all: the dataset is complete
SOURCE_END = "work/source/end.json"  # written when the last source part is
RECEIPTS = "work/receipts"
BASIS = "basis"
ROWS = "rows"


def source_key(part: int) -> str:
    return f"work/source/part-{part:06d}.json.gz"


def conformers_key(part: int) -> str:
    return f"work/conformers/part-{part:06d}.json.gz"


def receipt_key(shard: int) -> str:
    return f"{RECEIPTS}/shard-{shard:06d}.json"


def run_key(name: str) -> str:
    return f"work/runs/{name}.json"


def class_key(cells: int) -> str:
    """The group of one size class."""
    return f"cells_{cells}"


AccessMode: TypeAlias = Literal["r", "r+", "a", "w"]


def open_group(store: Location, mode: AccessMode, key: str = "") -> zarr.Group:
    return zarr.open_group(give_to_zarr(store, mode == "r"), path=key, mode=mode, zarr_format=3, use_consolidated=False)


def give_to_zarr(store: Location, read_only: bool = False) -> Path | Store:
    """A store as zarr-python takes it."""
    if isinstance(store, Path):
        return store
    from storage.zarr_buckets import BucketStore

    return BucketStore(store, read_only=read_only)


def create_sharded(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    shard_samples: int,
    dtype: str,
    dimensions: tuple[str, ...],
    attributes: dict[str, str | list[str]],
) -> None:
    """An array over samples: chunk = one sample with its own crc32c, stored object = `shard_samples` of them."""
    group.create_array(
        name,
        shape=shape,
        chunks=(1, *shape[1:]),
        shards=(shard_samples, *shape[1:]),
        dtype=dtype,
        compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec()],
        fill_value=np.nan,
        dimension_names=dimensions,
        chunk_key_encoding={"name": "default", "separator": "."},
        attributes=dict(attributes),
    )


def shard_object(cells: int, name: str, dimensions: int, index: int) -> str:
    """Key of the stored object that holds the `index`-th shard of an array made by `create_sharded`."""
    return f"{class_key(cells)}/{name}/c." + ".".join([str(index)] + ["0"] * (dimensions - 1))


def write_table(
    group: zarr.Group,
    name: str,
    values: NDArray[np.generic],
    dimensions: tuple[str, ...],
    attributes: dict[str, str | list[str]] | None = None,
) -> None:
    """A small array, written whole by one writer (replacing an earlier one)."""
    rows = ATOM_CHUNK if dimensions[0] == "atom" else TABLE_CHUNK
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(max(1, min(rows, values.shape[0])), *(max(1, n) for n in values.shape[1:])),
        dtype=values.dtype,
        compressors=[ZstdCodec(level=3, checksum=False), Crc32cCodec()],
        fill_value=np.nan if values.dtype.kind == "f" else 0,
        dimension_names=dimensions,
        chunk_key_encoding={"name": "default", "separator": "."},
        attributes=dict(attributes or {}),
        overwrite=True,
    )
    if values.size:
        array[...] = values


def write_text(group: zarr.Group, name: str, texts: list[str], dimension: str) -> None:
    """Strings as fixed-width UTF-8 bytes, zero-padded, shape (rows, width): every Zarr reader understands them."""
    encoded = [text.encode() for text in texts]
    width = max([1, *map(len, encoded)])
    padded = np.zeros((len(encoded), width), dtype=np.uint8)
    for row, text in enumerate(encoded):
        padded[row, : len(text)] = np.frombuffer(text, dtype=np.uint8)
    write_table(group, name, padded, (dimension, f"{name}_bytes"), {"encoding": "utf-8", "padding": "NUL"})


def decode_text(padded: NDArray[np.uint8]) -> list[str]:
    """The inverse of `write_text`."""
    return [row.tobytes().rstrip(b"\0").decode() for row in padded]


def consolidate(store: Location) -> None:
    """Copy all metadata into the root's, so that opening the dataset is one read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        warnings.filterwarnings("ignore", message="Object at work is not recognized")  # records, not arrays
        zarr.consolidate_metadata(give_to_zarr(store), zarr_format=3)
