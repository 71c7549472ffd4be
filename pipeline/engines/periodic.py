"""Kohn–Sham densities of molecules in periodic boxes, as super-resolution data are published, from PySCF.

Gaussian orbitals at Γ; the Coulomb potential and the functional on a mesh of plane waves, by PySCF's multigrid
(J. VandeVondele et al., Comput. Phys. Commun. 167, 103 (2005) has the method).
"""

from dataclasses import dataclass, replace

import numpy as np
from pyscf import lib, scf
from pyscf.dft import libxc
from pyscf.pbc import dft, gto
from pyscf.pbc.dft import multigrid

from pipeline.engines.convergence import converge
from pipeline.engines.dft import CONVERGENCE, MAX_CYCLES, check_functional, count_filled, read_state
from pipeline.engines.periodic_box import PeriodicBox
from pipeline.engines.pyscf_cell import build_cell, check_periodic
from pipeline.engines.pyscf_molecule import basis_of, build_atom, check_method
from storage.schema import Basis, Conformer, ElectronicState, FloatArray, IntArray


class GammaMultigrid(multigrid.MultiGridNumInt2):  # type: ignore[misc]
    """PySCF's, whose second-order solver takes the orbitals at Γ for those of several k-points (2.14)."""

    def cache_xc_kernel(
        self, cell: gto.Cell, grids: object, xc: str, orbitals: FloatArray, occupations: FloatArray, *args: object
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Density, potential and kernel on the mesh, of one spin or of two."""
        filled = np.asarray(orbitals) * np.asarray(occupations)[..., None, :]
        density = filled @ np.swapaxes(orbitals, -1, -2)
        return self.cache_xc_kernel1(cell, grids, xc, density, *args)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PeriodicDftEngine:
    """Restricted, or unrestricted where the conformer has unpaired electrons. One thread: same input, same bits.

    Energies are those of one box; energies of orbitals have the mean potential of the box as zero; a dipole is not
    defined.
    """

    functional: str  # as PySCF names them; of the density, or of it and its gradient
    basis_set: str
    pseudopotential: str
    box: PeriodicBox
    convergence: float = CONVERGENCE
    max_cycles: int = MAX_CYCLES

    def __post_init__(self) -> None:
        check_method(self.basis_set, self.pseudopotential)
        check_periodic(self.pseudopotential)
        check_functional(self.functional)
        if libxc.is_hybrid_xc(self.functional) or libxc.xc_type(self.functional) not in ("LDA", "GGA"):
            raise ValueError(
                f'boundary "periodic" computes functionals of the density and its gradient, not "{self.functional}": '
                'use for example "PBE"'
            )

    def basis(self, numbers: IntArray) -> Basis:
        return basis_of(numbers, self.basis_set, self.pseudopotential)

    def core_electrons(self, number: int) -> int:
        return int(build_atom(number, self.basis_set, self.pseudopotential).atom_nelec_core(0))

    def orbital_limit(self, conformer: Conformer) -> int:
        return count_filled(conformer, sum(self.core_electrons(int(number)) for number in conformer.numbers))

    def solve(self, conformer: Conformer) -> ElectronicState:
        basis = self.basis(conformer.numbers)
        with lib.with_omp_threads(1):
            cell = build_cell(conformer, self.basis_set, self.pseudopotential, self.box)
            field, rung = converge(self.mean_field(cell), conformer)
            return replace(read_state(field, conformer, basis), cell=self.box.edges(conformer.positions), rung=rung)

    def mean_field(self, cell: gto.Cell) -> scf.hf.SCF:
        """PySCF's calculation, set up and not yet run."""
        field = (dft.UKS if cell.spin else dft.RKS)(cell, xc=self.functional)
        field._numint = GammaMultigrid(cell)
        field._chkfile.close()  # PySCF opens a temporary file for every calculation
        field.chkfile = None
        field.conv_tol, field.conv_tol_grad = self.convergence, None
        field.init_guess, field.max_cycle = "minao", self.max_cycles
        return field
