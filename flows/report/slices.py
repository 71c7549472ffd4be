"""Pictures of the fields of one sample in the plane that shows most of it."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from flows.report.fields import Field, Kind, Shown
from flows.report.house import MUTED, style
from flows.report.plane import Plane, best_plane, cut
from flows.report.scales import Scale, density_scale, error_scale, gradient_scale, round_up
from pipeline.elements import SYMBOLS
from pipeline.units import ANGSTROM_PER_BOHR
from storage.schema import FloatArray

COLUMNS = 5
PAGE_WIDTH = 1000  # pixels that the panels of one row share
NEAR = 1.2  # bohr: atoms closer to the plane are named
FINEST = 0.12  # bohr between the points of a picture
PADDING = {"l": 44, "r": 6, "t": 44, "b": 40}


def choose_scales(shown: Sequence[Shown]) -> dict[Kind, Scale]:
    """The scales of a page, the same for all its molecules; errors up to the largest in 2000."""
    differences = [field.values for one in shown for field in one.fields if field.kind == "difference"]
    scales: dict[Kind, Scale] = {"density": density_scale()}
    if any(field.kind == "gradient" for one in shown for field in one.fields):
        scales["gradient"] = gradient_scale()
    if differences:
        highest = max(float(np.quantile(np.abs(values), 0.9995)) for values in differences)
        scales["difference"] = error_scale(round_up(max(highest, 1e-6)))
    return scales


def slice_figure(shown: Shown, scales: Mapping[Kind, Scale]) -> go.Figure:
    """One panel for each field, atoms near the plane named, axes in Å."""
    sample, fields = shown.sample, shown.fields
    plane = best_plane(sample.numbers, sample.positions)
    columns = min(COLUMNS, len(fields))
    rows = -(-len(fields) // columns)
    titles = [_title(field) for field in fields]
    figure = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.012, vertical_spacing=0.16)
    labels = _atom_labels(shown, plane)
    step = max(FINEST, min(sample.grid.spacing) / 3)
    for place, field in enumerate(fields):
        row, column = place // columns + 1, place % columns + 1
        across, up, values = cut(field.values, sample.grid, plane, step)
        heat = _heat_map(across, up, values, scales[field.kind])
        figure.add_traces([heat, labels], rows=row, cols=column)
        axis = "" if place == 0 else str(place + 1)
        figure.update_yaxes(scaleanchor=f"x{axis}", row=row, col=column)
    return _finish(figure, plane, rows, columns)


def _title(field: Field) -> str:
    error = "" if field.nmae is None else f"<br><span style='color:{MUTED}'>NMAE {100 * field.nmae:.2f} %</span>"
    return field.name + error


def _heat_map(across: FloatArray, up: FloatArray, values: FloatArray, scale: Scale) -> go.Heatmap:
    low, high = scale.limits
    return go.Heatmap(
        x=_to_angstrom(across),
        y=_to_angstrom(up),
        z=values.astype(np.float32),
        zmin=low,
        zmax=high,
        colorscale=scale.stops(),
        showscale=False,
        zsmooth="best",
        hoverongaps=False,
        hovertemplate=f"%{{z:.3~g}} {scale.units}<br>at %{{x:.2f}}, %{{y:.2f}} Å<extra></extra>",
    )


def _atom_labels(shown: Shown, plane: Plane) -> go.Scatter:
    placed = plane.place(shown.sample.positions)
    near = np.abs(placed[:, 2]) < NEAR
    return go.Scatter(
        x=_to_angstrom(placed[near, 0]),
        y=_to_angstrom(placed[near, 1]),
        text=[SYMBOLS[int(number)] for number in shown.sample.numbers[near]],
        mode="text",
        textfont={"size": 11},
        hoverinfo="skip",
        showlegend=False,
    )


def _finish(figure: go.Figure, plane: Plane, rows: int, columns: int) -> go.Figure:
    width = (PAGE_WIDTH - PADDING["l"] - PADDING["r"]) * (1 - 0.012 * (columns - 1)) / columns
    panel = width * plane.half[1] / plane.half[0]
    height = round(rows * panel + (rows - 1) * 80 + PADDING["t"] + PADDING["b"])
    style(figure, height)
    half_width, half_height = _to_angstrom(plane.half)
    ticks = {"dtick": 2, "showgrid": False, "showline": False, "ticks": "outside", "ticklen": 3, "constrain": "domain"}
    figure.update_xaxes(range=[-half_width, half_width], title_text="Å", title_standoff=2, **ticks)
    figure.update_yaxes(range=[-half_height, half_height], showticklabels=False, **{**ticks, "ticks": ""})
    figure.update_yaxes(showticklabels=True, ticks="outside", title_text="Å", title_standoff=4, col=1)
    figure.update_annotations(font={"size": 12.5}, yshift=2)
    figure.update_layout(margin=PADDING)
    return figure


def _to_angstrom(lengths: FloatArray) -> FloatArray:
    return np.round(lengths * ANGSTROM_PER_BOHR, 4)
