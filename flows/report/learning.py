"""The section about a training run: how it learnt, and what it is worth on molecules it never saw."""

import csv
import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from flows.report.fields import Shown, show_predicted
from flows.report.house import MUTED, NAVY, OCHRE, TEAL, style, to_html
from flows.report.html import figure, paragraph, section, table
from flows.report.numbers import counted, logarithmic_ticks, signed_scientific
from storage.objects import has_object, read_record
from storage.reader import Dataset

NAMED_MOLECULES = 40  # more are drawn as points of a cloud

LEAST_DRAWN = 1e-6  # per cent; a logarithmic axis has no place for 0


@dataclass(frozen=True)
class Run:
    """What a run folder holds."""

    config: dict[str, Any]
    history: list[dict[str, float]]  # in order of steps; NaN where nothing was measured
    evaluation: dict[str, Any] | None  # None until it has been evaluated


def read_run(run: Path) -> Run:
    """Raises RequestError or StoreError where there is no run."""
    from training.checkpoint import CONFIG
    from training.curves import HISTORY
    from training.trained import EVALUATION

    config = read_record(run, CONFIG)
    with (run / HISTORY).open(encoding="utf-8", newline="") as lines:
        history = [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(lines)]
    return Run(config, history, read_record(run, EVALUATION) if has_object(run, EVALUATION) else None)


def predict_shown(dataset: Dataset, run: Path, ids: list[str]) -> list[Shown]:
    """The samples with what the run's best model makes of them."""
    from training.evaluation import predict_sample
    from training.trained import load_model

    model = load_model(run)
    names = (model.origin.input, model.origin.target)
    return [show_predicted(dataset, id, names, predict_sample(model, dataset[id])) for id in ids]


def learning(run: Run) -> str:
    config = "\n".join(f"{key} = {json.dumps(value)}" for key, value in run.config.items() if key != "store")
    return section(
        "learning",
        "Learning",
        *(
            _results(run.evaluation)
            if run.evaluation
            else [paragraph("Not evaluated yet: run rhoflow evaluate.", "note")]
        ),
        "<h3>Learning curve</h3>",
        figure(to_html(history_figure(run), "history-figure")),
        f"<details><summary>What the run was told</summary><pre>{escape(config)}</pre></details>",
    )


def _results(evaluation: dict[str, Any]) -> list[str]:
    scores = evaluation["samples"]
    from training.evaluation import compare_errors  # torch comes with it: only where there is a run

    guess, model, factor = (evaluation[key] for key in ("guess_nmae", "model_nmae", "factor"))
    rows = [
        ["mean NMAE", _percent(guess), _percent(model)],
        ["median NMAE", *(_percent(_summary(scores, key, np.median)) for key in ("guess_nmae", "model_nmae"))],
        ["largest NMAE", *(_percent(_summary(scores, key, np.max)) for key in ("guess_nmae", "model_nmae"))],
    ]
    worst = max((score["electron_error"] for score in scores), key=abs)
    before = max((score["electron_error_before"] for score in scores), key=abs)
    plot = dumbbell_figure(scores) if len(scores) <= NAMED_MOLECULES else cloud_figure(scores)
    return [
        f'<p class="result">On {counted(len(scores), "sample")} of the test split, which it never saw, the error of '
        f"the model is <b>{compare_errors(factor)}</b> than that of the guess: <b>{_percent(model)}</b> against "
        f"<b>{_percent(guess)}</b> of the electrons.</p>",
        figure(to_html(plot, "scores-figure")),
        table(["test split", "guess", "model"], rows, ["", "number", "number"], "compact"),
        paragraph(
            f"Largest electron error of a prediction: {signed_scientific(worst)} e; before scaling to the electrons "
            f"of the guess: {signed_scientific(before)} e. The model is the one with the lowest validation error, "
            f"from step {evaluation['step']:,}.",
            "note",
        ),
    ]


def history_figure(run: Run) -> go.Figure:
    """Training loss, where it is an NMAE too, and validation error against steps."""
    series = [("validation split", "validation", TEAL, 2.2)]
    if run.config["loss"] == "nmae":
        series.insert(0, ("training split", "loss", "#b9c4ce", 1.5))
    measured = {key: [row for row in run.history if not np.isnan(row[key])] for _, key, _, _ in series}
    lines = [
        go.Scatter(
            x=[row["step"] for row in measured[key]],
            y=[100 * row[key] for row in measured[key]],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": width},
            marker={"size": 4},
            hovertemplate=f"{name}: %{{y:.3~g}} % at step %{{x}}<extra></extra>",
        )
        for name, key, colour, width in series
    ]
    curve = style(go.Figure(lines), 300)
    curve.update_xaxes(title_text="steps")
    drawn = [max(value, LEAST_DRAWN) for line in lines for value in line.y]
    ticks = logarithmic_ticks(min(drawn), max(drawn))
    return curve.update_yaxes(title_text="NMAE, %", type="log", tickformat="~g", tickvals=ticks)


def dumbbell_figure(scores: list[dict[str, Any]]) -> go.Figure:
    """One line for each molecule, from the guess's error to the model's."""
    ordered = sorted(scores, key=lambda score: -score["guess_nmae"])
    ids = [escape(score["id"]) for score in ordered]
    guess, model = ([100 * score[key] for score in ordered] for key in ("guess_nmae", "model_nmae"))
    links_x = [value for pair in zip(guess, model, strict=True) for value in (*pair, None)]
    links_y = [value for id in ids for value in (id, id, None)]
    plot = go.Figure(
        [
            go.Scatter(x=links_x, y=links_y, mode="lines", line={"color": "#d9e0e7", "width": 3}, showlegend=False),
            _dots(guess, ids, "guess", OCHRE),
            _dots(model, ids, "model", TEAL),
        ]
    )
    style(plot, 90 + 24 * len(ids)).update_layout(margin={"l": 190})
    plot.update_xaxes(title_text="NMAE against the target, %", rangemode="tozero", showgrid=True)
    return plot.update_yaxes(type="category", showgrid=False, range=[len(ids) - 0.4, -0.6], tickfont={"size": 12})


def cloud_figure(scores: list[dict[str, Any]]) -> go.Figure:
    """The model's error against the guess's, one point for each molecule; below the line the model is better."""
    guess, model = (np.array([100 * score[key] for score in scores]) for key in ("guess_nmae", "model_nmae"))
    reach = [float(min(guess.min(), model.min())), float(max(guess.max(), model.max()))]
    equal = go.Scatter(x=reach, y=reach, mode="lines", line={"color": MUTED, "dash": "dot", "width": 1}, name="equal")
    ids = [escape(score["id"]) for score in scores]
    about = "%{text}<br>guess %{x:.3~g} %, model %{y:.3~g} %<extra></extra>"
    points = go.Scattergl(
        x=guess, y=model, text=ids, mode="markers", marker={"color": NAVY, "size": 6, "opacity": 0.6}, name="molecules"
    )
    plot = style(go.Figure([equal, points.update(hovertemplate=about)]), 380)
    axis = {"type": "log", "tickformat": "~g", "tickvals": logarithmic_ticks(*reach)}
    plot.update_xaxes(title_text="NMAE of the guess, %", **axis)
    return plot.update_yaxes(title_text="NMAE of the model, %", **axis)


def _dots(errors: list[float], ids: list[str], name: str, colour: str) -> go.Scatter:
    about = f"%{{y}}, {name}: %{{x:.3~g}} %<extra></extra>"
    return go.Scatter(x=errors, y=ids, mode="markers", marker={"color": colour, "size": 10}, name=name).update(
        hovertemplate=about
    )


def _summary(scores: list[dict[str, Any]], key: str, statistic: Any) -> float:
    return float(statistic([score[key] for score in scores]))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
