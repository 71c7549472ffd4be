"""What is judged side by side: networks, the guess, and interpolation without learning."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import RequestError
from training.batch import Boxes, Draw, find_electrons
from training.models.electrons import conserve_electrons
from training.models.interpolation import coarsen, interpolate_fourier, interpolate_trilinear
from training.models.prediction import predict_uncorrected
from training.trained import Model

Array = NDArray[np.float32]
MODEL, GUESS, TARGET = "model", "guess", "target"
INTERPOLATIONS = {
    "trilinear, coarse target": (interpolate_trilinear, TARGET),
    "Fourier, coarse target": (interpolate_fourier, TARGET),
    "trilinear, coarse guess": (interpolate_trilinear, GUESS),
    "Fourier, coarse guess": (interpolate_fourier, GUESS),
}


@dataclass(frozen=True)
class Box:
    """One molecule on one grid."""

    densities: Mapping[str, Array]  # by name, each (nx, ny, nz), electrons/bohr³
    electrons: Mapping[str, float]  # in the box, by guess
    volume: float  # of a cell, bohr³


@dataclass(frozen=True)
class Prediction:
    density: Array  # (nx, ny, nz), electrons/bohr³
    uncorrected: Array  # before its number of electrons was corrected


@dataclass(frozen=True)
class Method:
    """A way from what is known of a box to its density."""

    name: str
    input: str  # the guess whose electrons it has to hold
    predict: Callable[[Box], Prediction]


def choose_methods(model: Model, beside: Mapping[str, Model]) -> list[Method]:
    """The model, its guess, other models by name, and interpolation of the coarse guess and of the coarse target."""
    origin, factor = model.origin, model.network.architecture.factor
    methods = [_judge_model(MODEL, model), Method(GUESS, origin.input, lambda box: _as_it_is(box, origin.input))]
    methods += [_judge_model(name, other) for name, other in beside.items()]
    sources = {GUESS: origin.input, TARGET: origin.target}
    return methods + [
        _interpolate(name, origin.input, sources[source], factor, interpolate)
        for name, (interpolate, source) in INTERPOLATIONS.items()
    ]


def name_runs(runs: Sequence[Path]) -> list[str]:
    """What other runs are called: by their folders, or the whole paths where these do not tell them apart.

    Raises RequestError where a run is named twice.
    """
    names = [run.name for run in runs]
    taken = [MODEL, GUESS, *INTERPOLATIONS, *names]
    names = [name if taken.count(name) == 1 else str(run) for run, name in zip(runs, names, strict=True)]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise RequestError(f"--beside {name} is given twice: name each run once")
    return names


def read_box(boxes: Mapping[str, Boxes], draw: Draw, target: str, stored: Mapping[str, float]) -> Box:
    """A molecule's box with every guess; `stored` holds their electrons there, NaN where they are to be summed up."""
    densities: dict[str, Array] = {}
    electrons: dict[str, float] = {}
    for input, source in boxes.items():
        batch = source.read([draw])
        densities |= {input: batch.guess[0].cpu().numpy(), target: batch.target[0].cpu().numpy()}
        electrons[input] = find_electrons(batch, stored[input])
    return Box(densities, electrons, batch.volumes[0])


def list_inputs(methods: Sequence[Method]) -> list[str]:
    """Every guess that is needed, once each."""
    return list(dict.fromkeys(method.input for method in methods))


def count_electrons(density: Array, volume: float) -> float:
    return volume * float(density.sum(dtype=np.float64))


def _judge_model(name: str, model: Model) -> Method:
    def predict(box: Box) -> Prediction:
        guess = box.densities[model.origin.input]
        uncorrected = predict_uncorrected(model.network, guess)
        density = conserve_electrons(uncorrected, guess, box.electrons[model.origin.input], box.volume)
        return Prediction(density, uncorrected)

    return Method(name, model.origin.input, predict)


def _interpolate(
    name: str, input: str, density: str, factor: int, interpolate: Callable[[Array, int], Array]
) -> Method:
    def predict(box: Box) -> Prediction:
        fine = box.densities[density]
        inside = tuple(slice(n) for n in fine.shape)
        made = interpolate(coarsen(fine, factor), factor)[inside]
        return Prediction(made, made)

    return Method(name, input, predict)


def _as_it_is(box: Box, density: str) -> Prediction:
    return Prediction(box.densities[density], box.densities[density])
