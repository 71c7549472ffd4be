"""What a trained model is worth: its errors on molecules it never saw, beside those of other methods."""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from storage.objects import Json, Location, write_record
from storage.reader import StoredSample
from training.arithmetic import set_arithmetic
from training.bootstrap import CONFIDENCE, RESAMPLES
from training.catalog import Catalog, read_catalog
from training.device import choose_device
from training.models.prediction import predict_density
from training.stored import Cutting, StoredBoxes
from training.superres.methods import GUESS, MODEL, choose_methods, list_inputs, name_runs
from training.superres.regions import DISTANCES
from training.superres.scores import Score, Trial
from training.superres.summary import Summary, summarise
from training.superres.table import describe_evaluation
from training.trained import EVALUATION, Model, Origin, load_model
from training.unseen import check_conformers, check_densities, check_spacing, check_target, check_turnable, check_unseen
from training.wavefunctions import WavefunctionBoxes

SEED = 1  # of the rotations
KEYS = ("store", "split", "step", "rotations", "conformers_of_training")  # of an evaluation, in its record
FLOOR = 1e-12  # of an NMAE, where two are divided


@dataclass(frozen=True)
class Evaluation:
    """Every score on one split of a store."""

    store: str
    split: str
    step: int  # at which the model was kept
    rotations: int
    scores: tuple[Score, ...]
    conformers_of_training: bool = False  # other geometries of molecules that were trained on

    @cached_property
    def summary(self) -> dict[str, Summary]:
        """By method."""
        return summarise(self.scores)

    @property
    def guess_nmae(self) -> float:
        return self.summary[GUESS].means["nmae"].mean

    @property
    def model_nmae(self) -> float:
        return self.summary[MODEL].means["nmae"].mean

    @property
    def factor(self) -> float:
        """How many times smaller the model's mean error is than the guess's."""
        return max(self.guess_nmae, FLOOR) / max(self.model_nmae, FLOOR)

    def __str__(self) -> str:
        samples = f"{len(self.scores)} sample" + ("s" if len(self.scores) > 1 else "")
        unseen = "of molecules it was trained on" if self.conformers_of_training else "it never saw"
        verdict = f"the model's error is {compare_errors(self.factor)}, on {samples} {unseen}"
        return f"{describe_evaluation(self.scores, self.summary)}\n\n{self._describe_correction()}\n{verdict}"

    def _describe_correction(self) -> str:
        errors = [score.methods[MODEL] for score in self.scores]
        amiss = np.mean([abs(one.electron_error_before) for one in errors])
        before, after = (np.mean([getattr(one, name) for one in errors]) for name in ("nmae_before", "nmae"))
        return (
            f"the number of electrons is corrected by {amiss:.4f} on average: "
            f"mean NMAE before {100 * before:.4f} %, after {100 * after:.4f} %"
        )


def compare_errors(factor: float) -> str:
    """A factor of improvement in words, also where there was none."""
    return f"{factor:.1f} times smaller" if factor >= 1 else f"{1 / factor:.1f} times LARGER"


def evaluate_superres(
    run: Path,
    store: Location,
    *,
    beside: Sequence[Path] = (),
    split: str = "test",
    rotations: int = 0,
    conformers_of_training: bool = False,
) -> Evaluation:
    """Score the run's best model on a split of the store; the run's evaluation.json then says so.

    `beside`: other runs that learnt the same target. `rotations`: of each molecule, from kept wavefunctions.
    `conformers_of_training`: judge other geometries of molecules that were trained on, and nothing else.

    Raises StoreError where the store lacks the split or a density, has other cells, molecules that were trained on, or
    none that can be turned; RequestError where runs do not belong side by side.
    """
    device = choose_device("auto")
    model, others = _load(run, device), [_load(one, device) for one in beside]
    for one, other in zip(beside, others, strict=True):
        check_target(other.origin, model.origin, one)
    methods = choose_methods(model, dict(zip(name_runs(beside), others, strict=True)))
    target, inputs = model.origin.target, list_inputs(methods)
    catalog = read_catalog([store], split, (*inputs, target))
    for origin in (model.origin, *(other.origin for other in others)):
        check_judged(catalog, origin, split, conformers_of_training=conformers_of_training)
    stored = {input: StoredBoxes(catalog, input, target, Cutting(), kept_bytes=0) for input in inputs}
    turned = {input: _turn(catalog, input, target, device) for input in inputs} if rotations else {}
    trial = Trial(catalog, methods, target, stored, turned, rotations)
    scores = _score_all(trial, device)
    evaluation = Evaluation(str(store), split, model.step, rotations, scores, conformers_of_training)
    write_record(run, EVALUATION, evaluation_values(evaluation))
    return evaluation


def check_judged(catalog: Catalog, origin: Origin, split: str, *, conformers_of_training: bool) -> None:
    """Raises StoreError where a model of that origin would be flattered by these samples, or they are other things."""
    (check_conformers if conformers_of_training else check_unseen)(catalog, origin, split)
    check_spacing(origin, catalog.spacing, str(catalog.datasets[0].store))
    check_densities(origin, catalog.datasets[0])


def evaluation_values(evaluation: Evaluation) -> dict[str, Json]:
    """All of an evaluation as plain values: lengths in Å, densities in electrons/bohr³; None where there is none."""
    means = {"guess_nmae": evaluation.guess_nmae, "model_nmae": evaluation.model_nmae, "factor": evaluation.factor}
    whole = {
        **{key: getattr(evaluation, key) for key in KEYS},
        **means,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "distances": list(DISTANCES),
        "methods": {name: asdict(summary) for name, summary in evaluation.summary.items()},
        "samples": [asdict(score) for score in evaluation.scores],
    }
    return {key: _without_nan(value) for key, value in whole.items()}


def predict_sample(model: Model, sample: StoredSample) -> NDArray[np.float32]:
    """The model's density on the sample's grid, shape (nx, ny, nz), electrons/bohr³."""
    check_spacing(model.origin, sample.grid.spacing, sample.id)
    guess, volume = sample.channels[model.origin.input], sample.grid.cell_volume
    return predict_density(model.network, guess, volume * float(guess.sum(dtype=np.float64)), volume)


def _load(run: Path, device: torch.device) -> Model:
    model = load_model(run)
    model.network.to(device)
    return model


def _score_all(trial: Trial, device: torch.device) -> tuple[Score, ...]:
    """One molecule at a time is in memory; a bar on a terminal says how many are done."""
    samples = range(len(trial.catalog))
    shown = track(samples, "evaluate", console=Console(stderr=True), disable=not sys.stderr.isatty())
    with set_arithmetic(device):
        return tuple(trial.score(sample) for sample in shown)


def _turn(catalog: Catalog, input: str, target: str, device: torch.device) -> WavefunctionBoxes:
    """Whole boxes about molecules turned at random, the same way for every input."""
    for density in (input, target):
        check_turnable(catalog, density)
    return WavefunctionBoxes(catalog, input, target, Cutting(turn=True, seed=SEED), device, kept_bytes=0)


def _without_nan(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
