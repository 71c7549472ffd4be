"""Plots of errors: molecule by molecule, method by method, region by region."""

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from flows.report.house import MUTED, NAVY, OCHRE, RED, TEAL, style
from flows.report.numbers import logarithmic_ticks

UNLEARNT = "#b9c4ce"  # interpolation
OTHERS = (NAVY, RED, "#7a5ba6", "#5d6b7a")  # other runs, in turn


def dumbbell_figure(samples: list[dict[str, Any]]) -> go.Figure:
    """One line for each molecule, from the guess's error to the model's."""
    ordered = sorted(samples, key=lambda sample: -_nmae(sample, "guess"))
    ids = [escape(sample["id"]) for sample in ordered]
    guess, model = ([_nmae(sample, name) for sample in ordered] for name in ("guess", "model"))
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


def cloud_figure(samples: list[dict[str, Any]]) -> go.Figure:
    """The model's error against the guess's, one point for each molecule; below the line the model is better."""
    guess, model = (np.array([_nmae(sample, name) for sample in samples]) for name in ("guess", "model"))
    reach = [float(min(guess.min(), model.min())), float(max(guess.max(), model.max()))]
    equal = go.Scatter(x=reach, y=reach, mode="lines", line={"color": MUTED, "dash": "dot", "width": 1}, name="equal")
    ids = [escape(sample["id"]) for sample in samples]
    about = "%{text}<br>guess %{x:.3~g} %, model %{y:.3~g} %<extra></extra>"
    points = go.Scattergl(
        x=guess, y=model, text=ids, mode="markers", marker={"color": NAVY, "size": 6, "opacity": 0.6}, name="molecules"
    )
    plot = style(go.Figure([equal, points.update(hovertemplate=about)]), 380)
    axis = {"type": "log", "tickformat": "~g", "tickvals": logarithmic_ticks(*reach)}
    plot.update_xaxes(title_text="NMAE of the guess, %", **axis)
    return plot.update_yaxes(title_text="NMAE of the model, %", **axis)


def method_figure(evaluation: dict[str, Any]) -> go.Figure:
    """One bar for each method, with its interval: mean NMAE over molecules."""
    means = {escape(name): one["means"]["nmae"] for name, one in evaluation["methods"].items()}
    names, colours = list(means), _choose_colours(list(evaluation["methods"]))
    bars = go.Bar(
        x=[100 * mean["mean"] for mean in means.values()],
        y=names,
        orientation="h",
        width=0.62,
        marker_color=[colours.get(name, UNLEARNT) for name in evaluation["methods"]],
        error_x=_whiskers(list(means.values())),
        hovertemplate="%{y}: %{x:.3~g} %<extra></extra>",
    )
    plot = style(go.Figure(bars), 70 + 30 * len(names)).update_layout(margin={"l": 190, "t": 10})
    plot.update_xaxes(title_text="mean NMAE against the target, %", rangemode="tozero", showgrid=True)
    return plot.update_yaxes(
        type="category", showgrid=False, autorange="reversed", ticksuffix="  ", tickfont={"size": 12}
    )


def region_figure(evaluation: dict[str, Any], regions: str, title: str) -> go.Figure:
    """`regions` is by_distance or by_element: the NMAE within each, and its share of all error. Networks and guess."""
    plot = make_subplots(1, 2, horizontal_spacing=0.09)
    seen = []
    for method, colour in _choose_colours(list(evaluation["methods"])).items():
        parts, name = evaluation["methods"][method][regions], escape(method)
        names = [part["name"] for part in parts]
        known = [part for part in parts if part["nmae"]["mean"]]
        seen += [100 * part["nmae"]["mean"] for part in known]
        points = go.Scatter(
            x=[part["name"] for part in known],
            y=[100 * part["nmae"]["mean"] for part in known],
            error_y=_whiskers([part["nmae"] for part in known]),
            mode="markers",
            marker={"color": colour, "size": 9},
            name=name,
            hovertemplate=f"{name}, %{{x}}: %{{y:.3~g}} %<extra></extra>",
        )
        shares = [100 * part["share"] for part in parts]
        bars = go.Bar(x=names, y=shares, name=name, marker_color=colour, showlegend=False).update(
            hovertemplate=f"{name}, %{{x}}: %{{y:.3~g}} % of its error<extra></extra>"
        )
        plot.add_trace(points, row=1, col=1)
        plot.add_trace(bars, row=1, col=2)
    style(plot, 300).update_layout(bargap=0.3, scattermode="group")
    plot.update_xaxes(title_text=title, type="category")
    ticks = logarithmic_ticks(min(seen), max(seen)) if seen else None
    plot.update_yaxes(title_text="NMAE within, %", type="log", tickformat="~g", tickvals=ticks, row=1, col=1)
    return plot.update_yaxes(title_text="share of the error, %", rangemode="tozero", row=1, col=2)


def _choose_colours(methods: list[str]) -> dict[str, str]:
    """Of guess, model and other runs; what has learnt nothing has none."""
    from training.superres.methods import INTERPOLATIONS

    runs = [name for name in methods if name not in ("guess", "model", *INTERPOLATIONS)]
    return {"guess": OCHRE, "model": TEAL, **{name: OTHERS[k % len(OTHERS)] for k, name in enumerate(runs)}}


def _whiskers(intervals: list[dict[str, Any]]) -> dict[str, Any]:
    """A plotly error bar, per cent; none where there are too few molecules for an interval."""
    if any(one["low"] is None for one in intervals):
        return {"visible": False}
    above, below = ([100 * abs(one[end] - one["mean"]) for one in intervals] for end in ("high", "low"))
    return {"type": "data", "array": above, "arrayminus": below, "color": "#33414f", "thickness": 1.2, "width": 4}


def _dots(errors: list[float], ids: list[str], name: str, colour: str) -> go.Scatter:
    about = f"%{{y}}, {name}: %{{x:.3~g}} %<extra></extra>"
    return go.Scatter(x=errors, y=ids, mode="markers", marker={"color": colour, "size": 10}, name=name).update(
        hovertemplate=about
    )


def _nmae(sample: dict[str, Any], method: str) -> float:
    """Per cent."""
    return 100 * float(sample["methods"][method]["nmae"])
