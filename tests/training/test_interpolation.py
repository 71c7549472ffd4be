"""Interpolation between coarse cells: it is exact for the fields it assumes, and moves no electron."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from training.models.interpolation import coarsen, interpolate_fourier, interpolate_trilinear

COARSE = (10, 8, 12)  # cells
Interpolation = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
METHODS: list[Interpolation] = [interpolate_trilinear, interpolate_fourier]


def average_waves(cells: tuple[int, int, int], waves: tuple[int, int, int]) -> NDArray[np.float32]:
    """1 + a product of sines with so many waves across the box, as exact averages over the cells."""
    rows = []
    for count, wave in zip(cells, waves, strict=True):
        edges = 2 * np.pi * wave * np.arange(count + 1) / count + 0.3
        rows.append(np.diff(-np.cos(edges)) / np.diff(edges))
    return 1 + multiply(*rows)


def multiply(x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(x[:, None, None] * y[:, None] * z, dtype=np.float32)


@pytest.mark.parametrize("factor", [2, 4])
def test_fourier_interpolation_is_exact_for_waves_that_coarse_cells_resolve(factor: int) -> None:
    fine = average_waves((COARSE[0] * factor, COARSE[1] * factor, COARSE[2] * factor), (3, 2, 5))
    assert interpolate_fourier(coarsen(fine, factor), factor) == pytest.approx(fine, abs=1e-6)
    assert interpolate_trilinear(coarsen(fine, factor), factor) != pytest.approx(fine, abs=1e-2)


@pytest.mark.parametrize("factor", [2, 4])
def test_trilinear_interpolation_is_exact_for_a_tent_with_its_edges_in_the_middles_of_cells(factor: int) -> None:
    """Per axis the integral of a piecewise linear function, by which cells' averages are exact."""
    x = average_tent([0, 0, 2, 5, 1, 1, 3, 0, 0, 0], factor)
    y = average_tent([0, 1, 4, 1, 2, 1, 0, 0], factor)
    z = average_tent([0, 0, 0, 1, 3, 3.5, 2, 1, 0, 0, 0, 0], factor)
    fine = multiply(x, y, z)
    assert interpolate_trilinear(coarsen(fine, factor), factor) == pytest.approx(fine, abs=1e-4)
    assert interpolate_fourier(coarsen(fine, factor), factor) != pytest.approx(fine, abs=1e-1)


def average_tent(corners: list[float], factor: int) -> NDArray[np.float64]:
    """Averages over the fine cells of what is linear between values in the middles of the coarse ones, and then zero.

    The middles lie on the fine cells' edges, as `factor` is even: a fine cell's average is the mean of its edges.
    """
    edges = np.arange(factor * len(corners) + 1) / factor - 0.5
    values = np.interp(edges, np.arange(-1, len(corners) + 1), [0, *corners, 0])
    return (values[1:] + values[:-1]) / 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [2, 4])
def test_averages_over_coarse_cells_are_kept(method: Interpolation, factor: int) -> None:
    coarse = np.random.default_rng(5).uniform(0, 1, COARSE).astype(np.float32)
    fine = method(coarse, factor)
    assert fine.shape == tuple(factor * cells for cells in COARSE)
    assert coarsen(fine, factor) == pytest.approx(coarse, abs=1e-6)
    assert np.ptp(fine[:factor, :factor, :factor]) > 0.01


def test_boxes_are_filled_up_with_vacuum_to_whole_coarse_cells() -> None:
    fine = np.ones((5, 4, 3), dtype=np.float32)
    coarse = coarsen(fine, 2)
    assert coarse.shape == (3, 2, 2)
    assert coarse[2, 1, 1] == pytest.approx(1 / 4)
    assert 8 * coarse.sum() == pytest.approx(fine.sum())
