"""Measures how far a model contradicts itself, and how far it errs, on samples whose density is known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from storage.objects import Location, locate
from training.batch import Boxes, Draw, find_electrons
from training.catalog import read_catalog
from training.device import choose_device
from training.metrics import nmae
from training.models.prediction import predict_turned
from training.stored import Cutting, StoredBoxes
from training.superres.calibration import (
    Calibration,
    Foresight,
    Sign,
    fit_calibration,
    prove_calibration,
    read_calibration,
    write_calibration,
)
from training.trained import Model, load_model


def calibrate(run: Path, model: Model, boxes: Boxes, electrons: Sequence[float]) -> Calibration:
    """Where the run has none of this model's step yet: from whole boxes of the validation split."""
    known = read_calibration(run)
    if known and known.step == model.step:
        return known
    calibration = fit_calibration(measure_signs(model, boxes, electrons), model.step)
    write_calibration(run, calibration)
    return calibration


def evaluate_expectations(run: Path, store: Location) -> Foresight:
    """How a run's expected errors fare on a store's test split; its calibration.json then says so."""
    model = load_model(run)
    model.network.to(choose_device("auto"))
    stores = [locate(name) for name in model.origin.stores]
    calibration = read_calibration(run)
    if calibration is None or calibration.step != model.step:
        calibration = calibrate(run, model, *_open_boxes(model, stores, "validation"))
    foresight = prove_calibration(calibration, measure_signs(model, *_open_boxes(model, [store], "test")), str(store))
    write_calibration(run, replace(calibration, foresight=foresight))
    return foresight


def measure_signs(model: Model, boxes: Boxes, electrons: Sequence[float]) -> list[Sign]:
    """Of each sample; `electrons` are those of the guess in its box, NaN where none is stored."""
    signs = []
    for sample, stored in enumerate(electrons):
        box = boxes.read([Draw(sample, 0)])
        guess, target = box.guess[0].cpu().numpy(), box.target[0].cpu().numpy()
        prediction = predict_turned(model.network, guess, find_electrons(box, stored), box.volume)
        signs.append(Sign(box.ids[0], prediction.spread, nmae(prediction.density, target)))
    return signs


def _open_boxes(model: Model, stores: Sequence[Location], split: str) -> tuple[StoredBoxes, list[float]]:
    origin = model.origin
    catalog = read_catalog(stores, split, (origin.input, origin.target))
    return StoredBoxes(catalog, origin.input, origin.target, Cutting()), catalog.electrons(origin.input).tolist()
