"""Saddle points are told from minima: against known spectra, and where theory says that restricted states break."""

import numpy as np
import pytest
from pyscf import dft, gto, scf

from pipeline.engines.stability import UNSTABLE, find_descent, lowest_curvature
from pipeline.failures import NotConverged
from storage.schema import FloatArray


def symmetric(lowest: float, size: int = 60) -> FloatArray:
    """A matrix like a Hessian: a growing diagonal, a weaker rest; its lowest eigenvalue as given."""
    noise = np.random.default_rng(1).normal(size=(size, size))
    matrix = np.diag(np.linspace(0.2, 6, size)) + 0.05 * (noise + noise.T)
    values, vectors = np.linalg.eigh(matrix)
    values[0] = lowest
    return np.asarray((vectors * values) @ vectors.T)


@pytest.mark.parametrize("lowest", [-1.0, -0.1, -0.02])
def test_a_direction_of_descent_is_found(lowest: float) -> None:
    matrix = symmetric(lowest)
    found = lowest_curvature(lambda vector: matrix @ vector, matrix.diagonal())
    assert found is not None
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-9)
    assert found @ matrix @ found < UNSTABLE


@pytest.mark.parametrize("lowest", [0.0, 0.1, 1.0])
def test_a_minimum_has_none(lowest: float) -> None:
    matrix = symmetric(lowest)
    assert lowest_curvature(lambda vector: matrix @ vector, matrix.diagonal()) is None


def chain(length: int, lowest: float) -> FloatArray:
    """A matrix whose lowest eigenvector spreads over all sites, of which each trial reaches one more."""
    matrix = 2 * np.eye(length) - np.eye(length, k=1) - np.eye(length, k=-1)
    return np.asarray(matrix + (lowest - 2 + 2 * np.cos(np.pi / (length + 1))) * np.eye(length))


@pytest.mark.parametrize(("excess", "is_minimum"), [(-1e-3, False), (1e-3, True)])
def test_a_slow_search_goes_on_until_it_is_certain(excess: float, is_minimum: bool) -> None:
    matrix = chain(30, UNSTABLE + excess)
    assert (lowest_curvature(lambda vector: matrix @ vector, matrix.diagonal()) is None) == is_minimum


def test_an_uncertain_end_is_no_minimum() -> None:
    matrix = chain(200, UNSTABLE - 1e-3)
    with pytest.raises(NotConverged, match="not certain whether below"):
        lowest_curvature(lambda vector: matrix @ vector, matrix.diagonal())


def test_a_million_rotations_fit_into_memory() -> None:
    curvatures = np.linspace(0.2, 6, 10**6)
    assert lowest_curvature(lambda vector: curvatures * vector, curvatures) is None
    curvatures[77] = -0.5
    found = lowest_curvature(lambda vector: curvatures * vector, curvatures)
    assert found is not None
    assert abs(found[77]) == 1


@pytest.mark.parametrize(("distance", "breaks"), [(1.4, False), (2.0, False), (2.7, True), (5.0, True)])
def test_hydrogen_breaks_its_spin_symmetry_beyond_the_coulson_fischer_point(distance: float, breaks: bool) -> None:
    """2.3 bohr in Hartree-Fock (C. A. Coulson, I. Fischer, Philos. Mag. 40, 386 (1949)); restricted orbitals stay."""
    mol = gto.M(atom=f"H; H 1 {distance}", unit="B", basis="cc-pvtz", verbose=0)
    restricted = scf.RHF(mol).run()
    both = scf.UHF(mol).run(restricted.make_rdm1()[None].repeat(2, axis=0) / 2)
    assert both.e_tot == pytest.approx(restricted.e_tot, abs=1e-8)
    assert (find_descent(both) is not None) == breaks
    assert find_descent(restricted) is None


def test_states_without_empty_or_filled_orbitals_have_no_rotations() -> None:
    helium = gto.M(atom="He", basis="sto-3g", verbose=0)
    assert find_descent(scf.RHF(helium).run()) is None
    hydrogen = gto.M(atom="H", basis="cc-pvdz", spin=1, verbose=0)
    assert find_descent(dft.UKS(hydrogen, xc="PBE").run()) is None


def test_a_million_pairs_need_no_more_than_a_few_vectors() -> None:
    diagonal = np.linspace(0.5, 3.0, 1_000_000)
    assert lowest_curvature(lambda rotation: diagonal * rotation, diagonal) is None
