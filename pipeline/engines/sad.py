"""The superposition of atomic densities in a target's basis: the free guess, with no cycle run."""

import functools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.linalg
from pyscf import gto, lib, scf
from pyscf.data.elements import NRSRHF_CONFIGURATION
from pyscf.gto.ecp import core_configuration

from pipeline.elements import SYMBOLS
from pipeline.engines.periodic_box import PeriodicBox
from pipeline.engines.pyscf_cell import build_cell, check_periodic, periodic_overlap
from pipeline.engines.pyscf_molecule import (
    ALL_ELECTRON,
    PROGRAM,
    basis_of,
    build_atom,
    build_mol,
    check_method,
    dipole_of,
)
from pipeline.failures import UnsupportedElement
from storage.schema import Basis, Conformer, ElectronicState, FloatArray, IntArray

MINIMAL_SET = "gth-szv"
EMPTY = 1e-10  # electrons; below it an occupation is a rounding error


@dataclass(frozen=True)
class SadEngine:
    """Spherical neutral atoms, projected on the basis and scaled to the molecule's electron count.

    "minao": PySCF's ANO atoms, projected on all functions of the molecule together. "gth-szv": the GTH single-zeta
    basis as atoms, each projected on its own functions; in a periodic box this is the guess of arXiv 2402.12335.
    """

    variant: Literal["minao", "gth-szv"] = "minao"
    basis_set: str = "gth-tzv2p"
    pseudopotential: str = "gth-pbe"  # "none": all-electron
    box: PeriodicBox | None = None  # None: isolated molecules

    def __post_init__(self) -> None:
        check_method(self.basis_set, self.pseudopotential)
        if self.variant not in ("minao", MINIMAL_SET):
            raise ValueError(f'variant "{self.variant}" is not offered: use "minao" or "{MINIMAL_SET}"')
        if self.variant == MINIMAL_SET and self.pseudopotential == ALL_ELECTRON:
            raise ValueError(f'variant "{MINIMAL_SET}" has no core electrons: use "minao", or a pseudopotential')
        if self.box is not None:
            check_periodic(self.pseudopotential)

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
            overlap = self.overlap(mol, conformer)
            density *= mol.nelectron / np.sum(density * overlap)
            orbitals, occupations = natural_orbitals(density, overlap)
            state = ElectronicState(
                numbers=conformer.numbers,
                positions=conformer.positions,
                basis=basis,
                orbitals=orbitals,
                occupations=occupations,
                program=PROGRAM,
            )
            if self.box is not None:
                return replace(state, cell=self.box.edges(conformer.positions))
            return replace(state, dipole=dipole_of(mol, density))

    def guess_density(self, mol: gto.Mole, conformer: Conformer) -> FloatArray:
        """Density matrix (functions, functions) in the target's basis, not yet scaled."""
        if self.variant == "minao":
            return np.array(scf.hf.init_guess_by_minao(mol))
        atoms = [atomic_density(int(number), self.basis_set, self.pseudopotential) for number in conformer.numbers]
        return np.asarray(scipy.linalg.block_diag(*atoms))

    def overlap(self, mol: gto.Mole, conformer: Conformer) -> FloatArray:
        if self.box is None:
            return np.asarray(mol.intor_symmetric("int1e_ovlp"))
        return periodic_overlap(build_cell(conformer, self.basis_set, self.pseudopotential, self.box))


@functools.cache
def atomic_density(number: int, basis: str, pseudopotential: str) -> FloatArray:
    """Density matrix of the neutral single-zeta atom in the atom's functions of `basis`."""
    atom, small = (build_atom(number, name, pseudopotential) for name in (basis, MINIMAL_SET))
    projected = scf.addons.project_mo_nr2nr(small, np.eye(small.nao), atom)
    return np.asarray((projected * spherical_occupations(number, pseudopotential)) @ projected.T)


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
