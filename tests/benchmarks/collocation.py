"""Densities and gradients of all-electron orbitals at h = 0.2 bohr, beside PySCF's loops and qc-gbasis."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gbasis.evals.density import evaluate_density
from gbasis.wrappers import from_pyscf
from pyscf import dft
from pyscf.tools import cubegen

from pipeline import collocation
from pipeline.engines.dft import DftEngine
from pipeline.engines.pyscf_molecule import build_mol
from storage.schema import ElectronicState, FloatArray
from tests.benchmarks.molecules import embed
from tests.benchmarks.timing import compare

CASES = (
    ("ethanol", "CCO", "def2-SVP", 3),
    ("benzene", "c1ccccc1", "def2-SVP", 3),
    ("caffeine", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "def2-SVP", 1),  # cubegen's loop takes a quarter of a minute
    ("ethanol", "CCO", "def2-TZVP", 3),
    ("benzene", "c1ccccc1", "def2-TZVP", 3),
)
SPACING, MARGIN = 0.2, 5.0  # bohr
BLOCK = 8000  # points at a time, as cubegen's loop takes them
SINGLE, DOUBLE = 1e-6, 1e-9  # epsilons, of float32 and of float64 results


@dataclass(frozen=True)
class Case:
    """A molecule, its orbitals and the points that `pyscf.tools.cubegen` would choose."""

    state: ElectronicState
    mol: object
    points: tuple[FloatArray, FloatArray, FloatArray]

    @property
    def edges(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        x, y, z = (np.append(axis, axis[-1] + axis[1] - axis[0]) - (axis[1] - axis[0]) / 2 for axis in self.points)
        return x, y, z

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.points)

    def blocks(self) -> list[FloatArray]:
        coordinates = np.stack(np.meshgrid(*self.points, indexing="ij"), axis=-1).reshape(-1, 3)
        return np.array_split(coordinates, max(1, len(coordinates) // BLOCK))

    def loop(self, block_values: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """What a peer says, block by block, (components, nx, ny, nz)."""
        values = np.concatenate([np.atleast_2d(block_values(block)) for block in self.blocks()], axis=1)
        return values.reshape(-1, *self.shape)


def make_case(name: str, smiles: str, basis: str) -> Case:
    conformer = embed(name, smiles)
    state = DftEngine("HF", basis, "none").solve(conformer)
    mol = build_mol(conformer, basis, "none")
    box = cubegen.Cube(mol, 2, 2, 2, margin=MARGIN)
    counts = tuple(int(np.ceil(length / SPACING)) + 1 for length in np.diag(box.box))
    cube = cubegen.Cube(mol, *counts, margin=MARGIN)
    ticks = (cube.xs, cube.ys, cube.zs)
    x, y, z = (cube.boxorig[axis] + cube.box[axis, axis] * ticks[axis] for axis in range(3))
    return Case(state, mol, (x, y, z))


def bench(name: str, smiles: str, basis: str, rounds: int) -> None:
    case = make_case(name, smiles, basis)
    mol, state = case.mol, case.state
    density = (state.orbitals.T * state.occupations) @ state.orbitals
    coefficients = np.ascontiguousarray(state.orbitals.T)

    def cubegen_loop() -> FloatArray:
        return case.loop(lambda block: dft.numint.eval_rho(mol, mol.eval_gto("GTOval", block), density))[0]

    def occupied_orbitals() -> FloatArray:
        def block_values(block: FloatArray) -> FloatArray:
            mask = dft.gen_grid.make_mask(mol, block)
            orbitals = dft.numint.eval_ao(mol, block, non0tab=mask)
            return dft.numint.eval_rho2(mol, orbitals, coefficients, state.occupations, non0tab=mask)

        return case.loop(block_values)[0]

    def pyscf_gradient() -> FloatArray:
        return case.loop(
            lambda block: dft.numint.eval_rho(mol, mol.eval_gto("GTOval_sph_deriv1", block), density, xctype="GGA")
        )[1:]

    def gbasis_loop() -> FloatArray:
        shells = from_pyscf(mol)
        return case.loop(lambda block: evaluate_density(density, shells, block))[0]

    reference, slopes = cubegen_loop(), pyscf_gradient()
    print(f"{name}, {basis}, {'×'.join(map(str, case.shape))} points of {SPACING} bohr")
    ours = {
        "points, float32": lambda: collocation.density_at_points(state, case.points, SINGLE, np.float32),
        "points, float64": lambda: collocation.density_at_points(state, case.points, DOUBLE),
        "exact averages, float64": lambda: collocation.density_in_cells(state, case.edges, DOUBLE),
    }
    for label, work in ours.items():
        error = f"  NMAE {np.abs(work() - reference).sum() / reference.sum():.0e}" if "points" in label else ""
        print(f"  {label:<26} {compare(work, cubegen_loop, rounds)} cubegen's loop{error}", flush=True)
    points = ours["points, float32"]
    print(f"  {'points, float32':<26} {compare(points, occupied_orbitals, rounds)} PySCF eval_rho2 with mask")
    if rounds > 1:
        print(f"  {'points, float32':<26} {compare(points, gbasis_loop, 1)} qc-gbasis", flush=True)
    gradient = lambda: collocation.gradient_at_points(state, case.points, SINGLE, np.float32)  # noqa: E731
    error = np.abs(gradient() - slopes).sum() / np.abs(slopes).sum()
    print(
        f"  {'gradient, float32':<26} {compare(gradient, pyscf_gradient, rounds)} PySCF's  NMAE {error:.0e}", flush=True
    )


def main() -> None:
    for case in CASES:
        bench(*case)
