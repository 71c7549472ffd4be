"""What a property model is worth: its errors on molecules it never saw, beside those of the mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from storage.errors import RequestError, StoreError
from storage.objects import Json, Location, write_record
from storage.schema import FloatArray
from training.arithmetic import set_arithmetic
from training.batch import Boxes
from training.bootstrap import CONFIDENCE, RESAMPLES, Interval, average_molecules, bootstrap_mean
from training.catalog import read_catalog
from training.device import choose_device
from training.property.channel_boxes import ChannelBoxes
from training.property.labels import name_unit, read_labels
from training.property.model import PropertyModel, load_property_model
from training.property.task import open_inputs, predict_samples
from training.symmetries import ROTATIONS
from training.trained import EVALUATION
from training.unseen import check_spacing, check_unseen

BATCH = 32


@dataclass(frozen=True)
class PropertyEvaluation:
    """Predictions for one split of a store, (samples, targets); labels are NaN where unknown."""

    store: str
    split: str
    step: int  # at which the model was kept
    rotations: int
    targets: tuple[str, ...]
    ids: tuple[str, ...]
    molecules: tuple[str, ...]  # the group of each: conformers of one molecule are no independent samples
    predicted: FloatArray
    known: FloatArray
    mean: FloatArray  # (targets,), of the training split

    def errors(self, target: int) -> FloatArray:
        """Absolute, of the model, one for each sample whose label is known."""
        return _drop_unknown(np.abs(self.predicted[:, target] - self.known[:, target]))

    def mean_errors(self, target: int) -> FloatArray:
        """The same of a predictor that always says the training split's mean."""
        return _drop_unknown(np.abs(self.mean[target] - self.known[:, target]))

    def interval(self, target: int, errors: FloatArray) -> Interval:
        """Of the mean over molecules of errors as the two above give them."""
        known = ~np.isnan(self.known[:, target])
        return bootstrap_mean(average_molecules(np.array(self.molecules)[known].tolist(), errors))

    def __str__(self) -> str:
        lines = [f"{'mean absolute error, 95 %':<26}{'model':<34}{'mean predictor':<34}times smaller"]
        for number, target in enumerate(self.targets):
            errors = (self.errors(number), self.mean_errors(number))
            model, mean = (self.interval(number, one) for one in errors)
            unit = name_unit(target)
            lines.append(f"{target:<26}{_write(model, unit):<34}{_write(mean, unit):<34}{mean.mean / model.mean:8.2f}")
        turned = f", each in {self.rotations} rotations" if self.rotations else ""
        return "\n".join([*lines, "", f"{len(self.ids)} samples of split {self.split!r}, never seen{turned}"])


def evaluate_property(run: Path, store: Location, *, split: str = "test", rotations: int = 0) -> PropertyEvaluation:
    """Score the run's best model on a split of the store; the run's evaluation.json then says so.

    `rotations`: how many of the cube's 24 rotations of each sample a prediction is the mean over; 0: as stored.
    Raises StoreError where the store lacks the split, a channel or a label, has other cells, or molecules that were
    trained on; RequestError where the model sees no voxels that could be turned.
    """
    device = choose_device("auto")
    model = load_property_model(run)
    model.network.to(device)
    catalog = read_catalog([store], split, [channel.name for channel in model.channels])
    check_unseen(catalog, model.origin, split)
    if model.channels:
        check_spacing(model.origin, catalog.spacing, str(store))
    targets = model.standard.targets
    boxes = open_inputs(model.kind, catalog, model.channels, targets, model.cells)
    known = read_labels(catalog, targets)
    check_known(known, targets, store, split)
    with set_arithmetic(device):
        predicted = predict_properties(model, boxes, len(catalog), rotations, device)
    evaluation = PropertyEvaluation(
        str(store), split, model.step, rotations, targets, tuple(catalog.ids),
        tuple(map(str, catalog.table["group"])), predicted, known, np.array(model.standard.means),
    )  # fmt: skip
    write_record(run, EVALUATION, property_values(evaluation))
    return evaluation


def predict_properties(
    model: PropertyModel, boxes: Boxes, samples: int, rotations: int, device: torch.device
) -> FloatArray:
    """In the labels' units, (samples, targets)."""
    check_rotations(rotations, isinstance(boxes, ChannelBoxes))
    if not rotations:
        outputs = predict_samples(model.network, boxes, range(samples), BATCH, device)
    else:
        assert isinstance(boxes, ChannelBoxes)
        chosen = [ROTATIONS[k * len(ROTATIONS) // rotations] for k in range(rotations)]
        outputs = torch.stack([_predict_turned(model, boxes, sample, chosen, device) for sample in range(samples)])
    return np.asarray(model.standard.restore(outputs).numpy())


def check_rotations(rotations: int, sees_voxels: bool) -> None:
    """Raises RequestError where so many cannot be judged."""
    if rotations > (len(ROTATIONS) if sees_voxels else 0):
        limit = f"a cube has {len(ROTATIONS)}" if sees_voxels else "this model sees no voxels"
        raise RequestError(f"--rotations {rotations}: {limit}; leave it out, or ask for fewer")


@torch.no_grad()
def _predict_turned(
    model: PropertyModel, boxes: ChannelBoxes, sample: int, rotations: Sequence[int], device: torch.device
) -> Tensor:
    """The mean over rotations, (targets,)."""
    inputs = torch.cat([boxes.read_turned(sample, rotation) for rotation in rotations])
    outputs: Tensor = model.network(inputs.to(device)).double().cpu()
    return outputs.mean(dim=0)


def property_values(evaluation: PropertyEvaluation) -> dict[str, Json]:
    """All of an evaluation as plain values; None where a label is unknown."""
    targets: dict[str, Json] = {}
    for number, target in enumerate(evaluation.targets):
        errors = evaluation.errors(number)
        mean, mean_predictor = (evaluation.interval(number, one) for one in (errors, evaluation.mean_errors(number)))
        targets[target] = {
            "unit": name_unit(target),
            "samples": len(errors),
            "mae": vars(mean),
            "mean_predictor_mae": vars(mean_predictor),
            "factor": mean_predictor.mean / mean.mean,
            "predicted": evaluation.predicted[:, number].tolist(),
            "known": [None if np.isnan(value) else value for value in evaluation.known[:, number].tolist()],
        }
    whole = {key: getattr(evaluation, key) for key in ("store", "split", "step", "rotations")}
    return {**whole, "confidence": CONFIDENCE, "resamples": RESAMPLES, "ids": list(evaluation.ids), "targets": targets}


def check_known(known: FloatArray, targets: Sequence[str], store: Location, split: str) -> None:
    for target, values in zip(targets, known.T, strict=True):
        if np.isnan(values).all():
            raise StoreError(f"{store}: no sample of split {split!r} has label {target!r}: name another split")


def _drop_unknown(values: FloatArray) -> FloatArray:
    return values[~np.isnan(values)]


def _write(interval: Interval, unit: str) -> str:
    return f"{interval.mean:.4g} [{interval.low:.4g}, {interval.high:.4g}] {unit}"
