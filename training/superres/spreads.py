"""Measures how far a model contradicts itself, and how far it errs, on samples whose density is known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from storage.objects import Location, locate
from training.batch import Boxes, Draw, find_electrons
from training.catalog import Catalog, read_catalog
from training.device import choose_device
from training.metrics import nmae
from training.models.prediction import predict_turned
from training.stored import Cutting, StoredBoxes
from training.subsets import choose_samples, leave_out, list_groups
from training.superres.calibration import (
    CALIBRATED,
    Calibration,
    Foresight,
    Sign,
    find_calibration,
    fit_calibration,
    prove_calibration,
    write_calibration,
)
from training.trained import Model, Origin, load_model
from training.unseen import explain_doubt


def calibrate(run: Path, model: Model, boxes: Boxes, electrons: Sequence[float]) -> Calibration:
    """From whole boxes of the validation split; `electrons` as in `measure_signs`."""
    calibration = fit_calibration(measure_signs(model, boxes, electrons), model.step)
    write_calibration(run, calibration)
    return calibration


def evaluate_expectations(run: Path, store: Location) -> Foresight | None:
    """How a run's expected errors fare on a store's test split; its calibration.json then says so.

    Of the samples for which `rhoflow predict` foresees an error; None where there is no such sample.
    """
    model = load_model(run)
    model.network.to(choose_device("auto"))
    calibration = find_calibration(run, model.step) or calibrate(run, model, *_open_validation(model))
    catalog = read_catalog([store], "test", (model.origin.input, model.origin.target))
    tested = catalog.take(np.flatnonzero([not _is_doubted(catalog, k, model.origin) for k in range(len(catalog))]))
    foresight = None
    if len(tested):
        signs = measure_signs(model, *_open_boxes(model, tested))
        foresight = prove_calibration(calibration, signs, str(store), len(catalog) - len(tested))
    write_calibration(run, replace(calibration, foresight=foresight))
    return foresight


def _is_doubted(catalog: Catalog, sample: int, origin: Origin) -> bool:
    row = catalog.table.iloc[sample]
    state = int(row["charge"]), int(row["unpaired"])
    numbers, positions = catalog.numbers_of(sample), catalog.positions_of(sample)
    return bool(explain_doubt(origin, numbers, positions, state, catalog.spacing))


def measure_signs(model: Model, boxes: Boxes, electrons: Sequence[float]) -> list[Sign]:
    """Of each sample; `electrons` are those of the guess in its box, NaN where none is stored."""
    signs = []
    for sample, stored in enumerate(electrons):
        box = boxes.read([Draw(sample, 0)])
        guess, target = box.guess[0].cpu().numpy(), box.target[0].cpu().numpy()
        prediction = predict_turned(model.network, guess, find_electrons(box, stored), box.volumes[0])
        signs.append(Sign(box.ids[0], prediction.spread, nmae(prediction.density, target)))
    return signs


def _open_validation(model: Model) -> tuple[StoredBoxes, list[float]]:
    origin = model.origin
    stores = [locate(name) for name in origin.stores]
    training, validation = (
        read_catalog(stores, split, (origin.input, origin.target)) for split in ("train", "validation")
    )
    return _open_boxes(model, choose_samples(leave_out(validation, list_groups(training)), CALIBRATED))


def _open_boxes(model: Model, catalog: Catalog) -> tuple[StoredBoxes, list[float]]:
    origin = model.origin
    return StoredBoxes(catalog, origin.input, origin.target, Cutting()), catalog.electrons(origin.input).tolist()
