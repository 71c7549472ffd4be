"""Models of properties, compared: mean absolute errors, with the mean of the training split beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import RequestError
from storage.objects import Location
from storage.schema import FloatArray
from training.catalog import read_catalog
from training.comparison.kind import Judge, Judgement, Scores
from training.config import PropertyConfig
from training.loop import Task
from training.parallel import Team
from training.property.channel_boxes import find_channels
from training.property.evaluation import PropertyEvaluation, check_known, check_rotations, evaluate_property
from training.property.labels import name_unit, read_labels
from training.property.task import FITTED, PropertyTask, check_labels, measure_labels, train_property
from training.subsets import choose_molecules, leave_out, list_groups

MEAN = "mean predictor"


class Property:
    """The kind `property`: representations and controls are its variants."""

    config: type[PropertyConfig] = PropertyConfig
    drawn: tuple[str, ...] = ()

    def check(self, config: PropertyConfig, judges: Sequence[Judge]) -> None:
        training, validation = (read_catalog(config.store, split, ()) for split in ("train", "validation"))
        validation = leave_out(validation, list_groups(training))
        training = choose_molecules(training, config.molecules)
        find_channels(training.datasets[0], config.representation if config.model == "cnn" else ())
        measure_labels(training, config.targets)
        check_labels(validation, config.targets)
        for judge in judges:
            if judge.conformers_of_training:
                raise RequestError("conformers_of_training: is for models of densities; leave it out")
            check_rotations(judge.rotations, config.model == "cnn")
            catalog = read_catalog([judge.store or config.store[0]], judge.split, ())
            check_known(read_labels(catalog, config.targets), config.targets, catalog.datasets[0].store, judge.split)

    def open(self, config: PropertyConfig, run: Path, team: Team) -> Task[Any]:
        """Raises RequestError for a model that is fitted in one go."""
        if config.model in FITTED:
            raise RequestError(f'seconds: model = "{config.model}" is fitted without steps: give steps in [train]')
        return PropertyTask(config, run, team)

    def train(self, config: PropertyConfig, run: Path, *, resume: bool) -> None:
        train_property(config, run, resume=resume)

    def try_rate(self, config: PropertyConfig, run: Path) -> None:
        """Raises RequestError for a model that is fitted in one go."""
        if config.model in FITTED:
            raise RequestError(f'learning_rates: model = "{config.model}" has none: leave them out')
        train_property(config, run, resume=True)

    def adopt(self, config: PropertyConfig, run: Path) -> None:  # noqa: ARG002
        """Raises RequestError: no model of properties comes along."""
        raise RequestError(f"{run}: molecules = 0: models of properties start from nothing, so they need some")

    def judge_run(self, run: Path, store: Location, judge: Judge) -> Judgement:
        """On the samples of which every label is known."""
        evaluation = evaluate_property(run, store, split=judge.split, rotations=judge.rotations)
        whole = np.array([np.isfinite(labels).all() for labels in evaluation.known])
        molecules = tuple(np.array(evaluation.molecules)[whole].tolist())
        model, mean = (
            Scores(molecules, _list_errors(evaluation, predicted, whole))
            for predicted in (evaluation.predicted, np.broadcast_to(evaluation.mean, evaluation.predicted.shape))
        )
        return Judgement(model, {MEAN: mean})


def _list_errors(
    evaluation: PropertyEvaluation, predicted: FloatArray, whole: NDArray[np.bool_]
) -> dict[str, tuple[float, ...]]:
    """Mean absolute errors, by what they are of: "gap_Ha, Ha"."""
    errors = np.abs(predicted - evaluation.known)[whole]
    return {
        f"{target}, {name_unit(target)}".rstrip(", "): tuple(errors[:, number].tolist())
        for number, target in enumerate(evaluation.targets)
    }
