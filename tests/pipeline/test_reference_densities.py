"""Densities and gradients beside those that other programs have written; r² beside QM9's."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import collocation
from pipeline.conformers import conform
from pipeline.engines.dft import DftEngine
from pipeline.formats import Volume, read_cube
from pipeline.sources import read_molecules
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import place_tight_grid, sample_density
from storage.schema import Conformer, ElectronicState, FloatArray, Grid
from tests.conftest import REFERENCE

IBM = sorted((REFERENCE / "density/ibm_rhf631g_cubes").glob("*.npz"))
QM9_ROWS = range(20)  # one to four heavy atoms

pytestmark = pytest.mark.reference


def solve(numbers: FloatArray, positions: FloatArray, engine: DftEngine) -> ElectronicState:
    return engine.solve(Conformer("given#0", np.asarray(numbers, dtype=np.int64), positions, 0, 0, "", ""))


def hartree_fock(basis: str) -> DftEngine:
    return DftEngine("HF", basis, "none", density_fitting=False, convergence=1e-10)


def nmae(values: FloatArray, expected: FloatArray) -> float:
    return float(np.abs(values - expected).sum() / np.abs(expected).sum())


def at_points(state: ElectronicState, grid: Grid) -> FloatArray:
    return sample_density(state, grid, "point")


def field(volume: Volume) -> FloatArray:
    (values,) = volume.fields.values()
    return np.asarray(values, dtype=np.float64)


@pytest.mark.parametrize("path", IBM[::4], ids=[path.stem for path in IBM[::4]])  # all hold; each takes seconds
def test_anisotropic_grids_of_organic_molecules(path: Path) -> None:
    stored = np.load(path)
    symbols = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9, "S": 16, "Cl": 17}
    numbers = np.array([symbols[symbol] for symbol in stored["symbols"].tolist()])
    state = solve(numbers, stored["xyz_ang"] * BOHR_PER_ANGSTROM, hartree_fock("6-31g"))
    grid = Grid(stored["rho"].shape, tuple(stored["step_bohr"]), tuple(stored["origin_bohr"]))
    assert nmae(at_points(state, grid), stored["rho"]) <= 1e-4


def test_high_angular_momentum(reference: Path) -> None:
    volume = read_cube(reference / "density/water_hf_ccpvqz_psi4/Dt.cube.gz")
    state = solve(volume.scene.numbers, volume.scene.positions, hartree_fock("cc-pvqz"))
    assert max(shell.angular_momentum for shell in state.basis.shells[8]) == 4
    assert nmae(at_points(state, volume.scene.grid), field(volume)) <= 1e-4


def test_gradient(reference: Path) -> None:
    path = reference / "density/water_rhf_ccpvdz_3codes_orbkit/gaussian__h2o_rhf_sph_grad.cube"
    volume = read_cube(path)
    value, *slopes = volume.fields.values()
    grid = volume.scene.grid
    state = solve(volume.scene.numbers, volume.scene.positions, hartree_fock("cc-pvdz"))
    gradient = collocation.gradient_at_points(state, tuple(grid.centres(axis) for axis in range(3)), 1e-12)
    assert nmae(at_points(state, grid), value) <= 1e-4
    assert nmae(gradient, np.stack(slopes)) <= 1e-4


def test_an_unrestricted_density(reference: Path) -> None:
    volume = read_cube(reference / "density/cubegen_points/ch4_ub3lyp_augccpvdz_6pts.cube")
    engine = DftEngine("B3LYP", "aug-cc-pvdz", "none", density_fitting=False, quadrature_level=4)
    state = solve(volume.scene.numbers, volume.scene.positions, engine)
    assert nmae(at_points(state, volume.scene.grid), field(volume)) <= 1e-4


@pytest.mark.parametrize("row", QM9_ROWS)
def test_the_electronic_spatial_extent_of_qm9(row: int, reference: Path) -> None:
    """⟨r²⟩ about the centre of nuclear charge. A box of width h adds N·h²/12 to each axis: it is taken off."""
    path = reference / "qm9/qm9_2000.extxyz.gz"
    molecule = next(
        molecule for place, molecule in enumerate(read_molecules(path, labels=("r2_bohr2",))) if place == row
    )
    conformer = conform(molecule, keep=True, count=1, optimise="none", seed=7)[0]
    state = DftEngine("B3LYP", "6-31g(2df,p)", "none").solve(conformer)
    grid = place_tight_grid(conformer.positions, 0.2 * BOHR_PER_ANGSTROM, 4.5 * BOHR_PER_ANGSTROM, 2)
    values = sample_density(state, grid, "cell")
    centre = conformer.numbers @ conformer.positions / conformer.numbers.sum()
    squares = [(grid.centres(axis) - centre[axis]) ** 2 - grid.spacing[axis] ** 2 / 12 for axis in range(3)]
    distance = squares[0][:, None, None] + squares[1][:, None] + squares[2]
    extent = float((values * distance).sum()) * grid.cell_volume
    assert extent == pytest.approx(float(molecule.labels["r2_bohr2"]), rel=3e-3)
