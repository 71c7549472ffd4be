"""Makes of a trained run a model that comes with the package: `python -m training.publish RUN NAME`."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError, RhoflowError
from storage.objects import has_object, locate, read_record, write_object, write_record
from storage.reader import open_dataset
from training.checkpoint import CONFIG
from training.models.build import architecture_values
from training.superres.calibration import Calibration, Foresight, read_calibration, write_calibration
from training.trained import BEST, EVALUATION, PRETRAINED, Model, load_model, save_model

LARGEST = 10 * 10**6  # bytes of the weights: they lie in the repository and in the wheel
CARD = """# {name}

Predicts the density `{target}` of a molecule from the guess `{input}`, which is computed on the way:

    rhoflow predict {name} CCO ethanol.cube

| | |
|---|---|
| network | {kind}, {parameters:,} parameters: {architecture} |
| trained on | {stores}: {groups:,} molecules (those of the validation split too), step {step:,} |
| atomic numbers | {elements} |
| guess | {guess} |
| target | {label} |
| cells | {cells}, {sampling}, {electrons} electrons |
| NMAE on {tested} test samples | {model_nmae:.3f} %; of the guess {guess_nmae:.3f} % |
| error foreseen, on {proved} test samples | {foreseen:.3f} %, true {true:.3f} %; rank correlation {spearman:.2f} |

The error is foreseen from how much the network's answers differ when the box is turned, calibrated on {calibrated}
samples of the validation split, those that chose the checkpoint among them. It holds for molecules like those it was
trained on: elements, charges, spins and distances between atoms that it was not trained on have no such error.

Made by `make pretrained RUN={run} NAME={name}` from a run of `rhoflow train superres`, whose config is `config.json`.
"""


def publish(run: Path, name: str, shelf: Path = PRETRAINED) -> Path:
    """The model's folder, with weights, config, calibration and card. Raises RequestError naming what is missing."""
    model = load_model(run)
    calibration = read_calibration(run)
    if not has_object(run, EVALUATION) or calibration is None or calibration.foresight is None:
        raise RequestError(
            f"{run} was not tried yet on test samples for which it foresees errors: run `rhoflow evaluate {run} STORE` "
            "first, on a store like the one it was trained on"
        )
    _check_evaluation(run, model, calibration, calibration.foresight)
    if (run / BEST).stat().st_size > LARGEST:
        raise RequestError(f"{run / BEST} is larger than {LARGEST / 1e6:g} MB: train a network of less width or depth")
    model, folder = _without_paths(model), shelf / name
    foresight = replace(calibration.foresight, store=_name(calibration.foresight.store))
    config: dict[str, Any] = dict(read_record(run, CONFIG))
    write_record(folder, CONFIG, {**config, "store": model.origin.stores})
    write_calibration(folder, replace(calibration, foresight=foresight))
    card = CARD.format(run=run.name, name=name, **_describe(run, model), **{
        "proved": foresight.molecules, "foreseen": 100 * foresight.expected_nmae, "true": 100 * foresight.true_nmae,
        "spearman": foresight.spearman, "calibrated": calibration.molecules,
    })  # fmt: skip
    write_object(folder, "card.md", card.encode())
    save_model(folder, model)
    return folder


def _check_evaluation(run: Path, model: Model, calibration: Calibration, foresight: Foresight) -> None:
    """Raises RequestError where the last evaluation is of other samples or weights than the card speaks of."""
    record = read_record(run, EVALUATION)
    wanted = {"split": "test", "conformers_of_training": False, "step": model.step, "store": foresight.store}
    for key, value in [*wanted.items(), ("step", calibration.step)]:
        if record[key] != value:
            told = f"{run} was last evaluated with {key} = {record[key]!r}, not {value!r}"
            raise RequestError(f"{told}: run `rhoflow evaluate {run} STORE` first")


def _without_paths(model: Model) -> Model:
    """Stores by their names alone; with the recipe, which runs of earlier versions lack."""
    origin = model.origin
    recipe = origin.recipe or open_dataset(locate(origin.stores[0])).attributes["recipe"]
    return replace(model, origin=replace(origin, recipe=recipe, stores=[_name(store) for store in origin.stores]))


def _name(store: str) -> str:
    return store.rstrip("/").rsplit("/", 1)[-1]


def _describe(run: Path, model: Model) -> dict[str, Any]:
    """What the card says of the model, and of its errors on the test split."""
    origin, record = model.origin, dict(read_record(run, EVALUATION))
    architecture = architecture_values(model.network.architecture)
    recipe, densities = origin.recipe, origin.recipe["densities"]
    varied = f" ± {100 * origin.spacing_range:g} %" if origin.spacing_range else ""
    return {
        "input": origin.input,
        "target": origin.target,
        "kind": architecture.pop("kind"),
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "architecture": _list(architecture),
        "stores": ", ".join(origin.stores),
        "groups": len(origin.groups),
        "step": model.step,
        "elements": ", ".join(map(str, origin.elements)) or "not recorded",
        "guess": _list(densities[origin.input]),
        "label": _list(densities[origin.target]),
        "cells": f"{origin.spacing[0] / BOHR_PER_ANGSTROM:.3g} Å{varied}",
        "sampling": {"cell": "exact averages", "point": "values at their centres"}[recipe["grid"]["sampling"]],
        "electrons": recipe["electrons"],
        "tested": len(record["samples"]),  # type: ignore[arg-type]
        **{key: 100 * float(record[key]) for key in ("guess_nmae", "model_nmae")},  # type: ignore[arg-type]
    }


def _list(keys: Mapping[str, object]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in keys.items() if value is not None)


def main() -> None:
    try:
        print(publish(Path(sys.argv[1]), sys.argv[2]))
    except IndexError:
        sys.exit("usage: python -m training.publish RUN NAME")
    except RhoflowError as error:
        sys.exit(f"rhoflow: {error}")


if __name__ == "__main__":
    main()
