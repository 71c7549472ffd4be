"""The values that cross rooms: molecules, conformers, grids, bases, electronic states, samples.

Lengths are bohr, energies hartree, densities electrons/bohr³, dipoles e·bohr.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Label = float | str
Sampling: TypeAlias = Literal["cell", "point"]  # exact averages over cells, or values at their centres


@dataclass(frozen=True)
class Molecule:
    """One source row: a graph (SMILES), a geometry, or both, with what the row says about it."""

    row: int  # position in the source, from 0
    id: str
    smiles: str | None = None
    numbers: IntArray | None = None  # (atoms,)
    positions: FloatArray | None = None  # (atoms, 3), bohr; of several geometries (geometries · atoms, 3)
    charge: int | None = None  # None: what the SMILES says, else 0
    unpaired: int | None = None  # unpaired electrons; None: what the SMILES says, else as few as parity allows
    labels: Mapping[str, Label] = field(default_factory=dict)
    group: str = ""  # molecules of one group never cross splits; "": that of the graph
    ligand_atoms: int = 0  # of a complex: how many of the atoms, the first, are the ligand's; 0: it is no complex


@dataclass(frozen=True)
class Conformer:
    """A molecule at one geometry: what an engine computes."""

    id: str  # <molecule id>#<conformer>
    numbers: IntArray  # (atoms,) atomic numbers
    positions: FloatArray  # (atoms, 3), bohr
    charge: int  # of a complex, the ligand's: what charges its pocket has is not known
    unpaired: int  # unpaired electrons (2S)
    smiles: str  # canonical, "" where the source gave no graph; of a complex, the ligand's
    group: str  # molecules of one group never cross splits: the InChIKey's connectivity block, or the protein's hash
    ligand_atoms: int = 0  # of a complex: how many of the atoms, the first, are the ligand's; 0: it is no complex


@dataclass(frozen=True)
class Grid:
    """An orthorhombic lattice of cells. Lengths in bohr."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]  # centre of cell (0, 0, 0)

    def centres(self, axis: int) -> FloatArray:
        """Cell centres along one axis, shape (n,)."""
        return self.origin[axis] + self.spacing[axis] * np.arange(self.shape[axis], dtype=np.float64)

    def edges(self, axis: int) -> FloatArray:
        """Cell boundaries along one axis, shape (n + 1,)."""
        return self.origin[axis] + self.spacing[axis] * (np.arange(self.shape[axis] + 1, dtype=np.float64) - 0.5)

    @property
    def cell_volume(self) -> float:
        return float(np.prod(self.spacing))


@dataclass(frozen=True)
class Shell:
    """A contracted Gaussian shell, written without hidden normalisation.

    Spherical: R(r)·Y_lm with R(r) = Σ_k coefficients[k]·exp(−exponents[k]·r²) and Y_lm the real regular solid
    harmonics, orthonormal on the unit sphere (Y_00 = 1/√4π), ordered m = −l … l except p, which is x, y, z.
    Cartesian: R(r)·xⁱyʲzᵏ, plain monomials, i descending then j (xx, xy, xz, yy, yz, zz).
    """

    angular_momentum: int
    exponents: FloatArray  # (primitives,), 1/bohr²
    coefficients: FloatArray  # (primitives,)
    cartesian: bool = False

    @property
    def size(self) -> int:
        """Number of functions."""
        degree = self.angular_momentum
        return (degree + 1) * (degree + 2) // 2 if self.cartesian else 2 * degree + 1


@dataclass(frozen=True)
class Basis:
    """The shells of each element, by atomic number.

    A molecule's functions run over its atoms, then the shells of each, then their components.
    """

    shells: Mapping[int, Sequence[Shell]]

    def size(self, numbers: IntArray) -> int:
        """Number of functions of a molecule."""
        return sum(shell.size for number in numbers for shell in self.shells[int(number)])


@dataclass(frozen=True)
class ElectronicState:
    """Orbitals and what was measured on them; density = Σ_i occupations[i]·(Σ_μ orbitals[i, μ]·χ_μ)².

    In a periodic box every χ_μ is the sum of a function and of its images in all boxes (Bloch orbitals at Γ).
    """

    numbers: IntArray  # (atoms,)
    positions: FloatArray  # (atoms, 3), bohr
    basis: Basis
    orbitals: FloatArray  # (orbitals, functions), alpha and beta after one another
    occupations: FloatArray  # (orbitals,)
    alpha_orbitals: int = 0  # how many leading orbitals hold alpha electrons only; 0: every orbital is restricted
    energy: float = float("nan")  # hartree; NaN where the engine has none
    dipole: tuple[float, float, float] = (
        float("nan"),
    ) * 3  # e·bohr, of nuclei (or ions) and electrons, about the coordinate origin
    homo: float = float("nan")  # hartree
    lumo: float = float("nan")  # hartree
    spin_square: float = float("nan")  # ⟨S²⟩ of an unrestricted state
    rung: int = 0  # of the engine's ways to convergence, the one that reached it; 0: the usual one
    cell: tuple[float, float, float] | None = None  # edges (bohr) of a periodic box, or None: an isolated molecule
    program: str = ""  # name and version of the code that made it, e.g. "tblite 0.8.0"

    @property
    def electrons(self) -> float:
        return float(self.occupations.sum())

    @property
    def spin_contamination(self) -> float:
        """⟨S²⟩ − S(S + 1) of an unrestricted state."""
        spin = self.alpha_orbitals - len(self.occupations) / 2
        return self.spin_square - spin * (spin + 1)


@dataclass(frozen=True)
class Sample:
    """One conformer, computed: its channels on a grid, the states behind them, the checks they passed."""

    conformer: Conformer
    grid: Grid
    channels: Mapping[str, NDArray[np.float32]]  # by name; (nx, ny, nz), or (types, nx, ny, nz)
    states: Mapping[str, ElectronicState] = field(default_factory=dict)  # by density name
    checks: Mapping[str, float] = field(default_factory=dict)  # e.g. "target.electrons": what was measured
