"""Coarser levels are exact means of the finer one, on the grid that its joined cells make."""

from dataclasses import replace

import numpy as np
import pytest

from storage.errors import RequestError
from storage.levels import coarsen
from storage.reader import StoredSample
from storage.schema import Grid

GRID = Grid((4, 2, 6), (0.5, 0.25, 1.0), (-1.0, 0.0, 2.0))


def test_every_coarse_cell_is_the_mean_of_its_fine_cells() -> None:
    values = np.arange(2 * 4 * 2 * 6, dtype=np.float64).reshape(2, 4, 2, 6)
    coarse, grid = coarsen(values, GRID, 2, "cell")
    assert coarse.shape == (2, 2, 1, 3)
    assert coarse[1, 0, 0, 2] == values[1, 0:2, 0:2, 4:6].mean()
    assert coarse.mean() == values.mean()
    for axis in range(3):
        assert np.array_equal(grid.edges(axis), GRID.edges(axis)[::2])


def test_points_are_thinned_and_stay_where_they_are() -> None:
    values = np.arange(48, dtype=np.float64).reshape(4, 2, 6)
    coarse, grid = coarsen(values, GRID, 2, "point")
    assert coarse[1, 0, 2] == values[2, 0, 4]
    for axis in range(3):
        assert np.array_equal(grid.centres(axis), GRID.centres(axis)[::2])


def test_levels_of_levels_agree_where_values_are_steps() -> None:
    steps = np.random.default_rng(3).integers(0, 2**12, (8, 8, 8)).astype(np.float32) * np.float32(2.0**-20)
    grid = Grid((8, 8, 8), (0.1,) * 3, (0.0,) * 3)
    twice = coarsen(*coarsen(steps, grid, 2, "cell"), 2, "cell")
    assert np.array_equal(twice[0], coarsen(steps, grid, 4, "cell")[0])


@pytest.mark.parametrize("factor", [0, 3, 4])
def test_a_factor_that_does_not_divide_the_cells_is_refused(factor: int) -> None:
    with pytest.raises(RequestError, match=f"4×2×6 cells cannot be joined by {factor}"):
        coarsen(np.zeros(GRID.shape), GRID, factor, "cell")


def test_a_stored_channel_is_coarsened_on_reading(water: StoredSample) -> None:
    means, grid = water.coarsen("guess", 2)
    assert grid.shape == (2, 2, 2)
    assert means.sum() * grid.cell_volume == pytest.approx(water.channels["guess"].sum() * water.grid.cell_volume)
    lengths = replace(water, lengths=["guess"])
    with pytest.raises(RequestError, match="rhoflow voxelize"):
        lengths.coarsen("guess", 2)
