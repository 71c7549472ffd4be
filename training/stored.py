"""Boxes of stored voxels: whole, or crops near atoms, turned by a symmetry of the cube where that is wanted."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storage.shards import OpenShards, SampleArray, open_samples
from training.batch import Batch, Draw, draw_generator
from training.buffers import Buffers
from training.catalog import Catalog
from training.kept import KEPT_BYTES, Kept
from training.symmetries import AXES, COUNT, turn_back

SPREAD = 1 / 6  # of a crop's edge: how far its centre lies from the chosen atom, one standard deviation

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Cutting:
    """How boxes are cut out of stored ones."""

    crop: int = 0  # fine cells along an edge; 0: whole boxes, filled up with vacuum to the largest of a batch
    multiple: int = 1  # crops begin at multiples of so many cells, and whole boxes end at one
    turn: bool = False  # by one of the 48 symmetries of the cube, drawn anew for every turn of a sample
    seed: int = 0


@dataclass(frozen=True)
class Piece:
    """The part of a stored box that a batch takes, before it is turned."""

    draw: Draw
    corner: Triple  # first cell
    shape: Triple
    symmetry: int

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(first, first + n) for first, n in zip(self.corner, self.shape, strict=True))


class StoredBoxes:
    """Reads guesses and targets from the stores of a catalogue; threads may read at once."""

    def __init__(
        self,
        catalog: Catalog,
        input: str,
        target: str,
        cutting: Cutting,
        *,
        pinned: bool = False,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """`pinned`: batches lie where they can travel to a GPU while it computes. `kept_bytes`: of decoded boxes."""
        self.catalog, self.cutting, self._channels, self._pinned = catalog, cutting, (input, target), pinned
        self._shards = OpenShards()
        self._buffers = Buffers()
        self._kept = Kept[tuple[int, str], NDArray[np.float32]](kept_bytes)
        self._all_judged = lru_cache(maxsize=16)(self._judge_all)
        self._array = cache(self._open_array)

    def read(self, draws: Sequence[Draw]) -> Batch:
        pieces = [self._choose_piece(draw) for draw in draws]
        shape = (len(pieces), *self._choose_shape(pieces))
        guess, target = (self._allocate(shape, np.float32) for _ in self._channels)
        for channel, boxes in zip(self._channels, (guess.numpy(), target.numpy()), strict=True):
            for piece, values in zip(pieces, boxes, strict=True):
                self._fill(values, piece, channel)
        judged = self._find_judged(pieces, shape)
        ids = tuple(self.catalog.ids[draw.sample] for draw in draws)
        return Batch(ids, guess, target, judged, (float(np.prod(self.catalog.spacing)),) * len(ids))

    def _allocate(self, shape: tuple[int, ...], dtype: type[np.generic]) -> Tensor:
        if self._pinned:
            return torch.empty(shape, dtype=torch.bool if dtype is np.bool_ else torch.float32, pin_memory=True)
        return self._buffers.take(shape, dtype)

    def _choose_piece(self, draw: Draw) -> Piece:
        shape, crop = self.catalog.shapes[draw.sample], self.cutting.crop
        if not (crop or self.cutting.turn):
            return Piece(draw, (0, 0, 0), _triple(shape), 0)
        random = draw_generator(self.cutting.seed, draw.epoch, self.catalog.ids[draw.sample])
        corner = self._choose_corner(draw.sample, random) if crop else np.zeros(3, dtype=np.int64)
        symmetry = int(random.integers(COUNT)) if self.cutting.turn else 0
        return Piece(draw, _triple(corner), _triple(np.minimum(shape - corner, crop or shape)), symmetry)

    def _choose_corner(self, sample: int, random: np.random.Generator) -> NDArray[np.int64]:
        """A crop's first cell, a multiple of the coarse cells; the crop lies inside the box where it is no larger."""
        crop, multiple, positions = self.cutting.crop, self.cutting.multiple, self.catalog.positions_of(sample)
        atom = positions[random.integers(len(positions))]
        centre = (atom - self.catalog.origins[sample]) / self.catalog.spacing + random.normal(0, SPREAD * crop, 3)
        last = np.maximum(0, self.catalog.shapes[sample] - crop)
        corner: NDArray[np.int64] = np.clip(np.round(centre - crop / 2), 0, last).astype(np.int64)
        return corner // multiple * multiple

    def _choose_shape(self, pieces: Sequence[Piece]) -> Triple:
        """The box of a batch: a crop, or one that holds every whole box as it is turned."""
        if self.cutting.crop:
            return (self.cutting.crop,) * 3
        largest = np.max([_turned_shape(piece) for piece in pieces], axis=0)
        return _triple(-(-largest // self.cutting.multiple) * self.cutting.multiple)

    def _fill(self, values: NDArray[np.float32], piece: Piece, channel: str) -> None:
        """One box of a batch with a sample's values, vacuum where these end."""
        sample = piece.draw.sample
        box = self._kept.find((sample, channel))
        if box is None:
            cells = int(self.catalog.cells[sample])
            is_whole = values.shape == piece.shape == (cells,) * 3 and not piece.symmetry
            box = values if is_whole else np.empty((cells,) * 3, dtype=np.float32)
            self._read_sample(sample, channel, box)
            if is_whole:
                return
        if _turned_shape(piece) != values.shape:
            values[...] = 0
        _place(values, piece)[...] = box[piece.slices]

    def _read_sample(self, sample: int, channel: str, box: NDArray[np.float32]) -> None:
        """Fill the array of a sample's size class with what is stored, padding and all."""
        array = self._array(int(self.catalog.stores[sample]), int(self.catalog.cells[sample]), channel)
        array.read(int(self.catalog.rows[sample]), self.catalog.ids[sample], box)
        if array.is_encoded:
            filled = box[tuple(map(slice, self.catalog.shapes[sample].tolist()))]
            self._kept.add((sample, channel), filled.nbytes, filled.copy)

    def _find_judged(self, pieces: Sequence[Piece], shape: tuple[int, ...]) -> Tensor:
        """Cells inside their piece, a coarse cell and more away from where its surroundings were cut away."""
        inner = [self._find_inner(piece) for piece in pieces]
        everything = tuple(slice(0, n) for n in shape[1:])
        if all(cells == everything for cells in inner):
            return self._all_judged(shape)
        judged = self._allocate(shape, np.bool_).fill_(False)
        for values, piece, cells in zip(judged.numpy(), pieces, inner, strict=True):
            _place(values, piece)[cells] = True
        return judged

    def _find_inner(self, piece: Piece) -> tuple[slice, ...]:
        if not self.cutting.crop:
            return tuple(slice(0, n) for n in piece.shape)
        ends, margin = self.catalog.shapes[piece.draw.sample].tolist(), self.cutting.multiple
        return tuple(
            slice(margin if first else 0, n - margin if first + n < end else n)
            for first, n, end in zip(piece.corner, piece.shape, ends, strict=True)
        )

    def _judge_all(self, shape: tuple[int, ...]) -> Tensor:
        """One tensor for all such batches: writing it anew each time would cost a tenth of the reading."""
        return torch.ones(shape, dtype=torch.bool, pin_memory=self._pinned)

    def _open_array(self, store: int, cells: int, channel: str) -> SampleArray:
        return open_samples(self.catalog.datasets[store].store, cells, channel, self._shards)


def _place(values: NDArray[Any], piece: Piece) -> NDArray[Any]:
    """Where a piece comes to lie in a box of a batch, as it is before it is turned: a view to write to."""
    return turn_back(values[tuple(map(slice, _turned_shape(piece)))], piece.symmetry)


def _turned_shape(piece: Piece) -> Triple:
    x, y, z = AXES[piece.symmetry // 8]
    return piece.shape[x], piece.shape[y], piece.shape[z]


def _triple(values: NDArray[np.int64]) -> Triple:
    x, y, z = values.tolist()
    return x, y, z
