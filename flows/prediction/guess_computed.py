"""Guesses of new molecules, computed by the recipe of the data that a model has learned from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flows.engines import build_engine
from flows.plan import place
from flows.prediction.guess import Guess
from flows.recipe import FileDensity, Recipe, check_recipe
from flows.workers.isolation import borrow_child
from pipeline.conformers import conform
from pipeline.engines.protocol import DensityEngine
from pipeline.failures import MoleculeFailed, TooLarge
from pipeline.sample import Fields, compute_sample
from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError
from storage.objects import locate
from storage.schema import Molecule, Sample
from training.trained import Origin

LARGEST = 10**6  # cells along an edge: a box too large for the recipe's classes is as tight as its margin allows


@dataclass(frozen=True)
class Guesser:
    """How a guess is made, as plain values for the child process."""

    input: str  # name of the density
    engine: DensityEngine
    recipe: Recipe
    multiple: int  # of cells along the edges of a box too large for the recipe's classes


class ComputedGuesses:
    """Of each of some molecules, one at a time, in a child process."""

    def __init__(self, molecules: Sequence[Molecule], guesser: Guesser, memory_gib: float) -> None:
        self.ids = [molecule.id for molecule in molecules]
        self._molecules, self._guesser, self._memory_gib = molecules, guesser, memory_gib

    def __getitem__(self, number: int) -> Guess:
        guesser = self._guesser
        seconds = guesser.recipe.limits.seconds_per_molecule
        with borrow_child(self._memory_gib) as child:
            end = child.run(make_guess, self._molecules[number], guesser, seconds=seconds).end
        if isinstance(end, MoleculeFailed):
            raise end
        electrons = end.checks[f"{guesser.input}_box_electrons"]
        return Guess(end.conformer, end.grid, guesser.recipe.grid.sampling, end.channels[guesser.input], electrons)


def build_guesser(origin: Origin, multiple: int, spacing_angstrom: float | None) -> Guesser:
    """Raises RequestError as `read_guess_recipe` does."""
    recipe = read_guess_recipe(origin, spacing_angstrom)
    return Guesser(origin.input, build_engine(recipe.densities[origin.input], recipe), recipe, multiple)


def read_guess_recipe(origin: Origin, spacing_angstrom: float | None) -> Recipe:
    """That of the data a model has learned from, or on cells of another width.

    Raises RequestError where its guesses cannot be computed anew, or it does not know such cells.
    """
    if not origin.recipe:
        raise RequestError("the model does not say how its guesses were made: train it again, or give a store")
    recipe = check_recipe(origin.recipe, locate(origin.stores[0]))
    density = recipe.densities[origin.input]
    if isinstance(density, FileDensity):
        raise RequestError(
            f"the model starts from densities ({origin.input!r}) out of files: give a store that has them"
        )
    return recipe if spacing_angstrom is None else _change_cells(recipe, origin, spacing_angstrom)


def _change_cells(recipe: Recipe, origin: Origin, spacing_angstrom: float) -> Recipe:
    """Boxes are at least as wide as before. Raises RequestError for cells that the model does not know."""
    grid = recipe.grid
    if not origin.knows_cells((spacing_angstrom * BOHR_PER_ANGSTROM,) * 3):
        low, high = (grid.spacing_angstrom * (1 + sign * origin.spacing_range) for sign in (-1, 1))
        known = f"of {low:.4g} Å" + f" to {high:.4g} Å" * (low < high)
        raise RequestError(
            f"--spacing-angstrom {spacing_angstrom:g}: the model was trained on cells {known}: ask for such, or train "
            'one that knows others (voxels = "device" and spacing_range)'
        )
    ratio = grid.spacing_angstrom / spacing_angstrom
    step = math.lcm(2, grid.multiple)
    classes = tuple(sorted({step * math.ceil(cells * ratio / step) for cells in grid.classes}))
    return recipe.model_copy(
        update={"grid": grid.model_copy(update={"spacing_angstrom": spacing_angstrom, "classes": classes})}
    )


def make_guess(molecule: Molecule, guesser: Guesser) -> Sample:
    """In the molecule's own geometry, where it has one. Raises a MoleculeFailed."""
    recipe, made = guesser.recipe, guesser.recipe.conformers
    keep = molecule.positions is not None
    conformer = conform(molecule, keep=keep, count=1, optimise=made.optimise, seed=made.seed)[0]
    try:
        planned = place(conformer, recipe)[1]
    except TooLarge:
        tight = recipe.grid.model_copy(update={"box": "tight", "multiple": guesser.multiple, "classes": (LARGEST,)})
        planned = place(conformer, recipe.model_copy(update={"grid": tight}))[1]
    fields = Fields(recipe.grid.sampling, (guesser.input,), round_to=recipe.store.round_to)
    return compute_sample(planned.conformer, planned.grid, {guesser.input: guesser.engine}, fields)
