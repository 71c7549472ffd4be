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
from flows.report.house import TEAL, style, to_html
from flows.report.html import figure, paragraph, section
from flows.report.numbers import logarithmic_ticks
from flows.report.worth import worth
from storage.objects import has_object, read_record
from storage.reader import Dataset

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

    config, history = read_record(run, CONFIG), []
    if has_object(run, HISTORY):
        with (run / HISTORY).open(encoding="utf-8", newline="") as lines:
            history = [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(lines)]
    return Run(config, history, read_record(run, EVALUATION) if has_object(run, EVALUATION) else None)


def predict_shown(dataset: Dataset, run: Path, ids: list[str]) -> list[Shown]:
    """The samples with what the run's best model makes of them."""
    from training.superres.evaluation import predict_sample
    from training.trained import load_model

    model = load_model(run)
    names = (model.origin.input, model.origin.target)
    return [show_predicted(dataset, id, names, predict_sample(model, dataset[id])) for id in ids]


def learning(run: Run) -> str:
    config = "\n".join(f"{key} = {json.dumps(value)}" for key, value in run.config.items() if key != "store")
    return section(
        "learning",
        "Learning",
        *(worth(run.evaluation) if run.evaluation else [paragraph("Not evaluated yet: run rhoflow evaluate.", "note")]),
        "<h3>Learning curve</h3>",
        figure(to_html(history_figure(run), "history-figure"))
        if run.history
        else paragraph("No step was taken: the model is the one that the config names as its start.", "note"),
        f"<details><summary>What the run was told</summary><pre>{escape(config)}</pre></details>",
    )


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
