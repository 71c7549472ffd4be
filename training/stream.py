"""The crops of every training step: a pure function of the seed and the step, so that a resumed run sees the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from training.pairs import Pair, Pairs
from training.symmetries import COUNT, turn

SPREAD = 1 / 6  # of a crop's edge: how far its centre lies from the chosen atom, one standard deviation


@dataclass(frozen=True)
class Crops:
    """Pieces of the training boxes, shape (batch, n, n, n), electrons/bohr³."""

    guess: NDArray[np.float32]
    target: NDArray[np.float32]


@dataclass(frozen=True)
class Stream:
    """Every epoch takes each sample once, in a new order, cut near a random atom and turned at random."""

    pairs: Pairs
    ids: Sequence[str]
    batch: int
    crop: int  # cells along an edge
    factor: int  # crops begin at whole coarse cells
    seed: int

    def read(self, step: int) -> Crops:
        crops = [self._crop(place) for place in range(step * self.batch, (step + 1) * self.batch)]
        guesses, targets = zip(*crops, strict=True)
        return Crops(np.stack(guesses), np.stack(targets))

    def _crop(self, place: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        epoch, number = divmod(place, len(self.ids))
        pair = self.pairs[self.ids[_order(self.seed, epoch, len(self.ids))[number]]]
        random = np.random.default_rng((self.seed, epoch, number))
        corner = _choose_corner(pair, self.crop, self.factor, random)
        symmetry = int(random.integers(COUNT))
        guess, target = (turn(cut(values, corner, self.crop), symmetry) for values in (pair.guess, pair.target))
        return guess, target


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(samples)


def _choose_corner(pair: Pair, crop: int, factor: int, random: np.random.Generator) -> tuple[int, ...]:
    """The crop's first cell, a multiple of the factor; the crop lies inside the box where it is no larger."""
    atom = pair.positions[random.integers(len(pair.positions))]
    centre = (atom - pair.grid.origin) / pair.grid.spacing + random.normal(0, SPREAD * crop, 3)
    last = np.maximum(0, np.array(pair.grid.shape) - crop)
    corner = np.clip(np.round(centre - crop / 2), 0, last)
    return tuple(int(cell) // factor * factor for cell in corner)


def cut(values: NDArray[np.float32], corner: tuple[int, ...], crop: int) -> NDArray[np.float32]:
    """A cube of `crop` cells along an edge, filled with vacuum where it leaves the box."""
    piece = values[tuple(slice(first, first + crop) for first in corner)]
    return np.pad(piece, [(0, crop - n) for n in piece.shape])
