"""Guessed densities as they were in the data that a model has learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError
from storage.schema import Conformer, Grid, Sampling
from training.trained import Origin

SPACING = "grid.spacing_angstrom"


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


def check_guess(recipe: Mapping[str, Any], density: str, origin: Origin, name: str) -> None:
    """Raises RequestError where a recipe makes or stores a density otherwise than the model's guesses were.

    `name` is what errors call the recipe, or its store.
    """
    found, wanted = _describe(recipe, density), _describe(origin.recipe, origin.input)
    if origin.knows_cells((float(found[SPACING]) * BOHR_PER_ANGSTROM,) * 3):
        found[SPACING] = wanted[SPACING]
    for (key, value), trained in zip(found.items(), wanted.values(), strict=True):
        if value != trained:
            raise RequestError(
                f"{name} has {key} = {value!r}, the model was trained on {trained!r}: give the molecules "
                "themselves, or bring the store to the same (another grid: `rhoflow voxelize`)"
            )


def _describe(recipe: Mapping[str, Any], density: str) -> dict[str, Any]:
    """What makes two guesses the same thing."""
    grid = recipe["grid"]
    keys = {"electrons": recipe["electrons"], SPACING: grid["spacing_angstrom"], "grid.sampling": grid["sampling"]}
    return {**keys, f"densities.{density}": recipe["densities"][density]}
