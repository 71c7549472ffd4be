"""What a training step sees: boxes of guesses with their targets, and whose turn it is."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Boxes of one shape, (batch, nx, ny, nz), electrons/bohr³."""

    ids: tuple[str, ...]
    guess: Tensor
    target: Tensor
    judged: Tensor  # bool; False where a crop's surroundings were cut away, or a box was filled up with vacuum
    volumes: tuple[float, ...]  # of each box's cells, bohr³


@dataclass(frozen=True)
class Draw:
    """One sample's turn."""

    sample: int  # place in the catalogue
    epoch: int


class Boxes(Protocol):
    """Where the boxes of a batch come from: stored voxels, or wavefunctions put on fresh grids."""

    def read(self, draws: Sequence[Draw]) -> Batch: ...


def draw_generator(seed: int, epoch: int, id: str) -> np.random.Generator:
    """The random choices of a sample's turn, wherever in the epoch, and on whichever machine, it comes."""
    return np.random.default_rng((seed, epoch, zlib.crc32(id.encode())))


def find_electrons(box: Batch, stored: float) -> float:
    """The guess's electrons in a batch's only box: as stored, or where that is NaN the sum over its cells."""
    return box.volumes[0] * float(box.guess.sum(dtype=torch.float64)) if np.isnan(stored) else stored
