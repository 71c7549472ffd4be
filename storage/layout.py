"""Where everything lies inside a store, and how its arrays are encoded."""

import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from storage.objects import Location

SCHEMA_VERSION = 3
TABLE_CHUNK = 16384  # rows of a small array in one chunk
ATOM_CHUNK = 65536

GENERATIONS = "work/generations"
PLANS = "work/plans"
HEADER = "work/header.json"  # recipe, its digest, the channels: what the store was begun with
SEAL = "work/seal.json"  # written last of all: the dataset is complete
RECEIPTS = "work/receipts"
BASIS = "basis"
ROWS = "rows"


def source_key(part: int) -> str:
    return f"work/source/part-{part:06d}.json.gz"


def source_copy_key(part: int) -> str:
    """Once the source has changed, nothing but a copy could give a part back."""
    return f"work/source/part-{part:06d}.copy.json.gz"


def generation_key(number: int) -> str:
    """Written when the rows that a generation brings are: what the source was then."""
    return f"{GENERATIONS}/{number:06d}.json.gz"


def plan_key(number: int) -> str:
    """Written last of a generation's plan."""
    return f"{PLANS}/{number:06d}.json.gz"


def planned_key(number: int, cells: int) -> str:
    """The group of tables that say which samples of a size class a generation brings."""
    return f"{PLANS}/{number:06d}/cells_{cells}"


def version_key(number: int) -> str:
    """What the root says of a sealed version, kept when a later one is sealed."""
    return f"work/versions/{number:06d}.json.gz"


def conformers_key(part: int) -> str:
    return f"work/conformers/part-{part:06d}.json.gz"


def receipt_key(shard: int) -> str:
    return f"{RECEIPTS}/shard-{shard:06d}.json"


def run_key(name: str) -> str:
    return f"work/runs/{name}.json"


def class_key(cells: int) -> str:
    """The group of one size class."""
    return f"cells_{cells}"


# zarr-python goes through a shard's chunks so many at a time; the bytes are the same. One by one, its default, costs
# half as much again. It has this setting once for a whole process.
CHUNKS_AT_A_TIME = 64
zarr.config.set({"codec_pipeline.batch_size": CHUNKS_AT_A_TIME})

AccessMode: TypeAlias = Literal["r", "r+", "a", "w"]


def open_group(store: Location, mode: AccessMode, key: str = "") -> zarr.Group:
    """A root of its own: groups of records, below work/, are no part of the dataset's hierarchy."""
    below = give_to_zarr(store, mode == "r", key)
    return zarr.open_group(below, mode=mode, zarr_format=3, use_consolidated=False)


def give_to_zarr(store: Location, read_only: bool = False, key: str = "") -> Path | Store:
    """A store, or what lies below `key` in it, as zarr-python takes it."""
    if isinstance(store, Path):
        return store / key
    from storage.zarr_buckets import BucketStore

    return BucketStore(store, key, read_only=read_only)


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


def shard_objects(cells: int, array: Any, index: int) -> list[str]:
    """Keys of the stored objects that hold the `index`-th shard of an array made by `create_sharded`.

    One, but for arrays that were widened since: samples that came later may have more orbitals than any before.
    """
    widths = [range(math.ceil(size / chunk)) for size, chunk in zip(array.shape[1:], array.chunks[1:], strict=True)]
    places = (".".join(map(str, (index, *place))) for place in itertools.product(*widths))
    return [f"{class_key(cells)}/{array.basename}/c.{place}" for place in places]


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
    """Strings that every Zarr reader understands."""
    attributes: dict[str, str | list[str]] = {"encoding": "utf-8", "padding": "NUL"}
    write_table(group, name, encode_text(texts), (dimension, f"{name}_bytes"), attributes)


def encode_text(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Strings as fixed-width UTF-8 bytes, zero-padded, shape (rows, width)."""
    encoded = [text.encode() for text in texts]
    width = max([1, *map(len, encoded)])
    padded = np.zeros((len(encoded), width), dtype=np.uint8)
    for row, text in enumerate(encoded):
        padded[row, : len(text)] = np.frombuffer(text, dtype=np.uint8)
    return padded


def decode_text(padded: NDArray[np.uint8]) -> list[str]:
    """The inverse of `encode_text`."""
    return [row.tobytes().rstrip(b"\0").decode() for row in padded]


def consolidate(store: Location) -> None:
    """Copy all metadata into the root's, so that opening the dataset is one read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        warnings.filterwarnings("ignore", message="Object at work is not recognized")  # records, not arrays
        zarr.consolidate_metadata(give_to_zarr(store), zarr_format=3)
