"""A sample read past zarr-python is the sample zarr-python reads; and damage is named with its remedy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from storage.buckets import Bucket
from storage.errors import StoreError
from storage.layout import create_sharded, open_group
from storage.objects import Location, delete_object, read_object, write_object
from storage.shards import LocalSamples, OpenShards, PlainSamples, SampleArray, open_samples
from tests.object_storage import BUCKET, serve_buckets

SHARD = 4
SHAPE = (5, 6, 7)
OBJECT = "cells_7/target/c.1.0.0.0"  # samples 4 to 7


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve_buckets(60) as address:
        yield address


def draw_values(samples: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(samples).random((samples, *shape), dtype=np.float32)


def write_channel(store: Location, samples: int = 10) -> NDArray[np.float32]:
    """As a build does: sample 6 failed, and so did all of the last shard."""
    values = draw_values(samples)
    values[6] = values[8:] = np.nan
    group = open_group(store, "a", "cells_7")
    create_sharded(group, "target", values.shape, SHARD, "float32", ("sample", "x", "y", "z"), {})
    group["target"][...] = values
    return values


def read(array: SampleArray, row: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    values = np.full(shape, -1, dtype=np.float32)
    array.read(row, f"sample-{row}", values)
    return values


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    samples=st.integers(1, 9),
    shard=st.integers(1, 5),
    compressed=st.booleans(),
    separator=st.sampled_from([".", "/"]),
)
def test_samples_are_those_that_zarr_reads(
    tmp_path_factory: pytest.TempPathFactory,
    shape: list[int],
    samples: int,
    shard: int,
    compressed: bool,
    separator: Any,
) -> None:
    store, values = tmp_path_factory.mktemp("some.zarr"), draw_values(samples, tuple(shape))
    array = open_group(store, "a", "cells_9").create_array(
        "guess",
        shape=values.shape,
        chunks=(1, *shape),
        shards=(shard, *shape),
        dtype="float32",
        compressors=[*([BloscCodec()] if compressed else []), Crc32cCodec()],
        fill_value=np.nan,
        chunk_key_encoding={"name": "default", "separator": separator},
    )
    array[...] = values
    ours = open_samples(store, 9, "guess", OpenShards())
    assert isinstance(ours, LocalSamples)
    zarrs: Any = zarr.open_group(store / "cells_9", mode="r")["guess"]
    for row in range(samples):
        expected = np.asarray(zarrs[row])
        assert read(ours, row, tuple(shape)).tobytes() == expected.tobytes() == values[row].tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"compressors": [ZstdCodec(), Crc32cCodec()]},
        {"compressors": [BloscCodec()]},  # no checksum
        {"compressors": [GzipCodec()]},
        {"shards": None, "compressors": None},
        {"chunks": (2, *SHAPE)},
        {"chunks": (1, *SHAPE[:2], 3), "shards": (SHARD, *SHAPE[:2], 9)},  # several chunks for a sample
        {"dtype": "float64"},
    ],
)
def test_what_is_written_in_another_way_is_left_to_zarr(tmp_path: Path, changes: dict[str, Any]) -> None:
    values = draw_values(8)
    settings = {"shape": values.shape, "chunks": (1, *SHAPE), "shards": (SHARD, *SHAPE), "dtype": "float32"}
    array = open_group(tmp_path, "a", "cells_7").create_array("target", **{**settings, **changes})
    array[...] = values
    ours = open_samples(tmp_path, 7, "target", OpenShards())
    assert isinstance(ours, PlainSamples)
    assert np.array_equal(read(ours, 5), values[5])


def damage(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


FAULTS = [
    pytest.param(lambda content: damage(content, 200), "is damaged", id="a chunk"),
    pytest.param(lambda content: damage(content, len(content) - 60), "is damaged", id="the index"),
    pytest.param(lambda content: content[:-100], "is damaged", id="cut short"),
    pytest.param(lambda content: content[:50], "is (cut short:|damaged)", id="cut shorter than its index"),
    pytest.param(None, "is missing", id="gone"),
]


@pytest.mark.parametrize(("change", "fault"), FAULTS)
@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_damage_is_named_with_its_remedy(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    place: str,
    change: Any,
    fault: str,
) -> None:
    store: Location = tmp_path
    if place == "bucket":
        request.getfixturevalue("server")
        store = Bucket(BUCKET, f"{tmp_path.name}.zarr")
    values = write_channel(store)
    if change:
        write_object(store, OBJECT, change(read_object(store, OBJECT)))
    else:
        delete_object(store, OBJECT)
    ours = open_samples(store, 7, "target", OpenShards())
    message = f"{store}/{OBJECT} {fault}.*; sample 'sample-4' cannot be read: `rhoflow verify {store} --repair`"
    with pytest.raises(StoreError, match=message):
        read(ours, 4)
    assert np.array_equal(read(ours, 1), values[1])  # the other objects are as they were


@pytest.mark.parametrize("row", [6, 9])
@pytest.mark.parametrize("plain", [False, True])
def test_a_sample_without_values_is_no_sample(tmp_path: Path, row: int, plain: bool) -> None:
    write_channel(tmp_path)
    ours = PlainSamples(tmp_path, 7, "target") if plain else open_samples(tmp_path, 7, "target", OpenShards())
    with pytest.raises(StoreError, match=rf"c\.{row // SHARD}\.0\.0\.0 (holds no values|is missing).*'sample-{row}'"):
        read(ours, row)
