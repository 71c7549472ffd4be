"""The superposition of atomic densities in a target's basis: the free guess, with no cycle run."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
from pyscf import gto, lib, scf
from pyscf.data.elements import NRSRHF_CONFIGURATION
from pyscf.gto.ecp import core_configuration

from pipeline.elements import SYMBOLS
from pipeline.engines.pyscf_molecule import (
    ALL_ELECTRON,
    PROGRAM,
    basis_of,
    build_atom,
    build_mol,
    check_method,
    dipole_of,
    make_mol,
)
from pipeline.failures import UnsupportedElement
from storage.schema import Basis, Conformer, ElectronicState, FloatArray, IntArray

MINIMAL_SET = "gth-szv"
EMPTY = 1e-10  # electrons; below it an occupation is a rounding error


@dataclass(frozen=True)
class SadEngine:
    """Spherical neutral atoms, projected on the basis and scaled to the molecule's electron count."""

    variant: Literal["minao", "gth-szv"] = "minao"  # PySCF's ANO atoms, or the GTH single-zeta basis as atoms
    basis_set: str = "gth-tzv2p"
    pseudopotential: str = "gth-pbe"  # "none": all-electron

    def __post_init__(self) -> None:
        check_method(self.basis_set, self.pseudopotential)
        if self.variant not in ("minao", MINIMAL_SET):
            raise ValueError(f'variant "{self.variant}" is not offered: use "minao" or "{MINIMAL_SET}"')
        if self.variant == MINIMAL_SET and self.pseudopotential == ALL_ELECTRON:
            raise ValueError(f'variant "{MINIMAL_SET}" has no core electrons: use "minao", or a pseudopotential')

    def basis(self, numbers: IntArray) -> Basis:
        basis = basis_of(numbers, self.basis_set, self.pseudopotential)
        if self.variant == MINIMAL_SET:
            for number in basis.shells:
                spherical_occupations(number, self.pseudopotential)
        return basis

    def core_electrons(self, number: int) -> int:
        return int(build_atom(number, self.basis_set, self.pseudopotential).atom_nelec_core(0))

    def orbital_limit(self, conformer: Conformer) -> int:
        return self.basis(conformer.numbers).size(conformer.numbers)

    def solve(self, conformer: Conformer) -> ElectronicState:
        basis = self.basis(conformer.numbers)
        with lib.with_omp_threads(1):
            mol = build_mol(conformer, self.basis_set, self.pseudopotential)
            density = self.guess_density(mol, conformer)
            overlap = mol.intor_symmetric("int1e_ovlp")
            density *= mol.nelectron / np.sum(density * overlap)
            orbitals, occupations = natural_orbitals(density, overlap)
            return ElectronicState(
                numbers=conformer.numbers,
                positions=conformer.positions,
                basis=basis,
                orbitals=orbitals,
                occupations=occupations,
                dipole=dipole_of(mol, density),
                program=PROGRAM,
            )

    def guess_density(self, mol: gto.Mole, conformer: Conformer) -> FloatArray:
        """Density matrix (functions, functions) in the target's basis, not yet scaled."""
        if self.variant == "minao":
            return np.array(scf.hf.init_guess_by_minao(mol))
        atoms = make_mol(mol.elements, conformer.positions, MINIMAL_SET, self.pseudopotential)
        occupations = [spherical_occupations(int(number), self.pseudopotential) for number in conformer.numbers]
        projected = scf.addons.project_mo_nr2nr(atoms, np.eye(atoms.nao), mol)
        return np.asarray((projected * np.concatenate(occupations)) @ projected.T)


def spherical_occupations(number: int, pseudopotential: str) -> FloatArray:
    """Electrons in each function of the neutral atom's minimal basis, equal within a shell, lower shells first."""
    atom = build_atom(number, MINIMAL_SET, pseudopotential)
    symbol = SYMBOLS[number]
    core = core_configuration(atom.atom_nelec_core(0), atom_symbol=symbol)
    left = [
        electrons - closed * (4 * degree + 2)
        for degree, (electrons, closed) in enumerate(zip(NRSRHF_CONFIGURATION[number], core, strict=False))
    ]
    occupations = []
    for index in range(atom.nbas):
        degree = int(atom.bas_angular(index))
        for _ in range(atom.bas_nctr(index)):
            electrons = min(left[degree], 4 * degree + 2)
            left[degree] -= electrons
            occupations += [electrons / (2 * degree + 1)] * (2 * degree + 1)
    if any(left):
        raise UnsupportedElement(f"{symbol}: {MINIMAL_SET} cannot hold the atom's valence electrons: use variant minao")
    return np.array(occupations)


def natural_orbitals(density: FloatArray, overlap: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Orthonormal (orbitals, functions) and occupations (orbitals,) of a density matrix, the fullest first."""
    lower = np.linalg.cholesky(overlap)
    occupations, vectors = np.linalg.eigh(lower.T @ density @ lower)
    kept = np.flatnonzero(np.abs(occupations) > EMPTY)[::-1]
    orbitals = scipy.linalg.solve_triangular(lower, vectors[:, kept], lower=True, trans="T")
    return np.ascontiguousarray(orbitals.T), occupations[kept]
