"""Regions of a box: nothing is counted twice, nothing is left out."""

import numpy as np
import pytest

from storage.schema import Grid
from training.superres.regions import DISTANCES, find_regions, name_bins

GRID = Grid((12, 16, 14), (0.6, 0.6, 0.6), (-3.3, -4.5, -3.9))
NUMBERS = np.array([8, 1, 1])
POSITIONS = np.array([[0.0, 0.0, 0.2], [1.4, 0.0, -0.9], [-1.4, 0.0, -0.9]])


def test_regions_partition_the_whole() -> None:
    values = np.random.default_rng(1).random(GRID.shape)
    regions = find_regions(GRID, NUMBERS, POSITIONS)
    assert sum(regions.sum_by_distance(values)) == pytest.approx(values.sum(), rel=1e-12)
    assert sum(regions.sum_by_element(values).values()) == pytest.approx(values.sum(), rel=1e-12)
    assert list(regions.sum_by_element(values)) == ["H", "O"]


def test_cells_belong_to_the_bin_of_their_distance_and_to_the_nearest_element() -> None:
    """Cell by cell, with every distance spelt out."""
    regions = find_regions(GRID, NUMBERS, POSITIONS)
    random = np.random.default_rng(2)
    for cell in random.integers(0, GRID.shape, (60, 3)).tolist():
        centre = np.array([GRID.origin[axis] + 0.6 * cell[axis] for axis in range(3)])
        distances = np.linalg.norm(POSITIONS - centre, axis=1) * 0.529177210903
        one = np.zeros(GRID.shape)
        one[tuple(cell)] = 1.0
        place = regions.sum_by_distance(one).index(1.0)
        end = [*DISTANCES, np.inf][place + 1]
        assert DISTANCES[place] <= distances.min() < end
        nearest = {1: "H", 8: "O"}[int(NUMBERS[np.argmin(distances)])]
        assert regions.sum_by_element(one)[nearest] == 1.0


def test_each_bin_has_a_name() -> None:
    assert len(name_bins()) == len(DISTANCES)
    assert name_bins()[0] == "0–0.25"
    assert name_bins()[-1] == "3 and more"
