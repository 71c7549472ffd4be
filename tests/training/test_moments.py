"""Errors of moments against what point charges and Gaussians have by hand."""

import numpy as np
import pytest
from scipy.special import erf

from storage.schema import FloatArray, Grid
from training.superres.moments import Moments, moments_of_difference

DEBYE = 4.80320471  # 1 e·Å (CODATA 2018)
ANGSTROM = 1 / 0.529177210903  # bohr
GRID = Grid((40, 48, 44), (0.5, 0.5, 0.5), (-9.75, -11.75, -10.75))
CENTRE = np.array([0.3, -0.2, 0.1])


def average_gaussian(charge: float, centre: FloatArray, exponents: tuple[float, float, float]) -> FloatArray:
    """Exact cell averages of `charge` electrons, electrons/bohr³; `exponents` in 1/bohr² along each axis."""
    x, y, z = (np.diff(erf(np.sqrt(exponents[axis]) * (GRID.edges(axis) - centre[axis]))) / 2 for axis in range(3))
    return np.asarray(charge * np.einsum("i,j,k->ijk", x, y, z) / GRID.cell_volume)


def test_moving_a_charge_is_a_dipole_of_its_charge_times_the_way() -> None:
    way = np.array([0.11, -0.25, 0.07]) * ANGSTROM  # no whole number of cells
    ball = (0.8, 0.8, 0.8)
    difference = average_gaussian(3.0, CENTRE + way, ball) - average_gaussian(3.0, CENTRE, ball)
    moments = moments_of_difference(difference, GRID, CENTRE)
    np.testing.assert_allclose(moments.dipole, -3.0 * DEBYE * np.array([0.11, -0.25, 0.07]), atol=1e-6)
    assert moments.dipole_size == pytest.approx(3.0 * DEBYE * np.linalg.norm([0.11, -0.25, 0.07]), rel=1e-6)


def test_moving_a_charge_from_the_centre_is_the_quadrupole_of_a_point_charge() -> None:
    way = np.array([0.3, -0.2, 0.5])  # Å
    ball = (0.8, 0.8, 0.8)
    difference = average_gaussian(2.0, CENTRE + way * ANGSTROM, ball) - average_gaussian(2.0, CENTRE, ball)
    quadrupole = moments_of_difference(difference, GRID, CENTRE).quadrupole
    expected = -2.0 * DEBYE / 2 * (3 * np.outer(way, way) - way @ way * np.eye(3))
    np.testing.assert_allclose(quadrupole, expected, atol=1e-6)


def test_stretching_a_charge_is_a_quadrupole_without_a_dipole() -> None:
    """A Gaussian exp(−a x²) spreads by 1/2a: Θ_xx = −q (Δ⟨x²⟩), Θ_yy = Θ_zz = half of that with the other sign."""
    difference = average_gaussian(4.0, CENTRE, (0.5, 1.0, 1.0)) - average_gaussian(4.0, CENTRE, (1.0, 1.0, 1.0))
    moments = moments_of_difference(difference, GRID, CENTRE)
    spread = (1 / (2 * 0.5) - 1 / (2 * 1.0)) / ANGSTROM**2
    assert moments.dipole_size < 1e-6
    np.testing.assert_allclose(moments.quadrupole, np.diag([-4.0, 2.0, 2.0]) * spread * DEBYE, atol=1e-6)
    assert moments.quadrupole_size == pytest.approx(np.sqrt(24) * spread * DEBYE, rel=1e-6)


def test_a_wider_ball_has_the_same_moments() -> None:
    """What is isotropic leaves no trace, whatever the cells: all that is seen from afar is the charge."""
    difference = average_gaussian(4.0, CENTRE, (0.5, 0.5, 0.5)) - average_gaussian(4.0, CENTRE, (1.0, 1.0, 1.0))
    moments = moments_of_difference(difference, GRID, CENTRE)
    assert moments.dipole_size < 1e-6
    assert moments.quadrupole_size < 1e-6


def test_the_quadrupole_is_symmetric_and_traceless() -> None:
    moments: Moments = moments_of_difference(np.random.default_rng(1).normal(size=GRID.shape), GRID, CENTRE)
    np.testing.assert_allclose(moments.quadrupole, moments.quadrupole.T)
    assert abs(np.trace(moments.quadrupole)) < 1e-9 * moments.quadrupole_size


def test_the_point_of_reference_matters_only_where_electrons_are_lost() -> None:
    kept = average_gaussian(1.0, CENTRE + 1, (0.8,) * 3) - average_gaussian(1.0, CENTRE, (0.8,) * 3)
    dipoles = [moments_of_difference(kept, GRID, centre).dipole for centre in (CENTRE, CENTRE + 2)]
    np.testing.assert_allclose(*dipoles, atol=1e-6)
    lost = [
        moments_of_difference(kept / 2 - average_gaussian(0.1, CENTRE, (0.8,) * 3), GRID, c).dipole
        for c in (CENTRE, CENTRE + 2)
    ]
    assert np.abs(lost[0] - lost[1]).max() > 0.1
