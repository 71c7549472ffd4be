"""The engine that has learned: what a trained model makes of a guess, with the error to be expected."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.prediction.guess import check_guess
from flows.recipe import ModelDensity, Recipe, RecipeError, recipe_values
from storage.errors import StoreError
from storage.schema import Conformer, FloatArray, Grid
from training.models.prediction import predict_turned
from training.models.tiles import GIB
from training.superres.calibration import Calibration, find_calibration
from training.trained import PRETRAINED, Model, checksum_model, load_model, locate_run
from training.unseen import explain_doubt

LEFT = 0.5  # of a molecule's memory, for all but the network's features


@dataclass(frozen=True)
class Refined:
    """What a model says of one molecule."""

    density: NDArray[np.float32]  # (nx, ny, nz), electrons/bohr³
    expected_nmae: float | None  # None where there is a doubt
    doubt: str  # why no error can be foreseen for such a molecule


@dataclass(frozen=True)
class Refiner:
    """A model with what is known of its errors."""

    model: Model
    calibration: Calibration | None

    def refine(
        self, conformer: Conformer, grid: Grid, guess: NDArray[np.float32], electrons: float, memory: float
    ) -> Refined:
        """From a guess, shape `grid.shape`, that holds `electrons`, in so many bytes.

        Raises TooLarge where even tiles need more of them.
        """
        predicted = predict_turned(self.model.network, guess, electrons, grid.cell_volume, memory)
        state = conformer.charge, conformer.unpaired
        doubt = explain_doubt(self.model.origin, conformer.numbers, conformer.positions, state, grid.spacing)
        if self.calibration and not doubt:
            return Refined(predicted.density, self.calibration.expect(predicted.spread), "")
        uncalibrated = "" if self.calibration else "not calibrated: run `rhoflow evaluate` with the model and its store"
        return Refined(predicted.density, None, "; ".join(filter(None, (doubt, uncalibrated))))


@dataclass(frozen=True)
class ModelEngine:
    """Runs on the CPU, so that its bits repeat. A model is read once per process."""

    run: Path
    sha256: str
    input: str
    memory_gib: float

    def refine(
        self, conformer: Conformer, grid: Grid, guess: NDArray[np.float32], electrons: float
    ) -> tuple[FloatArray, Mapping[str, float]]:
        """What is known is the `expected_nmae`: NaN where there is a doubt."""
        refined = _read_refiner(self.run, self.sha256).refine(
            conformer, grid, guess, electrons, LEFT * self.memory_gib * GIB
        )
        expected = math.nan if refined.expected_nmae is None else refined.expected_nmae
        return refined.density.astype(np.float64), {"expected_nmae": expected}


def read_refiner(run: Path) -> Refiner:
    """Raises RequestError where the run holds no model."""
    model = load_model(run)
    return Refiner(model, find_calibration(run, model.step))


@functools.lru_cache(maxsize=2)
def _read_refiner(run: Path, sha256: str) -> Refiner:
    """Raises StoreError where the model is another one: a training that goes on writes better ones."""
    refiner = read_refiner(run)
    if (found := checksum_model(run)) != sha256:
        raise StoreError(_tell_change(run, found, sha256))
    return refiner


def _tell_change(model: Path | str, found: str, sha256: str) -> str:
    return (
        f"the model {model} has changed (its sha256 is {found}, not {sha256}): put the one back that was named, or "
        "build into a new store"
    )


def pin_model(density: ModelDensity, folder: Path) -> ModelDensity:
    """The same, with the model's checksum, and its path where it is none that comes along."""
    inside = folder / density.model
    run = inside.resolve() if inside.is_dir() else locate_run(density.model)
    name = run.name if run.parent == PRETRAINED else str(run)
    return density.model_copy(update={"model": name, "sha256": density.sha256 or checksum_model(run)})


def choose_model(density: ModelDensity, recipe: Recipe) -> ModelEngine:
    """Raises RecipeError where the model is another one, or its guesses were made or stored otherwise."""
    run = locate_run(density.model)
    if (sha256 := checksum_model(run)) != density.sha256:
        raise RecipeError(_tell_change(density.model, sha256, density.sha256))
    check_guess(recipe_values(recipe), density.input, load_model(run).origin, "the recipe")
    return ModelEngine(run, density.sha256, density.input, recipe.limits.memory_gib)
