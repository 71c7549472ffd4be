"""Baselines without learning: cells' averages brought to finer cells by what lies between them alone.

Both methods conserve the averages of the coarse cells exactly, and so every electron. They act on one axis after the
other, each as one matrix. The Fourier method takes the box as periodic, so that its faces ought to lie in vacuum; for
the trilinear one there is vacuum beyond them.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def interpolate_trilinear(coarse: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Coarse averages, shape (nx, ny, nz), to fine ones, (factor·nx, …), linear between the middles of the cells."""
    return _refine(coarse, factor, linear_matrix)


def interpolate_fourier(coarse: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The same, as a sum of waves no shorter than two coarse cells."""
    return _refine(coarse, factor, fourier_matrix)


def coarsen(fine: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means over factor³ cells, shape (⌈nx/factor⌉, …); vacuum fills the box up to whole coarse cells."""
    filled = np.pad(fine, [(0, -n % factor) for n in fine.shape])
    x, y, z = (n // factor for n in filled.shape)
    means = filled.reshape(x, factor, y, factor, z, factor).mean(axis=(1, 3, 5), dtype=np.float64)
    return np.asarray(means, dtype=np.float32)


def _refine(coarse: NDArray[np.float32], factor: int, make_matrix: Callable[[int, int], Matrix]) -> NDArray[np.float32]:
    x, y, z = (make_matrix(cells, factor) for cells in coarse.shape)
    fine = np.einsum("ai,bj,ck,ijk->abc", x, y, z, coarse.astype(np.float64), optimize=True)
    return np.asarray(fine, dtype=np.float32)


@lru_cache
def linear_matrix(cells: int, factor: int) -> Matrix:
    """(factor·cells, cells): values in the middles of the coarse cells are chosen such that the averages come out."""
    places = (np.arange(cells * factor) + 0.5) / factor - 0.5  # in coarse cells, from the middle of the first
    hats = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(cells)))
    averages = hats.reshape(cells, factor, cells).mean(axis=1)
    return np.linalg.solve(averages.T, hats.T).T


@lru_cache
def fourier_matrix(cells: int, factor: int) -> Matrix:
    """(factor·cells, cells). A wave's average over a cell is its value in the middle, times a sinc of the width."""
    waves = np.fft.rfftfreq(cells)  # per coarse cell
    sharpened = np.fft.rfft(np.eye(cells), axis=0) * (np.sinc(waves / factor) / np.sinc(waves))[:, None]
    shifts = (np.arange(factor) + 0.5) / factor - 0.5  # of fine cells from the middle of theirs, in coarse cells
    rows = [np.fft.irfft(sharpened * np.exp(2j * np.pi * waves * shift)[:, None], cells, axis=0) for shift in shifts]
    return np.stack(rows, axis=1).reshape(cells * factor, cells)
