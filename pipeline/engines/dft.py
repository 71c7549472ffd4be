"""Kohn–Sham and Hartree–Fock densities of isolated molecules, from PySCF."""

from dataclasses import dataclass, replace

import numpy as np
from pyscf import df, dft, gto, lib, scf

from pipeline.elements import SYMBOLS
from pipeline.engines.convergence import converge
from pipeline.engines.coulomb import CoulombFit
from pipeline.engines.pyscf_molecule import (
    PROGRAM,
    UNBOUNDED,
    basis_of,
    build_atom,
    build_mol,
    check_method,
    dipole_of,
    require,
)
from pipeline.engines.quadrature import KeptQuadrature
from pipeline.failures import TooLarge
from storage.schema import Basis, Conformer, ElectronicState, IntArray

# The J fit of the same family saves 4 % of the time and costs 2.4 times the density error (CN1C=CN=C1, TZV2P).
FITTING_SET = "def2-universal-jkfit"
FIT_BYTES = 4 * 2**30  # of three-centre integrals kept; beyond it a pure functional computes them in every cycle
REPULSION_BYTES = 2**30  # of four-centre integrals kept where nothing is fitted
CONVERGENCE = 1e-8  # hartree from cycle to cycle; the orbital gradient must fall below its root
MAX_CYCLES = 50  # of each rung


@dataclass(frozen=True)
class DftEngine:
    """Restricted, or unrestricted where the conformer has unpaired electrons. One thread: same input, same bits."""

    functional: str = "PBE"  # as PySCF names them, and "HF"
    basis_set: str = "gth-tzv2p"
    pseudopotential: str = "gth-pbe"  # "none": all-electron
    quadrature_level: int = 1  # PySCF's, 0 … 9
    density_fitting: bool = True
    convergence: float = CONVERGENCE
    max_cycles: int = MAX_CYCLES

    def __post_init__(self) -> None:
        check_method(self.basis_set, self.pseudopotential)
        check_functional(self.functional)

    def basis(self, numbers: IntArray) -> Basis:
        basis = basis_of(numbers, self.basis_set, self.pseudopotential)
        if self.density_fitting:
            for number in basis.shells:
                require(gto.basis.load, FITTING_SET, SYMBOLS[number])
        return basis

    def core_electrons(self, number: int) -> int:
        return int(build_atom(number, self.basis_set, self.pseudopotential).atom_nelec_core(0))

    def orbital_limit(self, conformer: Conformer) -> int:
        return count_filled(conformer, sum(self.core_electrons(int(number)) for number in conformer.numbers))

    def solve(self, conformer: Conformer) -> ElectronicState:
        basis = self.basis(conformer.numbers)
        with lib.with_omp_threads(1):
            mol = build_mol(conformer, self.basis_set, self.pseudopotential)
            field, rung = converge(self.mean_field(mol, conformer), conformer)
            state = read_state(field, conformer, basis)
            dipole = dipole_of(mol, (state.orbitals.T * state.occupations) @ state.orbitals)
            return replace(state, dipole=dipole, rung=rung)

    def mean_field(self, mol: gto.Mole, conformer: Conformer) -> scf.hf.SCF:
        """PySCF's calculation, set up and not yet run."""
        field = (dft.UKS if conformer.unpaired else dft.RKS)(mol, xc=self.functional)
        field._chkfile.close()  # PySCF opens a temporary file for every calculation
        field.chkfile = None
        field._numint = KeptQuadrature()
        field.grids.level = self.quadrature_level
        field.conv_tol, field.conv_tol_grad = self.convergence, None
        field.init_guess, field.max_cycle = "minao", self.max_cycles
        if self.density_fitting:
            return field.density_fit(with_df=self.fit(mol, conformer))
        field.max_memory = 0  # else PySCF decides by the memory left what it keeps
        if mol.nao**4 <= REPULSION_BYTES:  # eight bytes each, eightfold symmetry
            field._eri = mol.intor("int2e", aosym="s8")
        return field

    def fit(self, mol: gto.Mole, conformer: Conformer) -> df.DF:
        hybrid = dft.libxc.is_hybrid_xc(self.functional)
        needed = 4 * mol.nao * (mol.nao + 1) * df.addons.make_auxmol(mol, FITTING_SET).nao
        if needed <= FIT_BYTES:
            fit = (df.DF if hybrid else CoulombFit)(mol, FITTING_SET)
            fit.max_memory = UNBOUNDED
            return fit.build()
        if hybrid:
            raise TooLarge(
                f"{conformer.id}: {mol.nao} basis functions need {needed / 2**30:.1f} GiB of fitted integrals for "
                f"{self.functional} (limit {FIT_BYTES / 2**30:.0f}): use a smaller basis or a pure functional"
            )
        return df.DF(mol, FITTING_SET)


def check_functional(name: str) -> None:
    try:
        dft.libxc.parse_xc(name)
    except (KeyError, ValueError) as error:
        raise ValueError(f'PySCF knows no functional "{name}": use for example "PBE" or "B3LYP"') from error


def count_filled(conformer: Conformer, core_electrons: int) -> int:
    """Orbitals of a state: one per pair of electrons, or one per electron of an unrestricted state."""
    electrons = int(conformer.numbers.sum()) - core_electrons - conformer.charge
    return electrons if conformer.unpaired else electrons // 2


def read_state(field: scf.hf.SCF, conformer: Conformer, basis: Basis) -> ElectronicState:
    """The occupied orbitals of a converged calculation, alpha and beta after one another where there are two.

    The dipole is left out: periodic calculations have none. So is the rung.
    """
    spins, size = (2 if conformer.unpaired else 1), field.mol.nao
    orbitals = np.reshape(field.mo_coeff, (spins, size, -1)).transpose(0, 2, 1)
    energies, occupations = np.reshape(field.mo_energy, (spins, -1)), np.reshape(field.mo_occ, (spins, -1))
    filled = occupations > 0
    return ElectronicState(
        numbers=conformer.numbers,
        positions=conformer.positions,
        basis=basis,
        orbitals=np.ascontiguousarray(orbitals[filled]),
        occupations=occupations[filled],
        alpha_orbitals=int(filled[0].sum()) if conformer.unpaired else 0,
        energy=float(field.e_tot),
        homo=float(energies[filled].max()),
        lumo=float(energies[~filled].min()) if not filled.all() else float("nan"),
        spin_square=float(field.spin_square()[0]) if conformer.unpaired else float("nan"),
        program=PROGRAM,
    )
