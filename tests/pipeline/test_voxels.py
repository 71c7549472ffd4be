"""Grids that hold molecules, and fields on them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from pipeline.engines.gaussian import GaussianEngine
from pipeline.failures import TooLarge, UnsupportedElement
from pipeline.voxels import (
    atom_types,
    molecular_shape,
    place_grid,
    place_tight_grid,
    principal_axes,
    round_to_step,
    sample_density,
    sample_gradient_magnitude,
)
from storage.levels import coarsen
from storage.schema import Conformer, ElectronicState, FloatArray, Grid, IntArray

CLASSES = (16, 24, 32, 48)
WATER = (np.array([8, 1, 1]), np.array([[0, 0, 0.12], [0.21, 1.43, -0.98], [-0.1, -1.5, -0.9]]))
# Symmetric tops, where two principal moments are equal, and shapes that leave signs open.
RING = np.array([[math.cos(a), math.sin(a), 0.0] for a in np.arange(6) * math.pi / 3])
SHAPES = {
    "bent": WATER,
    "benzene": (np.array([6] * 6 + [1] * 6), np.concatenate([2.6 * RING, 4.7 * RING])),
    "methane": (
        np.array([6, 1, 1, 1, 1]),
        1.2 * np.array([[0.0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]),
    ),
    "ammonia": (np.array([7, 1, 1, 1]), np.concatenate([[[0.0, 0, 0.7]], 1.8 * RING[::2]])),
}


def smooth(numbers: IntArray, positions: FloatArray) -> ElectronicState:
    return GaussianEngine().solve(Conformer("a#0", numbers, positions, 0, 0, "", ""))


def test_grid_holds_the_atoms_and_the_margin_in_the_smallest_class() -> None:
    grid = place_grid(WATER[1], 0.4, 2.0, CLASSES)
    assert grid.shape == (24, 24, 24)  # 2.93 + 2·2 bohr in cells of 0.4: 18
    for axis in range(3):
        assert grid.edges(axis)[0] <= WATER[1][:, axis].min() - 2.0
        assert grid.edges(axis)[-1] >= WATER[1][:, axis].max() + 2.0


def test_grid_is_centred_on_the_extent() -> None:
    grid = place_grid(WATER[1], 0.4, 2.0, CLASSES)
    middle = (WATER[1].min(axis=0) + WATER[1].max(axis=0)) / 2
    assert [grid.edges(axis)[[0, -1]].mean() for axis in range(3)] == pytest.approx(middle)


def test_a_box_that_just_fits_is_enough() -> None:
    assert place_grid(np.zeros((1, 3)), 0.25, 2.0, CLASSES).shape[0] == 16


def test_a_molecule_beyond_the_largest_class_is_too_large_by_name() -> None:
    with pytest.raises(TooLarge, match=r"needs 70 cells a side; the largest grid class has 48"):
        place_grid(WATER[1], 0.1, 2.0, CLASSES)


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_principal_frame_does_not_depend_on_the_way_a_molecule_lay(shape: str, seed: int) -> None:
    numbers, positions = SHAPES[shape]
    expected = (positions - positions[0]) @ principal_axes(positions, numbers).T
    turned = positions @ Rotation.random(rng=seed).as_matrix().T + 0.3
    frame = principal_axes(turned, numbers)
    assert np.linalg.det(frame) == pytest.approx(1)
    assert frame @ frame.T == pytest.approx(np.eye(3), abs=1e-12)
    assert (turned - turned[0]) @ frame.T == pytest.approx(expected, abs=1e-7)


def test_principal_axes_put_the_longest_first() -> None:
    numbers, positions = SHAPES["benzene"]
    extent = np.ptp(positions[:, [2, 0, 1]] @ principal_axes(positions[:, [2, 0, 1]], numbers).T, axis=0)
    assert extent[2] == pytest.approx(0, abs=1e-9)
    assert extent[0] >= extent[1]


def test_atoms_and_lines_have_principal_axes_too() -> None:
    assert principal_axes(np.array([[1.0, 2, 3]]), np.array([2])) == pytest.approx(np.eye(3))
    line = np.array([[0.0, 0, 0], [0, 1, 1], [0, -1, -1]])
    frame = principal_axes(line, np.array([6, 8, 8]))
    assert line @ frame.T == pytest.approx(math.sqrt(2) * np.array([[0.0, 0, 0], [1, 0, 0], [-1, 0, 0]]), abs=1e-12)
    assert np.linalg.det(frame) == pytest.approx(1)


def test_density_in_cells_holds_every_electron() -> None:
    grid = place_grid(WATER[1], 0.5, 8.0, CLASSES)
    values = sample_density(smooth(*WATER), grid, "cell")
    assert values.sum() * grid.cell_volume == pytest.approx(8, abs=1e-5)


def test_point_and_cell_sampling_meet_on_fine_grids() -> None:
    """A cell's mean is its centre's value + h²/24·∇²ρ, and |∇²ρ| ≤ 6·a·ρ(0) for one Gaussian."""
    grid = Grid((12, 12, 12), (0.05, 0.05, 0.05), (0.1, -0.3, 0.2))
    state = smooth(np.array([1]), np.zeros((1, 3)))
    cell, point = (sample_density(state, grid, sampling) for sampling in ("cell", "point"))
    assert np.abs(cell - point).max() <= 0.05**2 / 24 * 6 * 1.2 * (1.2 / math.pi) ** 1.5
    assert np.abs(cell - point).max() > 1e-6


def test_gradient_magnitude_of_one_gaussian() -> None:
    grid = Grid((9, 10, 11), (0.3, 0.4, 0.35), (-1.1, -2.0, -1.4))
    state = smooth(np.array([1]), np.zeros((1, 3)))
    x, y, z = np.meshgrid(*(grid.centres(axis) for axis in range(3)), indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    expected = 2.4 * radius * (1.2 / math.pi) ** 1.5 * np.exp(-1.2 * radius**2)
    assert sample_gradient_magnitude(state, grid, "point") == pytest.approx(expected, abs=1e-8)


def test_gradient_of_a_cell_centred_on_the_atom_vanishes() -> None:
    grid = Grid((3, 3, 3), (0.5, 0.5, 0.5), (-0.5, -0.5, -0.5))
    length = sample_gradient_magnitude(smooth(np.array([1]), np.zeros((1, 3))), grid, "cell")
    assert length[1, 1, 1] == pytest.approx(0, abs=1e-9)  # the vector is averaged, not its length
    assert length[0, 1, 1] > 0.1


def test_atom_types_sort_atoms_by_element() -> None:
    numbers, positions = np.array([6, 8, 17]), np.array([[0.0, 0, 0], [2.3, 0, 0], [-3.3, 0, 0]])
    grid = Grid((20, 9, 9), (0.5, 0.5, 0.5), (-5.0, -2.0, -2.0))
    channels = atom_types(numbers, positions, grid, "point", [8, 6, 7])
    assert channels.shape == (4, 20, 9, 9)
    assert not channels[2].any()
    x, y, z = np.meshgrid(*(grid.centres(axis) for axis in range(3)), indexing="ij")
    for channel, atom, radius in ((0, 1, 1.50), (1, 0, 1.77), (3, 2, 1.82)):  # Alvarez 2013, ångström
        distance = (x - positions[atom, 0]) ** 2 + y**2 + z**2
        assert channels[channel] == pytest.approx(np.exp(-2 * distance / (radius / 0.529177210903) ** 2), abs=1e-12)


def test_atom_types_in_cells_are_exact_averages() -> None:
    numbers, positions = WATER
    fine, coarse = Grid((24,) * 3, (0.3,) * 3, (-3.4, -3.4, -3.4)), Grid((12,) * 3, (0.6,) * 3, (-3.25, -3.25, -3.25))
    expected = atom_types(numbers, positions, coarse, "cell", [8])
    means, grid = coarsen(atom_types(numbers, positions, fine, "cell", [8]), fine, 2, "cell")
    assert means == pytest.approx(expected, abs=1e-13)
    assert np.allclose(grid.origin, coarse.origin)
    wide = Grid((40,) * 3, (0.7,) * 3, (-13.6,) * 3)
    total = atom_types(numbers, positions, wide, "cell", [8])[0].sum() * wide.cell_volume
    assert total == pytest.approx((math.pi / 2) ** 1.5 * (1.50 / 0.529177210903) ** 3, rel=1e-9)


def union(r: FloatArray) -> FloatArray:
    """The smooth union of water's spheres at points (…, 3)."""
    empty = np.ones(r.shape[:-1])
    for radius, place in zip([1.50, 1.20, 1.20], WATER[1], strict=True):  # Alvarez 2013, ångström
        empty *= 1 - np.exp(-2 * np.sum((r - place) ** 2, axis=-1) / (radius / 0.529177210903) ** 2)
    return 1 - empty


def test_the_shape_at_points_is_the_union_of_atoms() -> None:
    grid = Grid((12, 11, 10), (0.5, 0.6, 0.7), (-3.0, -3.1, -3.2))
    shape = molecular_shape(*WATER, grid, "point")
    points = np.stack(np.meshgrid(*(grid.centres(axis) for axis in range(3)), indexing="ij"), axis=-1)
    assert shape == pytest.approx(union(points), abs=1e-14)
    assert 0 < shape.min() < 0.01
    assert 0.9 < shape.max() <= 1


@pytest.mark.parametrize(("spacing", "tolerance"), [(0.378, 1e-6), (1.134, 1e-5)])
def test_the_shape_in_cells_is_its_mean_there(spacing: float, tolerance: float) -> None:
    cells = 8
    grid = Grid((cells,) * 3, (spacing,) * 3, (-spacing * (cells - 1) / 2,) * 3)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    along = [np.add.outer(grid.centres(axis), nodes * spacing / 2).ravel() for axis in range(3)]
    values = union(np.stack(np.meshgrid(*along, indexing="ij"), axis=-1)).reshape((cells, 8) * 3)
    means = np.einsum("iajbkc,a,b,c->ijk", values, weights / 2, weights / 2, weights / 2, optimize=True)
    assert molecular_shape(*WATER, grid, "cell") == pytest.approx(means, abs=tolerance)


def test_an_element_without_a_radius_is_refused_by_name() -> None:
    grid = place_grid(np.zeros((1, 3)), 1.0, 2.0, CLASSES)
    with pytest.raises(UnsupportedElement, match="Po"):
        atom_types(np.array([84]), np.zeros((1, 3)), grid, "cell", [6])


def test_a_tight_box_holds_the_margin_in_multiples_of_cells() -> None:
    grid = place_tight_grid(WATER[1], 0.25, 2.0, 4)
    extents = np.ptp(WATER[1], axis=0) + 4.0
    assert all(cells % 4 == 0 for cells in grid.shape)
    sizes = np.array(grid.shape) * 0.25
    assert np.all(sizes >= extents - 1e-9)
    assert np.all(sizes < extents + 4 * 0.25)
    low = np.array([grid.edges(axis)[0] for axis in range(3)])
    assert low + sizes / 2 == pytest.approx((WATER[1].min(axis=0) + WATER[1].max(axis=0)) / 2)


@given(arrays(np.float64, 8, elements=st.floats(-15, 15)))
def test_rounded_values_are_multiples_of_the_step_within_half_of_it(values: FloatArray) -> None:
    step = 2.0**-20  # the largest power of two not above 1e-6
    rounded = round_to_step(values, 1e-6)
    assert rounded.dtype == np.float32
    steps = rounded.astype(np.float64) / step
    assert np.all(steps == np.rint(steps))
    assert np.abs(rounded - values).max() <= step / 2
    assert np.array_equal(round_to_step(values, step), rounded)


def test_rounding_to_zero_keeps_every_bit() -> None:
    values = np.random.default_rng(1).normal(size=50)
    assert np.array_equal(round_to_step(values, 0), values.astype(np.float32))
