"""Coarser levels of a field: exact means of its cells, or fewer of its points; nothing is sampled again."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from storage.errors import RequestError
from storage.schema import Grid, Sampling

T = TypeVar("T", bound=np.floating)


def coarsen(values: NDArray[T], grid: Grid, factor: int, sampling: Sampling) -> tuple[NDArray[T], Grid]:
    """Means over factor³ cells, or every factor-th point, of the last three axes, with the grid they lie on.

    Sums run in double precision. Raises RequestError where the factor does not divide the cells.
    """
    if factor < 1 or any(cells % factor for cells in grid.shape):
        shape = "×".join(map(str, grid.shape))
        raise RequestError(f"{shape} cells cannot be joined by {factor}: choose a factor that divides each number")
    nx, ny, nz = (cells // factor for cells in grid.shape)
    dx, dy, dz = (factor * spacing for spacing in grid.spacing)
    if sampling == "point":
        return values[..., ::factor, ::factor, ::factor], Grid((nx, ny, nz), (dx, dy, dz), grid.origin)
    split = values.reshape(*values.shape[:-3], nx, factor, ny, factor, nz, factor)
    x, y, z = (first + spacing * (factor - 1) / 2 for first, spacing in zip(grid.origin, grid.spacing, strict=True))
    means = split.mean(axis=(-5, -3, -1), dtype=np.float64).astype(values.dtype)
    return means, Grid((nx, ny, nz), (dx, dy, dz), (x, y, z))
