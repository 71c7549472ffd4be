"""What a model is worth on molecules it never saw, as a part of a page."""

from collections.abc import Callable
from typing import Any

import numpy as np

from flows.report.errors import cloud_figure, dumbbell_figure, method_figure, region_figure
from flows.report.house import to_html
from flows.report.html import figure, paragraph, table
from flows.report.numbers import counted, signed_scientific

NAMED_MOLECULES = 40  # more are drawn as points of a cloud


def worth(evaluation: dict[str, Any]) -> list[str]:
    """Pieces of HTML from the record of an evaluation."""
    samples = evaluation["samples"]
    model = [sample["methods"]["model"] for sample in samples]
    worst, before = (
        max((errors[key] for errors in model), key=abs) for key in ("electron_error", "electron_error_before")
    )
    plot = dumbbell_figure(samples) if len(samples) <= NAMED_MOLECULES else cloud_figure(samples)
    return [
        _verdict(evaluation),
        figure(to_html(plot, "scores-figure")),
        paragraph(
            f"Largest electron error of a prediction: {signed_scientific(worst)} e; before it is given the electrons "
            f"of the guess: {signed_scientific(before)} e. The model is the one with the lowest validation error, "
            f"from step {evaluation['step']:,}.",
            "note",
        ),
        "<h3>Beside other methods</h3>",
        figure(to_html(method_figure(evaluation), "methods-figure")),
        _compare_methods(evaluation),
        paragraph(
            "Means over molecules ± half the width of their 95 % intervals, from resampling molecules. Interpolation "
            "of the coarse target knows the answer on coarse cells. Errors of moments are sizes of vectors and of "
            "traceless tensors (Frobenius norm). Turned molecules lie in boxes that fit them; the spread is the "
            "standard deviation of one molecule's NMAE over its rotations.",
            "note",
        ),
        "<h3>Where the error lies</h3>",
        figure(to_html(region_figure(evaluation, "by_distance", "Å from the nearest nucleus"), "distance-figure")),
        figure(to_html(region_figure(evaluation, "by_element", "element of the nearest nucleus"), "element-figure")),
    ]


def _verdict(evaluation: dict[str, Any]) -> str:
    from training.superres.evaluation import compare_errors  # torch comes with it: only where there is a run

    guess, model, factor = (evaluation[key] for key in ("guess_nmae", "model_nmae", "factor"))
    unseen = "of molecules it was trained on" if evaluation["conformers_of_training"] else "which it never saw"
    median = _percent(float(np.median([sample["methods"]["model"]["nmae"] for sample in evaluation["samples"]])))
    return (
        f'<p class="result">On {counted(len(evaluation["samples"]), "sample")} of the {evaluation["split"]} split, '
        f"{unseen}, the error of the model is <b>{compare_errors(factor)}</b> than that of the guess: "
        f"<b>{_percent(model)}</b> against <b>{_percent(guess)}</b> of the electrons; its median is {median}.</p>"
    )


def _compare_methods(evaluation: dict[str, Any]) -> str:
    columns: dict[str, tuple[str, Callable[[float], str]]] = {
        "NMAE, %": ("nmae", lambda value: f"{100 * value:.2f}"),
        "largest, e/bohr³": ("largest", lambda value: f"{value:.3f}"),
        "dipole, D": ("dipole_debye", lambda value: f"{value:.3f}"),
        "quadrupole, D·Å": ("quadrupole_debye_angstrom", lambda value: f"{value:.2f}"),
    }
    if evaluation["rotations"]:
        columns["turned: NMAE, %"] = ("turned_nmae", lambda value: f"{100 * value:.2f}")
        columns["spread, %"] = ("turned_spread", lambda value: f"{100 * value:.2f}")
    rows = [
        [name, *(_with_error(one["means"][key], write) for key, write in columns.values())]
        for name, one in evaluation["methods"].items()
    ]
    whole = table(["method", *columns], rows, ["name", *["number"] * len(columns)], "compact")
    return f'<div class="wide">{whole}</div>'


def _with_error(interval: dict[str, Any], write: Callable[[float], str]) -> str:
    """The mean, and half the width of its interval."""
    mean, low, high = (interval[key] for key in ("mean", "low", "high"))
    return write(mean) if low is None else f"{write(mean)} ± {write((high - low) / 2)}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
