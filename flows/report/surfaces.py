"""Surfaces of equal value around each molecule, as the traces between which the page's script chooses."""

import json
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import plotly.graph_objects as go
import plotly.io
from numpy.typing import NDArray

from flows.report.fields import Field, Shown
from flows.report.house import INK, NAVY, RED, TEAL
from flows.report.meshes import Mesh, balls, find_bonds, level_surface, sticks
from flows.report.plane import Plane, best_plane
from flows.report.scales import DENSITY_UNITS, GRADIENT_UNITS
from pipeline.elements import SYMBOLS
from pipeline.units import ANGSTROM_PER_BOHR
from storage.schema import FloatArray

Trace: TypeAlias = dict[str, object]

DENSITY_LEVEL = 0.03  # electrons/bohr³: just outside the bonds
GRADIENT_LEVEL = 0.05  # electrons/bohr⁴
BALL, SMALL_BALL = 0.42, 0.28  # bohr; the small one for hydrogen
COLOURS = {1: "#f4f5f6", 6: "#4a525b", 7: "#3f63c8", 8: "#cf3b35", 9: "#53b04f", 15: "#d98324", 16: "#d9b82e"}
COLOURS |= {17: "#3fae49", 35: "#8c3b2a", 53: "#6f3fa0"}
LIGHT = {"ambient": 0.55, "diffuse": 0.75, "specular": 0.25, "roughness": 0.5, "fresnel": 0.1}


def surface_traces(shown: Sequence[Shown]) -> str:
    """JSON: by sample its atoms, and by field its surfaces with the caption that says their level."""
    record = {one.sample.id: _sample_record(one) for one in shown}
    return json.dumps(record, sort_keys=False).replace("<", "\\u003c")


def _sample_record(shown: Shown) -> dict[str, object]:
    plane = best_plane(shown.sample.numbers, shown.sample.positions)
    fields = {field.name: _field_record(shown, field, plane) for field in shown.fields}
    return {"atoms": _as_records(list(_skeleton(shown, plane))), "fields": fields}


def _field_record(shown: Shown, field: Field, plane: Plane) -> dict[str, object]:
    levels = _choose_levels(field)
    traces = []
    for level, colour in levels:
        mesh = level_surface(field.values, shown.sample.grid, level)
        if mesh is not None:
            traces.append(_trace(mesh, plane, colour, 0.42 if len(levels) == 1 else 0.6))
    units = GRADIENT_UNITS if field.kind == "gradient" else DENSITY_UNITS
    sign = "±" if len(levels) == 2 else ""
    return {"traces": _as_records(traces), "caption": f"{field.name} = {sign}{levels[0][0]:g} {units}"}


def _choose_levels(field: Field) -> list[tuple[float, str]]:
    """Fixed for densities, so that molecules compare; for differences what one cell in 200 exceeds."""
    if field.kind == "density":
        return [(DENSITY_LEVEL, NAVY)]
    if field.kind == "gradient":
        return [(GRADIENT_LEVEL, TEAL)]
    level = float(f"{max(np.quantile(np.abs(field.values), 0.995), 1e-6):.1g}")
    return [(level, RED), (-level, NAVY)]


def _skeleton(shown: Shown, plane: Plane) -> Iterator[go.Mesh3d]:
    numbers, positions = shown.sample.numbers, shown.sample.positions
    bonds = find_bonds(numbers, positions)
    if bonds:
        yield _trace(sticks(positions, bonds), plane, "#9aa3ad", 1.0)
    for number in sorted(set(map(int, numbers))):
        mesh = balls(positions[numbers == number], SMALL_BALL if number == 1 else BALL)
        trace = _trace(mesh, plane, COLOURS.get(number, "#b58cc4"), 1.0)
        yield trace.update(hoverinfo="name", name=SYMBOLS[number])


def _trace(mesh: Mesh, plane: Plane, colour: str, opacity: float) -> go.Mesh3d:
    points = (plane.place(mesh.points) * ANGSTROM_PER_BOHR).astype(np.float32)
    corners = mesh.corners.astype(np.min_scalar_type(max(256, len(points))))
    x, y, z = (_column(points, axis) for axis in range(3))
    i, j, k = (_column(corners, corner) for corner in range(3))
    light = {"lighting": LIGHT, "lightposition": {"x": 2000, "y": 3000, "z": 10000}, "flatshading": False}
    return go.Mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, color=colour, opacity=opacity, hoverinfo="skip", showscale=False, **light
    )


def _column(table: NDArray[np.generic] | FloatArray, column: int) -> NDArray[np.generic]:
    return np.ascontiguousarray(table[:, column])


def _as_records(traces: Sequence[go.Mesh3d]) -> list[Trace]:
    """Traces as JSON values, arrays as base64."""
    records: list[Trace] = json.loads(plotly.io.to_json(go.Figure(list(traces)), validate=False))["data"]
    return records


def surface_layout() -> str:
    """JSON: the scene, drawn in Å without axes, seen a little from below the plane's normal."""
    hidden = {"visible": False, "showspikes": False}
    layout = {
        "scene": {
            "xaxis": hidden,
            "yaxis": hidden,
            "zaxis": hidden,
            "aspectmode": "data",
            "dragmode": "orbit",
            "camera": {"eye": {"x": 0.25, "y": -0.85, "z": 1.5}, "up": {"x": 0, "y": 1, "z": 0}},
        },
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "height": 460,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "font": {"color": INK},
        "uirevision": "kept",
    }
    return json.dumps(layout)
