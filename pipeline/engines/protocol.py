"""What every electronic-structure engine offers."""

from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.superposition import Superposition
from storage.schema import Basis, Conformer, ElectronicState, FloatArray, Grid, IntArray


@runtime_checkable
class Engine(Protocol):
    """Turns a conformer into an electronic state. A frozen dataclass of its settings, so that it can be pickled."""

    def basis(self, numbers: IntArray) -> Basis:
        """The shells of the distinct elements among `numbers`, known before any calculation.

        Raises UnsupportedElement, naming the first element the engine has no parameters for.
        """
        ...

    def core_electrons(self, number: int) -> int:
        """Electrons of the element `number` that the engine leaves out of the density (0: all-electron)."""
        ...

    def orbital_limit(self, conformer: Conformer) -> int:
        """Most orbitals that `solve` can return for this conformer."""
        ...

    def solve(self, conformer: Conformer) -> ElectronicState:
        """Run the calculation. Raises a MoleculeFailed; never returns an unconverged state."""
        ...


@runtime_checkable
class FieldEngine(Protocol):
    """Gives a density without orbitals, on the one grid it is known on."""

    def grid(self, conformer: Conformer) -> Grid:
        """Raises a MoleculeFailed where there is none."""
        ...

    def sample(self, conformer: Conformer, grid: Grid) -> FloatArray:
        """The density on that grid, shape `grid.shape`, electrons/bohr³. Raises a MoleculeFailed."""
        ...


@runtime_checkable
class RefiningEngine(Protocol):
    """Makes a density of another one, on the same grid."""

    @property
    def input(self) -> str:
        """Name of the density that it starts from, which has orbitals."""
        ...

    def refine(
        self, conformer: Conformer, grid: Grid, guess: NDArray[np.float32], electrons: float
    ) -> tuple[FloatArray, Mapping[str, float]]:
        """From the stored guess, shape `grid.shape`, electrons/bohr³, that holds `electrons` in its box.

        Returns a density of the same shape, and what is known of it. Raises a MoleculeFailed.
        """
        ...


@runtime_checkable
class SuperpositionEngine(Protocol):
    """Gives a density as spherical atoms, on any grid; nothing of it needs to be kept."""

    def core_electrons(self, number: int) -> int:
        """As an Engine's. Raises UnsupportedElement where it has no such atom."""
        ...

    def select(self, conformer: Conformer) -> IntArray:
        """The atomic numbers of the atoms that the density is of. Raises a MoleculeFailed."""
        ...

    def superpose(self, conformer: Conformer) -> Superposition:
        """Raises a MoleculeFailed."""
        ...


@runtime_checkable
class ResamplingEngine(Protocol):
    """Gives a field that was measured, of which no electrons can be counted, on any grid."""

    def resample(self, conformer: Conformer, grid: Grid) -> tuple[FloatArray, Mapping[str, float]]:
        """Values of shape `grid.shape`, and what is known of them. Raises a MoleculeFailed."""
        ...


DensityEngine: TypeAlias = Engine | FieldEngine | RefiningEngine | ResamplingEngine | SuperpositionEngine
