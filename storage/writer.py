"""Writes one shard: every stored object once, whole, flushed and checksummed."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.layout import class_key, open_group, shard_objects
from storage.objects import Location, checksum_object, delete_object, flush_objects, has_object
from storage.plan import Plan, Shard
from storage.schema import Sample


def write_shard(store: Location, plan: Plan, shard: Shard, samples: Sequence[Sample | None]) -> dict[str, str]:
    """Store the samples of a shard, `None` where one failed (its rows keep the fill value NaN).

    Returns the sha256 of every object written, by key.
    """
    group: Any = open_group(store, "r+", class_key(shard.cells))
    written = []
    for channel in plan.channels:
        rows = [None if sample is None else sample.channels[channel.name] for sample in samples]
        written += _write_rows(store, group, shard, channel.name, rows)
    for density in plan.densities if plan.keeps_wavefunctions else ():
        states = [None if sample is None else sample.states[density] for sample in samples]
        orbitals = [None if state is None else state.orbitals for state in states]
        occupations = [None if state is None else state.occupations for state in states]
        written += _write_rows(store, group, shard, f"orbitals_{density}", orbitals)
        written += _write_rows(store, group, shard, f"occupations_{density}", occupations)
    flush_objects(store, written)
    return {key: checksum_object(store, key) for key in written}


def _write_rows(
    store: Location, group: Any, shard: Shard, name: str, rows: Sequence[npt.NDArray[Any] | None]
) -> list[str]:
    """Fill one stored object, or as many as the largest values need; smaller ones are zero-padded. Returns the keys."""
    array = group[name]
    largest = np.max([values.shape for values in rows if values is not None] or [(1,) * (array.ndim - 1)], axis=0)
    chunks = (math.ceil(n / chunk) * chunk for n, chunk in zip(largest, array.chunks[1:], strict=True))
    box = tuple(map(min, chunks, array.shape[1:]))
    block = np.zeros((shard.last - shard.first, *box), dtype=array.dtype)
    for place, values in zip(block, rows, strict=True):
        if values is None:
            place[...] = np.nan
        else:
            place[tuple(slice(length) for length in values.shape)] = values
    keys = shard_objects(shard.cells, array, shard.index)
    for key in keys:
        delete_object(store, key)  # a killed attempt may have left one, torn: zarr would read and merge it
    if all(values is None for values in rows):
        return []
    array[(slice(shard.first, shard.last), *map(slice, box))] = block
    return [key for key in keys if has_object(store, key)]
