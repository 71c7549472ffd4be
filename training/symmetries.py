"""The 48 ways in which a cube can be turned and mirrored onto itself."""

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

AXES = tuple(permutations(range(3)))
COUNT = 8 * len(AXES)


def _is_rotation(symmetry: int) -> bool:
    """Whether it mirrors nothing: an even permutation of axes with an even number of reversals, or both odd."""
    order, mirrors = divmod(symmetry, 8)
    x, y, z = AXES[order]
    inversions = (x > y) + (x > z) + (y > z)
    return (inversions + mirrors.bit_count()) % 2 == 0


ROTATIONS = tuple(symmetry for symmetry in range(COUNT) if _is_rotation(symmetry))  # 24; the first turns nothing


def turn(values: NDArray[Any], symmetry: int) -> NDArray[Any]:
    """A view of `values`, shape (…, n, n, n), after one of the 48 symmetries: axes permuted, then reversed."""
    order, mirrors = divmod(symmetry, 8)
    leading = values.ndim - 3
    turned = np.transpose(values, (*range(leading), *(leading + axis for axis in AXES[order])))
    return np.flip(turned, _reversed_axes(mirrors, leading))


def turn_back(values: NDArray[Any], symmetry: int) -> NDArray[Any]:
    """The inverse of `turn`."""
    order, mirrors = divmod(symmetry, 8)
    leading = values.ndim - 3
    inverse = (leading + AXES[order].index(axis) for axis in range(3))
    return np.transpose(np.flip(values, _reversed_axes(mirrors, leading)), (*range(leading), *inverse))


def _reversed_axes(mirrors: int, leading: int) -> tuple[int, ...]:
    return tuple(leading + axis for axis in range(3) if mirrors >> axis & 1)
