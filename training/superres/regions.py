"""The parts of a box: by distance from the nearest nucleus, and by that nucleus's element."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.elements import SYMBOLS
from pipeline.units import ANGSTROM_PER_BOHR
from storage.schema import FloatArray, Grid, IntArray

DISTANCES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # Å, where bins begin; the last has no end


@dataclass(frozen=True)
class Regions:
    """Every cell of a box lies in one bin and belongs to one element; cells go by their centres."""

    bins: IntArray  # (nx, ny, nz), place in DISTANCES
    numbers: IntArray  # (nx, ny, nz), atomic number of the nearest nucleus

    def sum_by_distance(self, values: FloatArray) -> list[float]:
        """Sums of values (nx, ny, nz) over the cells of each bin."""
        sums = np.bincount(self.bins.ravel(), weights=values.ravel(), minlength=len(DISTANCES))
        return [float(value) for value in sums]

    def sum_by_element(self, values: FloatArray) -> dict[str, float]:
        """The same by symbol, for the elements that some cell belongs to, in order of their numbers."""
        sums = np.bincount(self.numbers.ravel(), weights=values.ravel())
        return {SYMBOLS[number]: float(sums[number]) for number in np.unique(self.numbers).tolist()}


def find_regions(grid: Grid, numbers: IntArray, positions: FloatArray) -> Regions:
    """Of a molecule's box; `numbers` (atoms,), `positions` (atoms, 3) in bohr."""
    nearest = np.full(grid.shape, np.inf)
    owner = np.zeros(grid.shape, dtype=np.int64)
    for number, position in zip(numbers.tolist(), positions, strict=True):
        x, y, z = ((grid.centres(axis) - position[axis]) ** 2 for axis in range(3))
        squares = x[:, None, None] + y[None, :, None] + z
        owner[squares < nearest] = number
        np.minimum(nearest, squares, out=nearest)
    bins: NDArray[np.int64] = np.digitize(np.sqrt(nearest) * ANGSTROM_PER_BOHR, DISTANCES[1:])
    return Regions(bins, owner)


def name_bins() -> list[str]:
    """Of each bin, in Å: 0–0.25 and so on, the last "3 and more"."""
    return [f"{low:g}–{high:g}" for low, high in pairwise(DISTANCES)] + [f"{DISTANCES[-1]:g} and more"]
