"""Turned states against what turning a picture does."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ortho_group

from pipeline.collocation import density_at_points
from pipeline.rotation import rotate_state
from storage.schema import Basis, ElectronicState, FloatArray, Shell

SHELLS = [(degree, cartesian) for cartesian in (False, True) for degree in range(5)]


@pytest.fixture
def state() -> ElectronicState:
    """Two atoms with s to g shells, spherical and Cartesian, and orbitals at random."""
    noise = np.random.default_rng(5)
    shells = [
        Shell(degree, np.array([0.6 + 0.1 * degree, 1.7]), np.array([1.0, -0.4]), cartesian)
        for degree, cartesian in SHELLS
    ]
    basis = Basis({6: shells, 8: shells[2:7]})
    numbers, positions = np.array([8, 6]), np.array([[0.2, -0.1, 0.4], [0.9, 1.1, -0.6]])
    orbitals = noise.normal(size=(3, basis.size(numbers))) / 20
    return ElectronicState(numbers, positions, basis, orbitals, np.array([2.0, 1.5, 0.5]), dipole=(0.3, -1.2, 0.5))


def density_at(state: ElectronicState, point: FloatArray) -> float:
    x, y, z = point
    return float(density_at_points(state, (np.array([x]), np.array([y]), np.array([z])), 1e-18)[0, 0, 0])


@pytest.mark.parametrize("determinant", [1, -1])
def test_density_of_the_turned_state_is_found_at_turned_points(state: ElectronicState, determinant: int) -> None:
    rotation = ortho_group.rvs(3, random_state=11)
    rotation *= determinant * np.linalg.det(rotation)
    turned = rotate_state(state, rotation)
    for point in np.random.default_rng(2).uniform(-1.5, 1.5, size=(20, 3)):
        expected = density_at(state, point)
        assert density_at(turned, rotation @ point) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("axis", "plane"), [(0, (1, 2)), (1, (2, 0)), (2, (0, 1))])
def test_quarter_turns_permute_the_array(state: ElectronicState, axis: int, plane: tuple[int, int]) -> None:
    turn = np.eye(3)
    turn[list(plane)] = -turn[plane[1]], turn[plane[0]]
    assert turn[axis, axis] == 1
    ticks = 0.5 * (np.arange(11) - 5)
    still = density_at_points(state, (ticks, ticks, ticks), 1e-16)
    turned = density_at_points(rotate_state(state, turn), (ticks, ticks, ticks), 1e-16)
    assert turned == pytest.approx(np.rot90(still, axes=plane), rel=1e-12, abs=1e-12)


def test_positions_and_dipole_turn_and_turning_back_restores_the_orbitals(state: ElectronicState) -> None:
    rotation = ortho_group.rvs(3, random_state=4)
    turned = rotate_state(state, rotation)
    assert turned.positions[1] == pytest.approx(rotation @ state.positions[1], abs=1e-15)
    assert turned.dipole == pytest.approx(rotation @ np.array(state.dipole), abs=1e-15)
    assert rotate_state(turned, rotation.T).orbitals == pytest.approx(state.orbitals, abs=1e-13)


def test_a_matrix_that_is_no_rotation_is_refused(state: ElectronicState) -> None:
    with pytest.raises(ValueError, match="orthogonal"):
        rotate_state(state, np.diag([1.0, 1.0, 1.1]))


def test_a_periodic_state_is_not_turned(state: ElectronicState) -> None:
    with pytest.raises(ValueError, match="its lattice would turn too"):
        rotate_state(replace(state, cell=(9.0, 8.0, 7.0)), np.eye(3))
