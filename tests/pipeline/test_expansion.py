"""Expanded densities, turned, cut and summed over many boxes, against the density of the state itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group

from pipeline.box_sums import ON_ACCELERATOR, ON_CPU, sum_boxes
from pipeline.collocation import (
    Expansion,
    density_at_points,
    density_in_cells,
    expand_density,
    expansions_at_points,
    expansions_in_cells,
)
from pipeline.engines.gaussian import GaussianEngine
from pipeline.engines.xtb import XtbEngine
from pipeline.rotation import rotate_state, turn_expansion
from pipeline.tables import hermite_in_cells
from storage.schema import Basis, Conformer, ElectronicState, FloatArray, Shell

EPSILON = 3e-7
Axes = tuple[FloatArray, FloatArray, FloatArray]


@pytest.fixture(scope="module")
def state() -> ElectronicState:
    """Two atoms with s to g shells, spherical and Cartesian, and orbitals at random."""
    noise = np.random.default_rng(5)
    shells = [
        Shell(degree, np.array([0.6 + 0.1 * degree, 1.7]), np.array([1.0, -0.4]), cartesian)
        for cartesian in (False, True)
        for degree in range(5)
    ]
    basis = Basis({6: shells, 8: shells[2:7]})
    numbers, positions = np.array([8, 6]), np.array([[0.2, -0.1, 0.4], [0.9, 1.1, -0.6]])
    orbitals = noise.normal(size=(3, basis.size(numbers))) / 20
    return ElectronicState(numbers, positions, basis, orbitals, np.array([2.0, 1.5, 0.5]))


def edges_of(shape: tuple[int, int, int], spacing: float = 0.4) -> Axes:
    """Of a box whose lowest corner is the origin."""
    x, y, z = (spacing * np.arange(cells + 1.0) for cells in shape)
    return x, y, z


def shifted(axes: Axes, corner: FloatArray) -> Axes:
    x, y, z = (along + start for along, start in zip(axes, corner.tolist(), strict=True))
    return x, y, z


def as_tensors(axes: Axes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, y, z = (torch.from_numpy(along) for along in axes)
    return x, y, z


def difference(values: object, expected: FloatArray) -> float:
    return float(np.abs(np.asarray(values, dtype=np.float64) - expected).sum() / np.abs(expected).sum())


@pytest.mark.parametrize("determinant", [1, -1])
def test_turned_and_cut_expansion_gives_the_density_of_the_turned_state(
    state: ElectronicState, determinant: int
) -> None:
    rotation = ortho_group.rvs(3, random_state=11)
    rotation *= determinant * np.linalg.det(rotation)
    edges, corner = edges_of((14, 11, 17)), np.array([-2.2, -1.4, -3.0])
    centres = tuple(along[:-1] + 0.2 for along in edges)
    turned = turn_expansion(expand_density(state, EPSILON), rotation)
    cut = turned.cut(corner, np.array([along[-1] for along in edges]))
    exact = rotate_state(state, rotation)
    in_cells = density_in_cells(exact, shifted(edges, corner), 1e-11)
    assert difference(expansions_in_cells([cut], edges)[0], in_cells) < 1e-6
    at_points = density_at_points(exact, shifted(centres, corner), 1e-11)
    assert difference(expansions_at_points([cut], centres)[0], at_points) < 1e-6


def test_steep_cores_keep_their_digits_in_single_precision() -> None:
    carbon_monoxide = Conformer("a#0", np.array([6, 8]), np.array([[0.0, 0.1, 0.2], [0.3, 0.2, 2.4]]), 0, 0, "", "")
    state = XtbEngine("gfn2", electrons="all").solve(carbon_monoxide)
    edges = edges_of((24, 24, 24))
    moved = replace(state, positions=state.positions + 4.0)
    expected = density_in_cells(moved, edges, 1e-11)
    assert expected.max() > 5  # a core is there
    assert difference(expansions_in_cells([expand_density(moved, EPSILON)], edges)[0], expected) < 1e-6


def test_a_cut_keeps_only_what_reaches_the_box() -> None:
    apart = Conformer("a#0", np.array([6, 1]), np.array([[0.0, 0.0, 0.0], [30.0, 0.0, 0.0]]), 0, 0, "", "")
    expansion = expand_density(GaussianEngine(exponent=1.2).solve(apart), EPSILON)
    edges = edges_of((10, 10, 10))
    size = np.array([along[-1] for along in edges])
    here = expansion.cut(np.array([28.0, -2.0, -2.0]), size)
    assert sum(len(part.exponents) for part in here.parts) == 1
    nowhere = expansion.cut(np.array([12.0, -2.0, -2.0]), size)
    assert nowhere.nbytes == 0
    fields = expansions_in_cells([here, nowhere], edges)
    assert fields.shape == (2, 10, 10, 10)
    assert float(fields[0].sum()) * 0.4**3 == pytest.approx(1, abs=0.05)  # hydrogen's electron
    assert not fields[1].any()


def several(state: ElectronicState) -> tuple[list[Expansion], Axes]:
    """Boxes with different numbers of terms, one of them empty."""
    edges, expansion = edges_of((9, 12, 7)), expand_density(state, EPSILON)
    size = np.array([along[-1] for along in edges])
    small = Conformer("a#0", np.array([1]), np.zeros((1, 3)), 0, 0, "", "")
    corners = np.array([[-2.0, -2.0, -1.0], [3.5, 0.0, 1.0], [90.0, 0.0, 0.0]])
    boxes = [expansion.cut(corner, size) for corner in corners]
    return [*boxes, expand_density(GaussianEngine(exponent=1.2).solve(small), EPSILON)], edges


def test_boxes_summed_together_are_those_summed_alone(state: ElectronicState) -> None:
    boxes, edges = several(state)
    alone = sum_boxes(boxes, as_tensors(edges), hermite_in_cells, ON_CPU)
    together = sum_boxes(boxes, as_tensors(edges), hermite_in_cells, ON_ACCELERATOR)
    assert together.dtype == torch.float32
    assert together.numpy() == pytest.approx(alone.numpy(), abs=1e-6)
    numpy = sum_boxes(boxes, edges, hermite_in_cells, ON_ACCELERATOR)
    assert numpy == pytest.approx(alone.numpy(), abs=1e-6)


def test_a_box_has_the_same_bits_whichever_others_come_with_it(state: ElectronicState) -> None:
    boxes, edges = several(state)
    whole = expansions_in_cells(boxes, as_tensors(edges))
    for box, field in zip(boxes, whole, strict=True):
        assert torch.equal(expansions_in_cells([box], as_tensors(edges))[0], field)
