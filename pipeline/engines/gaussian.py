"""The analytic engine: one Gaussian of valence electrons per atom, for exact and cheap tests."""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.elements import noble_core
from storage.schema import Basis, Conformer, ElectronicState, IntArray, Shell


@dataclass(frozen=True)
class GaussianEngine:
    """ρ(r) = Σ_A q_A (a/π)^(3/2) exp(−a|r − R_A|²), with a = `exponent` and q_A the atom's valence count.

    A charged molecule scales all q_A alike, so that they add up to its electron count.
    """

    exponent: float = 1.2  # 1/bohr², of the density

    def basis(self, numbers: IntArray) -> Basis:
        half = self.exponent / 2  # ρ is the square of an s function
        radial = math.sqrt(4 * math.pi) * (self.exponent / math.pi) ** 0.75
        shell = Shell(0, np.array([half]), np.array([radial]))
        return Basis({int(number): (shell,) for number in np.unique(numbers)})

    def core_electrons(self, number: int) -> int:
        return noble_core(number)

    def orbital_limit(self, conformer: Conformer) -> int:
        return len(conformer.numbers)

    def solve(self, conformer: Conformer) -> ElectronicState:
        valence = np.array([number - noble_core(int(number)) for number in conformer.numbers], dtype=np.float64)
        occupations = valence * (valence.sum() - conformer.charge) / valence.sum()
        dipole = (valence - occupations) @ conformer.positions
        return ElectronicState(
            numbers=conformer.numbers,
            positions=conformer.positions,
            basis=self.basis(conformer.numbers),
            orbitals=np.eye(len(valence)),
            occupations=occupations,
            dipole=(float(dipole[0]), float(dipole[1]), float(dipole[2])),
            program="rhoflow gaussian",
        )
