"""Images: a periodic density is the sum over every box, wherever the grid lies, and a box holds every electron."""

from dataclasses import replace

import numpy as np
import pytest
from pyscf.pbc import gto

from pipeline.engines.pyscf_molecule import basis_of
from pipeline.images import count_electrons, surround
from pipeline.voxels import sample_density, sample_gradient_magnitude
from storage.schema import Basis, ElectronicState, FloatArray, Grid, Shell

CELL = (5.0, 6.0, 7.0)
XYZ = np.array([[0.3, 5.5, 3.0], [2.0, 1.0, 6.9]])
BOX = Grid((20, 24, 28), (0.25, 0.25, 0.25), (0.125, 0.125, 0.125))  # exactly one cell
NORM = 2 / np.pi**0.25  # of R(r) with exponent 1/2, up to the harmonic: (a/π)^(3/4) √(4π) at 2a = 1


def spheres(cell: tuple[float, float, float] | None = CELL) -> ElectronicState:
    """An s function on each of two atoms, exponent 1/2, in one orbital with two electrons."""
    shell = Shell(0, np.array([0.5]), np.array([NORM]))
    return ElectronicState(
        np.array([1, 1]), XYZ, Basis({1: (shell,)}), np.array([[0.6, -0.5]]), np.array([2.0]), cell=cell
    )


def summed_orbital(points: FloatArray) -> FloatArray:
    """The same orbital by the formula, over 9³ boxes; shape (points,)."""
    steps = np.arange(-4, 5)
    shifts = np.stack(np.meshgrid(*(steps * edge for edge in CELL), indexing="ij"), axis=-1).reshape(-1, 3)
    squares = [((points[:, None] - (centre + shifts)) ** 2).sum(axis=2) for centre in XYZ]
    one, two = (np.pi**-0.75 * np.exp(-square / 2).sum(axis=1) for square in squares)
    return np.asarray(0.6 * one - 0.5 * two)


def centres(grid: Grid) -> FloatArray:
    axes = (grid.centres(axis) for axis in range(3))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("origin", [(0.125, 0.125, 0.125), (-1.0, 40.3, -13.0)])
def test_density_is_that_of_the_summed_orbitals(origin: tuple[float, float, float]) -> None:
    grid = Grid((4, 5, 6), (0.7, 0.7, 0.7), origin)
    expected = 2 * summed_orbital(centres(grid) - np.floor(np.array(origin) / CELL) * CELL) ** 2
    assert sample_density(spheres(), grid, "point") == pytest.approx(expected.reshape(grid.shape), abs=1e-8)


def test_gradient_is_that_of_the_summed_orbitals() -> None:
    step, points = 1e-4, centres(BOX)[::97]
    slopes = [
        2 * (summed_orbital(points + shift) ** 2 - summed_orbital(points - shift) ** 2) / (2 * step)
        for shift in step * np.eye(3)
    ]
    lengths = sample_gradient_magnitude(spheres(), BOX, "point").reshape(-1)[::97]
    assert lengths == pytest.approx(np.linalg.norm(slopes, axis=0), abs=1e-6)


def test_one_box_of_cells_holds_the_electrons_of_one_box() -> None:
    electrons = sample_density(spheres(), BOX, "cell").sum() * BOX.cell_volume
    squares = summed_orbital(centres(BOX)) ** 2  # a smooth periodic function: its sum is its integral
    assert electrons == pytest.approx(2 * squares.sum() * BOX.cell_volume, abs=1e-7)
    assert count_electrons(spheres()) == pytest.approx(electrons, abs=1e-7)


def test_two_boxes_hold_twice_as_many_and_repeat_themselves() -> None:
    twice = sample_density(spheres(), replace(BOX, shape=(40, 24, 28)), "cell")
    assert twice[20:] == pytest.approx(twice[:20], abs=1e-8)


@pytest.mark.parametrize("edge", [4.0, 9.0, 60.0])
def test_count_is_the_trace_with_the_periodic_overlap(edge: float) -> None:
    cell = gto.M(
        atom=[("C", (0.1, 0.2, 0.3)), ("O", (0.1, 0.2, 2.4))], unit="B", basis="gth-dzvp", pseudo="gth-pbe",
        a=np.diag([edge, edge + 1, edge + 2]), verbose=0, precision=1e-12,
    )  # fmt: skip
    numbers = np.array([6, 8])
    orbitals = np.random.default_rng(3).normal(size=(2, cell.nao))
    state = ElectronicState(
        numbers, cell.atom_coords(), basis_of(numbers, "gth-dzvp", "gth-pbe"), orbitals, np.array([2.0, 0.7]),
        cell=(edge, edge + 1, edge + 2),
    )  # fmt: skip
    expected = state.occupations @ np.einsum("im,mn,in->i", orbitals, cell.pbc_intor("int1e_ovlp"), orbitals)
    assert count_electrons(state) == pytest.approx(expected, rel=1e-9)


def test_isolated_molecules_have_no_images() -> None:
    alone = spheres(cell=None)
    assert surround(alone, BOX) is alone
    far = replace(BOX, origin=(100.0, 0.0, 0.0))
    assert sample_density(alone, far, "point").max() == 0


def test_a_roomy_box_changes_nothing() -> None:
    roomy, alone = spheres((60.0, 60.0, 60.0)), spheres(cell=None)
    assert (sample_density(roomy, BOX, "cell") == sample_density(alone, BOX, "cell")).all()
    assert count_electrons(roomy) == pytest.approx(count_electrons(alone), abs=1e-12)
    assert sample_density(roomy, replace(BOX, origin=(30.0, 30.0, 30.0)), "cell").max() == pytest.approx(0, abs=1e-12)
