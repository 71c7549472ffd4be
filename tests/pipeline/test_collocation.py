"""Densities on grids against analytic Gaussians, PySCF, and themselves."""

import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyscf import gto, scf
from pyscf.dft import numint
from scipy import special

from pipeline.collocation import (
    DensityMatrix,
    count_electrons,
    density_at_points,
    density_in_cells,
    density_matrix,
    gradient_at_points,
    gradient_in_cells,
    integrate_density,
)
from pipeline.engines.gaussian import GaussianEngine
from pipeline.rotation import rotate_state
from storage.schema import Basis, Conformer, ElectronicState, FloatArray, Shell

Axes = tuple[FloatArray, FloatArray, FloatArray]
Case = tuple[gto.Mole, ElectronicState, FloatArray]
WATER = "O 0 0 0.12; H 0.21 1.43 -0.98; H -0.1 -1.5 -0.9"


def state_of(mol: gto.Mole, orbitals: FloatArray, occupations: FloatArray) -> ElectronicState:
    """PySCF keeps radial coefficients with normalisation in `_env`; its Cartesian s and p carry Y_lm's factor apart."""
    shells: dict[int, list[Shell]] = {}
    for atom in range(mol.natm):
        shells[int(mol.atom_charge(atom))] = []
        for index in mol.atom_shell_ids(atom):
            degree, exponents = mol.bas_angular(index), mol.bas_exp(index)
            start = mol._bas[index, gto.PTR_COEFF]
            columns = mol._env[start : start + len(exponents) * mol.bas_nctr(index)].reshape(-1, len(exponents))
            factor = math.sqrt((2 * degree + 1) / (4 * math.pi)) if mol.cart and degree < 2 else 1.0
            for column in columns:
                shells[int(mol.atom_charge(atom))].append(Shell(degree, exponents, factor * column, bool(mol.cart)))
    return ElectronicState(
        mol.atom_charges().astype(np.int64), mol.atom_coords(), Basis(shells), orbitals.T.copy(), occupations
    )


def solved(basis: str, cart: bool) -> Case:
    mol = gto.M(atom=WATER, unit="Bohr", basis=basis, cart=cart, verbose=0)
    mean_field = scf.RHF(mol).run()
    occupied = mean_field.mo_occ > 0
    state = state_of(mol, mean_field.mo_coeff[:, occupied], mean_field.mo_occ[occupied])
    return mol, state, mean_field.make_rdm1()


@pytest.fixture(scope="module")
def water() -> Case:
    return solved("def2-svp", cart=False)


@pytest.fixture(scope="module", params=[("cc-pvqz", False), ("cc-pvtz", True), ("def2-svp", False)], ids=str)
def any_water(request: pytest.FixtureRequest) -> Case:
    """With s to g, with Cartesian d and f, and small."""
    return solved(*request.param)


def lattice(cells: tuple[int, int, int], spacing: float) -> tuple[Axes, Axes]:
    """Edges and centres of a lattice around the origin."""
    x, y, z = (spacing * (np.arange(n + 1) - n / 2) + 0.03 for n in cells)
    return (x, y, z), (x[:-1] + spacing / 2, y[:-1] + spacing / 2, z[:-1] + spacing / 2)


def pyscf_density(mol: gto.Mole, matrix: FloatArray, axes: Axes) -> FloatArray:
    """Density and its gradient, (4, nx, ny, nz)."""
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    values = numint.eval_rho(mol, numint.eval_ao(mol, points, deriv=1), matrix, xctype="GGA")
    return np.asarray(values).reshape(4, *(len(axis) for axis in axes))


def gaussians(numbers: list[int], positions: FloatArray) -> ElectronicState:
    conformer = Conformer("a#0", np.array(numbers), positions, 0, 0, "", "")
    return GaussianEngine(exponent=1.2).solve(conformer)


def test_gaussian_atoms_are_exact_at_points_and_in_cells() -> None:
    positions = np.array([[0.1, -0.2, 0.3], [1.5, 0.4, -0.7]])
    state = gaussians([6, 1], positions)
    edges, centres = lattice((21, 34, 9), 0.4)
    at_points, in_cells = np.zeros((21, 34, 9)), np.zeros((21, 34, 9))
    for count, position in zip((4.0, 1.0), positions, strict=True):
        values = [np.exp(-1.2 * (axis - p) ** 2) for axis, p in zip(centres, position, strict=True)]
        at_points += count * (1.2 / math.pi) ** 1.5 * np.einsum("i,j,k->ijk", *values)
        masses = [
            np.diff(special.erf(math.sqrt(1.2) * (axis - p))) / 2 for axis, p in zip(edges, position, strict=True)
        ]
        in_cells += count * np.einsum("i,j,k->ijk", *masses) / 0.4**3
    assert density_at_points(state, centres, 1e-15) == pytest.approx(at_points, abs=1e-13)
    assert density_in_cells(state, edges, 1e-15) == pytest.approx(in_cells, abs=1e-13)


def test_cells_far_from_the_atom_and_thin_cells_keep_their_digits() -> None:
    state = gaussians([1], np.zeros((1, 3)))
    edges = (np.array([4.0, 4.0 + 1e-4]), np.array([-4.0 - 1e-4, -4.0]), np.array([-1.0, 1.0]))
    tail = (1.2 / math.pi) * math.exp(-1.2 * 2 * (4.0 + 5e-5) ** 2) * special.erf(math.sqrt(1.2)) / 2
    tail *= 1 + 2 * (2 * 1.2 * 4) ** 2 * 1e-8 / 24  # the curvature within the two thin directions
    assert density_in_cells(state, edges, 1e-30)[0, 0, 0] == pytest.approx(tail, rel=1e-7)


def test_density_and_gradient_agree_with_pyscf(any_water: Case) -> None:
    mol, state, matrix = any_water
    _, centres = lattice((14, 20, 37), 0.41)
    expected = pyscf_density(mol, matrix, centres)
    for source in (state, density_matrix(state)):  # the orbital and the pair route
        assert density_at_points(source, centres, 1e-12) == pytest.approx(expected[0], abs=1e-10)
        assert gradient_at_points(source, centres, 1e-12) == pytest.approx(expected[1:], abs=1e-10)


@pytest.mark.parametrize("epsilon", [1e-6, 1e-9])
def test_error_follows_epsilon(water: Case, epsilon: float) -> None:
    mol, state, matrix = water
    _, centres = lattice((40, 40, 40), 0.4)
    expected = pyscf_density(mol, matrix, centres)[0]
    for source in (state, density_matrix(state)):
        error = np.abs(density_at_points(source, centres, epsilon) - expected)
        assert error.max() < 50 * epsilon
        assert error.sum() / expected.sum() < 50 * epsilon


def test_any_symmetric_matrix_will_do(water: Case) -> None:
    mol, state, _ = water
    noise = np.random.default_rng(3).normal(size=(mol.nao, mol.nao))
    difference = DensityMatrix(state.numbers, state.positions, state.basis, noise + noise.T)
    _, centres = lattice((9, 12, 10), 0.6)
    expected = pyscf_density(mol, difference.values, centres)
    assert density_at_points(difference, centres, 1e-13) == pytest.approx(expected[0], abs=1e-9)
    assert gradient_at_points(difference, centres, 1e-13) == pytest.approx(expected[1:], abs=1e-9)


def test_electrons_are_the_trace_of_the_overlap(any_water: Case) -> None:
    mol, state, matrix = any_water
    assert np.sum(matrix * mol.intor("int1e_ovlp")) == pytest.approx(10, abs=1e-10)
    assert count_electrons(state) == pytest.approx(10, abs=1e-10)


@pytest.mark.parametrize("spacing", [0.25, 0.4, 1.1])
def test_cells_hold_every_electron_at_any_spacing(water: Case, spacing: float) -> None:
    edges, _ = lattice((round(26 / spacing),) * 3, spacing)
    total = density_in_cells(water[1], edges, 1e-9).sum() * spacing**3
    assert total == pytest.approx(10, abs=1e-5)


def test_box_that_cuts_the_molecule_holds_the_integral(water: Case) -> None:
    edges, _ = lattice((6, 9, 5), 0.35)
    inside = integrate_density(water[1], edges)
    assert 1 < inside < 9
    assert density_in_cells(water[1], edges, 1e-10).sum() * 0.35**3 == pytest.approx(inside, abs=1e-7)


def test_integral_over_a_box_agrees_with_quadrature(water: Case) -> None:
    mol, state, matrix = water
    low, high = np.array([0.3, -0.9, -1.0]), np.array([1.6, 0.5, 0.8])  # no nucleus inside
    nodes, weights = np.polynomial.legendre.leggauss(48)
    axes = tuple((high[i] - low[i]) / 2 * nodes + (high[i] + low[i]) / 2 for i in range(3))
    values = pyscf_density(mol, matrix, axes)[0]
    expected = np.einsum("ijk,i,j,k", values, weights, weights, weights) * np.prod((high - low) / 2)
    edges = tuple(np.array([low[i], high[i]]) for i in range(3))
    assert integrate_density(state, edges) == pytest.approx(expected, abs=1e-9)


def test_coarse_cells_are_the_mean_of_fine_ones(water: Case) -> None:
    fine, _ = lattice((24, 32, 28), 0.3)
    coarse = tuple(axis[::2] for axis in fine)
    mean = density_in_cells(water[1], fine, 1e-10).reshape(12, 2, 16, 2, 14, 2).mean(axis=(1, 3, 5))
    expected = density_in_cells(water[1], coarse, 1e-10)
    assert mean == pytest.approx(expected, abs=1e-7 * expected.max())


def test_cell_gradient_is_the_flux_through_opposite_faces(water: Case) -> None:
    """∫∂ρ/∂x dx = ρ(right) − ρ(left), with ρ averaged over the faces: cells that are thin along x."""
    _, state, _ = water
    edges, _ = lattice((7, 8, 6), 0.5)
    for axis in range(3):
        thin = list(edges)
        thin[axis] = (edges[axis][:, None] + np.array([-5e-5, 5e-5])).ravel()
        faces = np.take(density_in_cells(state, tuple(thin), 1e-13), np.arange(0, 2 * len(edges[axis]) - 1, 2), axis)
        expected = np.diff(faces, axis=axis) / 0.5
        assert gradient_in_cells(state, edges, 1e-12)[axis] == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_gradient_of_every_cell_integrates_to_nothing(water: Case) -> None:
    edges, _ = lattice((30, 30, 30), 0.8)
    assert gradient_in_cells(water[1], edges, 1e-10).sum(axis=(1, 2, 3)) == pytest.approx(np.zeros(3), abs=1e-6)


SAMPLES = (density_at_points, density_in_cells, gradient_at_points, gradient_in_cells)


@pytest.mark.parametrize("sample", SAMPLES)
@settings(max_examples=5, deadline=None)
@given(steps=st.tuples(*[st.integers(-3, 3)] * 3))
def test_moving_the_molecule_by_cells_moves_the_array(
    water: Case, sample: Callable[..., FloatArray], steps: tuple[int, int, int]
) -> None:
    _, state, _ = water
    edges, _ = lattice((24, 26, 28), 0.5)
    moved = replace(state, positions=state.positions + 0.5 * np.array(steps))
    inside = (..., *[slice(4, -4)] * 3)
    still = sample(state, edges, 1e-11)
    there = np.roll(sample(moved, edges, 1e-11), [-step for step in steps], axis=(-3, -2, -1))
    assert there[inside] == pytest.approx(still[inside], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("sample", SAMPLES)
@settings(max_examples=5, deadline=None)
@given(axis=st.integers(0, 2), offset=st.tuples(*[st.floats(-1, 1)] * 3))
def test_a_quarter_turn_turns_the_array(
    water: Case, sample: Callable[..., FloatArray], axis: int, offset: tuple[float, float, float]
) -> None:
    state = replace(water[1], positions=water[1].positions + np.array(offset))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[[first, second]] = -turn[second], turn[first]
    ticks = 0.4 * (np.arange(30) - 14.5)
    still = np.rot90(sample(state, (ticks,) * 3, 1e-11), axes=(first - 3, second - 3))
    turned = sample(rotate_state(state, turn), (ticks,) * 3, 1e-11)
    if turned.ndim == 4:
        still = np.einsum("ij,jxyz->ixyz", turn, still)
    assert turned == pytest.approx(still, rel=1e-9, abs=1e-9)


def test_memory_beyond_the_result_grows_with_the_list_of_atom_pairs_only(water: Case) -> None:
    _, state, matrix = water
    edges, _ = lattice((40, 40, 40), 0.8)
    beyond = []
    for count in (50, 100):
        places = 3.5 * np.array(list(np.ndindex(5, 5, 4))[:count], dtype=np.float64) - 5
        density = DensityMatrix(
            np.tile(state.numbers, count),
            (places[:, None, :] + state.positions).reshape(-1, 3),
            state.basis,
            np.kron(np.eye(count), matrix),
        )
        tracemalloc.start()
        try:
            result = density_in_cells(density, edges, 1e-9)
            beyond.append(tracemalloc.get_traced_memory()[1] - result.nbytes)
        finally:
            tracemalloc.stop()
    pairs = (300 * 301 - 150 * 151) // 2
    assert beyond[1] - beyond[0] < 400 * pairs  # bytes; the density matrix, which we are given, grows by 1,000 each
    assert beyond[1] < 60e6  # what the module states


@pytest.mark.parametrize("sample", SAMPLES)
def test_torch_and_numpy_agree(water: Case, sample: Callable[..., FloatArray]) -> None:
    edges, _ = lattice((17, 20, 33), 0.4)
    expected = sample(water[1], edges, 1e-9)
    result = sample(water[1], tuple(torch.from_numpy(axis) for axis in edges), 1e-9)
    assert isinstance(result, torch.Tensor)
    assert result.numpy() == pytest.approx(expected, abs=1e-8)
    single = sample(water[1], tuple(torch.from_numpy(axis.astype(np.float32)) for axis in edges), 1e-6)
    assert single.dtype == torch.float32


def test_same_input_gives_the_same_bits(water: Case) -> None:
    edges, _ = lattice((20, 20, 20), 0.5)
    first, second = (density_in_cells(water[1], edges, 1e-9) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_single_precision_is_right_wherever_the_molecule_is(water: Case, shift: float) -> None:
    """Coordinates stay in double precision: 50 bohr away, single ones would be off by 4e-6 bohr."""
    state = replace(water[1], positions=water[1].positions + shift)
    edges = tuple(shift + np.arange(-5.0, 5.1, 0.25) for _ in range(3))
    for sample in (density_at_points, density_in_cells, gradient_at_points, gradient_in_cells):
        double, single = sample(state, edges, 1e-9), sample(state, edges, 1e-9, np.float32)
        assert single.dtype == np.float32
        assert np.abs(single - double).sum() < 2e-7 * np.abs(double).sum()


def test_coordinates_that_do_not_ascend_are_refused(water: Case) -> None:
    up = np.linspace(-2, 2, 9)
    for wrong in (up[::-1], np.array([0.0, 1.0, np.nan]), np.array([1.0, 1.0]), np.array([])):
        with pytest.raises(ValueError, match=r"axis y: \d coordinates; \d or more must be given, in ascending order"):
            density_at_points(water[1], (up, wrong, up), 1e-6)
        with pytest.raises(ValueError, match="axis z"):
            gradient_in_cells(water[1], (up, up, wrong), 1e-6)
    with pytest.raises(ValueError, match="axis x: 1 coordinates; 2 or more"):
        density_in_cells(water[1], (up[:1], up, up), 1e-6)
    with pytest.raises(ValueError, match="epsilon = 0"):
        density_at_points(water[1], (up, up, up), 0.0)


def test_a_matrix_of_another_basis_or_without_symmetry_is_refused(water: Case) -> None:
    state, values = water[1], density_matrix(water[1]).values
    with pytest.raises(ValueError, match="for 24 basis functions"):
        DensityMatrix(state.numbers, state.positions, state.basis, values[:3, :3])
    with pytest.raises(ValueError, match="not symmetric"):
        DensityMatrix(state.numbers, state.positions, state.basis, np.triu(values))
