"""Guessed densities as they were in the data that a model has learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage.schema import Conformer, Grid, Sampling


@dataclass(frozen=True)
class Guess:
    """A molecule on its grid, with the density that a prediction starts from."""

    conformer: Conformer
    grid: Grid
    sampling: Sampling
    values: NDArray[np.float32]  # electrons/bohr³
    electrons: float  # its analytic integral over the box


class Guesses(Protocol):
    """Those of some molecules, each made or read when it is asked for."""

    @property
    def ids(self) -> Sequence[str]: ...

    def __getitem__(self, number: int) -> Guess:
        """Raises a MoleculeFailed."""
        ...
