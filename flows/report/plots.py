"""Plots of a dataset: how its samples are distributed, and where its time went."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from flows.report.house import LINE, NAVY, OCHRE, SERIES, style
from flows.report.numbers import logarithmic_ticks, power_of_ten
from flows.report.tally import Tally
from storage.schema import FloatArray

MOST_BINS = 32
HEIGHT = 260


def electron_figure(errors: Mapping[str, FloatArray]) -> go.Figure:
    """By density: stored electrons less the molecule's, in a power of ten that makes the numbers readable."""
    figure = make_subplots(1, len(errors), subplot_titles=list(errors), horizontal_spacing=0.09)
    for column, (values, colour) in enumerate(zip(errors.values(), itertools.cycle(SERIES)), start=1):
        exponent = _exponent_of(values)
        counts, edges = np.histogram(values / 10.0**exponent, bins=_bins(values))
        figure.add_trace(_bars(counts, edges, colour, f"%{{x:.3~g}} × {power_of_ten(exponent)} e"), row=1, col=column)
        figure.update_xaxes(
            title_text=f"stored electrons − the molecule's, {power_of_ten(exponent)} e", row=1, col=column
        )
    return _count_samples(style(figure, HEIGHT)).update_annotations(font={"size": 12.5})


def size_figure(tally: Tally) -> go.Figure:
    """Atoms of a sample, and cells along an edge of its box."""
    figure = make_subplots(1, 2, horizontal_spacing=0.09)
    atoms = np.array([len(sample.planned.conformer.numbers) for sample in tally.ok])
    width = max(1, -(-int(np.ptp(atoms) + 1) // (2 * MOST_BINS)))
    counts, edges = np.histogram(atoms, bins=np.arange(atoms.min(), atoms.max() + width + 1, width) - 0.5)
    figure.add_trace(_bars(counts, edges, NAVY, "%{x:.0f} atoms"), row=1, col=1)
    cells = [max(sample.planned.grid.shape) for sample in tally.ok]
    classes = sorted({*cells})
    figure.add_trace(
        go.Bar(
            x=[f"{edge}³" for edge in classes],
            y=[cells.count(edge) for edge in classes],
            marker_color=NAVY,
            width=0.5,
            showlegend=False,
            hovertemplate="%{y} samples in boxes of %{x} cells<extra></extra>",
        ),
        row=1,
        col=2,
    )
    figure.update_xaxes(title_text="atoms per sample", row=1, col=1)
    figure.update_xaxes(title_text="cells of the box", type="category", row=1, col=2)
    return _count_samples(style(figure, HEIGHT))


def seconds_figure(seconds: FloatArray) -> go.Figure:
    """CPU seconds of every sample, on a logarithmic axis."""
    logarithms = np.log10(np.maximum(seconds, 1e-4))
    low, high = np.floor(logarithms.min() * 4) / 4, np.ceil(logarithms.max() * 4) / 4
    counts, edges = np.histogram(logarithms, bins=np.linspace(low, max(high, low + 0.5), _bins(seconds) + 1))
    centres, widths = 10 ** ((edges[:-1] + edges[1:]) / 2), np.diff(10**edges)
    bars = go.Bar(
        x=centres,
        y=counts,
        width=widths * 0.94,
        marker_color=NAVY,
        hovertemplate="%{y} samples at %{x:.3~g} s<extra></extra>",
    )
    figure = go.Figure(bars)
    ticks = logarithmic_ticks(10**low, 10**high)
    figure.update_xaxes(type="log", title_text="CPU seconds per sample", tickvals=ticks, tickformat="~g")
    return _count_samples(style(figure, HEIGHT))


def time_figure(spent: Sequence[tuple[str, float]]) -> go.Figure:
    """One bar: the workers' seconds, by what they went into."""
    colours = (OCHRE, NAVY, LINE)
    bars = [
        go.Bar(
            x=[seconds],
            y=["workers"],
            name=name,
            orientation="h",
            marker_color=colour,
            hovertemplate=f"{name}: %{{x:.3~s}} s<extra></extra>",
        )
        for (name, seconds), colour in zip(spent, colours, strict=True)
    ]
    figure = style(go.Figure(bars), 130)
    figure.update_layout(barmode="stack", margin={"l": 16, "t": 34}, legend={"traceorder": "normal"})
    figure.update_xaxes(title_text="worker seconds", rangemode="tozero")
    return figure.update_yaxes(showticklabels=False, showgrid=False)


def _count_samples(figure: go.Figure) -> go.Figure:
    """Upright axes that count: whole numbers, the first of them titled."""
    for bars in figure.data:
        axis = figure.layout[f"yaxis{(bars.yaxis or 'y')[1:]}"]
        axis.update(tickformat=",d", rangemode="tozero", dtick=1 if max(bars.y) < 6 else None)
    figure.layout.yaxis.title.text = "samples"
    return figure


def _bars(counts: FloatArray, edges: FloatArray, colour: str, about: str) -> go.Bar:
    return go.Bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts,
        width=np.diff(edges) * 0.94,
        marker_color=colour,
        showlegend=False,
        hovertemplate=f"%{{y}} samples at {about}<extra></extra>",
    )


def _bins(values: FloatArray) -> int:
    """How many bars a histogram gets: few where there are few values."""
    return int(np.clip(2 * np.sqrt(len(values)), 8, MOST_BINS))


def _exponent_of(values: FloatArray) -> int:
    """The multiple of three below the largest value's power of ten."""
    largest = float(np.abs(values).max(initial=0.0))
    return 3 * int(np.floor(np.log10(largest) / 3)) if largest else 0
