"""Guesses and their targets, read from a store, those last used kept in memory."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.errors import StoreError
from storage.reader import Dataset
from storage.schema import FloatArray, Grid

KEPT_BYTES = 2 * 2**30  # of decoded arrays; beyond it the pair unused for longest is dropped, and read again when due


@dataclass(frozen=True)
class Pair:
    """Two densities of one sample on the same grid, shape `grid.shape`, electrons/bohr³."""

    id: str
    guess: NDArray[np.float32]
    target: NDArray[np.float32]
    grid: Grid
    positions: FloatArray  # (atoms, 3), bohr


class Pairs:
    """The pairs of a dataset, by id."""

    def __init__(self, dataset: Dataset, input: str, target: str) -> None:
        for name in (input, target):
            if name not in dataset.channels:
                raise StoreError(
                    f"{dataset.store} has no channel {name!r}, only {', '.join(dataset.channels)}: "
                    "name one of them in the training config, or build a store that has it"
                )
        self.dataset, self.input, self.target = dataset, input, target
        self._kept: OrderedDict[str, Pair] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, id: str) -> Pair:
        if id in self._kept:
            self._kept.move_to_end(id)
            return self._kept[id]
        sample = self.dataset[id]
        pair = Pair(id, sample.channels[self.input], sample.channels[self.target], sample.grid, sample.positions)
        self._kept[id] = pair
        self._bytes += _size(pair)
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return pair


def split_ids(dataset: Dataset, split: str) -> list[str]:
    """Ids of a split's samples, in row order. Raises StoreError where it has none."""
    table = dataset.table
    ids = [str(id) for id in table.index[table["split"] == split]]
    if not ids:
        raise StoreError(
            f'{dataset.store} has no samples in split "{split}": '
            f"build a store with more molecules, or with a larger {split} in [splits] of its recipe"
        )
    return ids


def _size(pair: Pair) -> int:
    return pair.guess.nbytes + pair.target.nbytes
