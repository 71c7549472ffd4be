"""Cell averages hold every electron, whatever the cells: twenty molecules from H to Cl, all electrons counted."""

from functools import cache

import numpy as np
import pytest

from pipeline.collocation import density_in_cells, integrate_density
from pipeline.conformers import conform
from pipeline.engines.dft import DftEngine
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import EPSILON
from storage.levels import coarsen
from storage.schema import ElectronicState, FloatArray, Grid, Molecule

MOLECULES = (
    "[H][H]", "B", "C", "N", "O", "F", "C=S", "[SiH4]", "O=P(F)(F)F", "O=S=O", "Cl", "N#N", "C#N", "FC", "O=C=O", "CS",
    "SC#N", "CCl", "C[SiH3]", "ClF",
)  # fmt: skip
SPACINGS = (0.1, 0.2, 0.35, 0.6, 1.0)  # bohr
MARGIN = 3.0 * BOHR_PER_ANGSTROM


@cache
def solve(smiles: str) -> ElectronicState:
    conformer = conform(Molecule(0, smiles, smiles), keep=False, count=1, optimise="mmff", seed=7)[0]
    return DftEngine("HF", "def2-svp", "none").solve(conformer)


def edges_of(grid: Grid) -> tuple[FloatArray, FloatArray, FloatArray]:
    return grid.edges(0), grid.edges(1), grid.edges(2)


def place(state: ElectronicState, spacing: float, margin: float, seed: int) -> Grid:
    """A box of even numbers of cells with the margin all round; where its corner falls is drawn."""
    random = np.random.default_rng(seed)
    low, high = state.positions.min(axis=0) - margin, state.positions.max(axis=0) + margin
    low -= random.uniform(0, spacing, 3)
    nx, ny, nz = (2 * np.ceil((high - low) / spacing / 2).astype(int)).tolist()
    x, y, z = (low + spacing / 2).tolist()
    return Grid((nx, ny, nz), (spacing,) * 3, (x, y, z))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("number", range(len(MOLECULES)), ids=MOLECULES)
def test_every_electron_is_counted_at_any_spacing(number: int, spacing: float) -> None:
    state = solve(MOLECULES[number])
    grid = place(state, spacing, MARGIN, number)
    held = density_in_cells(state, edges_of(grid), EPSILON).sum() * grid.cell_volume
    assert abs(held - integrate_density(state, edges_of(grid))) <= 1e-5
    assert abs(held - state.electrons) <= 1e-4


@pytest.mark.parametrize("number", range(0, len(MOLECULES), 3), ids=MOLECULES[::3])
def test_a_box_that_cuts_the_molecule_holds_what_is_inside(number: int) -> None:
    state = solve(MOLECULES[number])
    grid = place(state, 0.3, 0.7, number)
    held = density_in_cells(state, edges_of(grid), EPSILON).sum() * grid.cell_volume
    assert held < state.electrons - 0.1
    assert abs(held - integrate_density(state, edges_of(grid))) <= 1e-5


@pytest.mark.parametrize("number", range(1, len(MOLECULES), 3), ids=MOLECULES[1::3])
def test_the_mean_of_eight_cells_is_the_coarse_grid(number: int) -> None:
    state = solve(MOLECULES[number])
    grid = place(state, 0.35, MARGIN, number)
    means, coarse = coarsen(density_in_cells(state, edges_of(grid), EPSILON), grid, 2, "cell")
    direct = density_in_cells(state, edges_of(coarse), EPSILON)
    assert np.abs(means - direct).max() <= 1e-7 * direct.max()
