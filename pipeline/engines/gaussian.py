"""The analytic engine: one Gaussian of valence electrons per atom, for exact and cheap tests."""

import ctypes
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from pipeline.elements import noble_core
from storage.schema import Basis, Conformer, ElectronicState, IntArray, Shell

Fault: TypeAlias = Literal["abort", "hang", "memory"]
STEP = 2**23  # float64 numbers, 64 MiB


@dataclass(frozen=True)
class GaussianEngine:
    """ρ(r) = Σ_A q_A (a/π)^(3/2) exp(−a|r − R_A|²), with a = `exponent` and q_A the atom's valence count.

    A charged molecule scales all q_A alike, so that they add up to its electron count.
    It can be as slow, and for molecules named by row id as faulty, as native code is.
    """

    exponent: float = 1.2  # 1/bohr², of the density
    seconds: float = 0.0  # that each molecule takes, without computing
    faults: Mapping[str, Fault] = field(default_factory=dict)

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
        time.sleep(self.seconds)
        if fault := self.faults.get(conformer.id.partition("#")[0]):
            _commit(fault)
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


def _commit(fault: Fault) -> None:
    """What native code does, and nothing in its own process can stop."""
    if fault == "abort":
        os.abort()
    while fault == "hang":
        ctypes.PyDLL(None).pause()  # does not let go of the interpreter
    taken = []
    while fault == "memory":
        taken.append(np.ones(STEP))  # written to, or it would cost nothing
