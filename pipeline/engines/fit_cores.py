"""Derives cores.json: `python -m pipeline.engines.fit_cores > pipeline/engines/cores.json` (two minutes).

The orbitals are those of the free, neutral, spherically averaged atom in PBE. A density functional, because the targets
are: PBE and B3LYP give the same cores to 0.1 % of their electrons, Hartree–Fock ones are 1 % away. No relativity,
because the targets have none: it moves 0.4 % of chlorine's core, 1 % of bromine's and 2 % of iodine's.

The Gaussians are the best for each element and angular momentum, shared by its orbitals: 2n + 4 of them for n orbitals,
which misplaces 0.1 to 0.25 % of the core's electrons (0.36 % of zinc's). Elements end at Xe: beyond, the core has f
orbitals, open ones in the lanthanides, and without relativity nothing there is right.
"""

import json
import math

import numpy as np
from pyscf import gto
from pyscf.scf import ADIIS
from pyscf.scf.atom_ks import AtomSphAverageRKS
from scipy.optimize import least_squares

from pipeline.elements import SYMBOLS
from pipeline.engines.fit_slater import RADIUS, gaussian_functions, rounded
from pipeline.engines.xtb import valence_electrons
from storage.schema import FloatArray

LAST = 54  # Xe
CORES = {0: (), 2: (1,), 10: (2, 1), 18: (3, 2), 28: (3, 2, 1), 36: (4, 3, 1), 46: (4, 3, 2)}  # electrons → s, p, d
BASIS_SET = "ano-rcc"  # its primitives only, uncontracted: the same exponents serve without relativity
DIGITS = 8
STARTS = 4  # of every fit


def core_of(number: int) -> tuple[int, ...]:
    """Orbitals of each angular momentum that GFN1 and GFN2 leave out."""
    return CORES[number - valence_electrons("gfn2", number)]


def solve_atom(number: int, functional: str = "PBE") -> AtomSphAverageRKS:
    """The atom with fractional occupations, equal within a subshell, so that its potential is a sphere."""
    symbol = SYMBOLS[number]
    highest = max(2 if number > 18 else 1, len(core_of(number)) - 1)
    primitives = [shell for shell in gto.uncontract(gto.basis.load(BASIS_SET, symbol)) if shell[0] <= highest]
    field = AtomSphAverageRKS(gto.M(atom=symbol, basis={symbol: primitives}, spin=number % 2, verbose=0))
    field.xc, field.diis, field.max_cycle = functional, ADIIS(), 200
    field.grids.atom_grid, field.grids.prune = (150, 50), None  # 50 directions are exact for d functions in a sphere
    field.run()
    if not field.converged:
        raise RuntimeError(f"the atom {symbol} did not converge: try another start or mixer")
    return field


def core_orbitals(atom: AtomSphAverageRKS, degree: int, count: int) -> FloatArray:
    """The lowest normalised radial functions on the radial grid, (points, orbitals), times the root of the weight."""
    mol = atom.mol
    angular = np.array([mol.bas_angular(shell) for shell in range(mol.nbas)])
    exponents = np.array([mol.bas_exp(shell)[0] for shell in np.flatnonzero(angular == degree)])
    first = int(np.sum(2 * angular[angular < degree] + 1))  # functions, and orbitals, are sorted by angular momentum
    step = 2 * degree + 1
    rows = first + step * np.arange(len(exponents))
    columns = first + step * np.arange(count)
    values: FloatArray = gaussian_functions(exponents, degree) @ atom.mo_coeff[np.ix_(rows, columns)]
    return np.asarray(values / np.linalg.norm(values, axis=0))


def residual(log_exponents: FloatArray, orbitals: FloatArray, degree: int) -> FloatArray:
    """What the best linear combinations leave of the orbitals, one after another."""
    span, _ = np.linalg.qr(gaussian_functions(np.exp(log_exponents), degree))
    return np.asarray(orbitals - span @ (span.T @ orbitals)).ravel()


def best_exponents(orbitals: FloatArray, degree: int) -> FloatArray:
    """Exponents of least squared residual among the optima reached from random starts, falling."""
    count = 2 * orbitals.shape[1] + 4
    squares = 1 / np.sum((RADIUS[:, None] * orbitals) ** 2, axis=0)  # 1/⟨r²⟩: the scale of an orbital's exponents
    low, high = math.log(0.2 * squares.min()), math.log(20 * squares.max())
    rng = np.random.default_rng(degree)
    found = [
        least_squares(
            residual, np.linspace(low, high + rng.uniform(0, 5), count), args=(orbitals, degree), bounds=(-4, 16)
        )
        for _ in range(STARTS)
    ]
    best = min(found, key=lambda result: float(result.cost))
    return np.sort(np.exp(best.x))[::-1]


def fit_subshells(orbitals: FloatArray, degree: int) -> dict[str, list[float] | list[list[float]]]:
    """The table's entry for one angular momentum; coefficients, orbital by orbital, are of normalised primitives."""
    exponents = best_exponents(orbitals, degree)
    coefficients = np.linalg.lstsq(gaussian_functions(exponents, degree), orbitals, rcond=None)[0]
    return {
        "exponents": rounded(exponents, DIGITS).tolist(),
        "orbitals": [rounded(column, DIGITS).tolist() for column in coefficients.T],
    }


def main() -> None:
    print("{")
    for number in range(1, LAST + 1):
        counts = core_of(number)
        atom = solve_atom(number) if counts else None
        entry = [fit_subshells(core_orbitals(atom, degree, count), degree) for degree, count in enumerate(counts)]
        print(f'"{number}": {json.dumps(entry)}' + ("," if number < LAST else ""), flush=True)
    print("}")


if __name__ == "__main__":
    main()
