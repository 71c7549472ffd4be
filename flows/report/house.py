"""How every figure of a page looks: colours, letters, axes; and a figure as HTML."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import plotly.graph_objects as go
import plotly.io

INK, MUTED, LINE = "#1c2733", "#5d6b7a", "#d9e0e7"
NAVY, OCHRE, TEAL, RED = "#24588f", "#c58a2b", "#1f8a70", "#b5482f"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
SERIES = (OCHRE, NAVY, TEAL, RED)  # first the guess, then the target, then what a model makes of them

Axis: TypeAlias = Mapping[str, Any]  # keywords of a plotly axis
CONFIG = {"displayModeBar": False, "responsive": True, "scrollZoom": False}


def style(figure: go.Figure, height: int) -> go.Figure:
    """The house's letters and lines on a figure of the given height in pixels."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 16, "t": 30, "b": 46},
        font={"family": FONT, "size": 12.5, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"font": {"family": FONT, "size": 12}, "bgcolor": "white", "bordercolor": LINE},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        bargap=0.06,
    )
    lines = {"linecolor": "#9aa7b4", "tickcolor": "#9aa7b4", "gridcolor": "#edf0f3", "zeroline": False}
    letters = {"tickfont": {"size": 11, "color": MUTED}, "title_font": {"size": 12, "color": MUTED}}
    figure.update_xaxes(showgrid=False, showline=True, ticks="outside", ticklen=4, title_standoff=8, **lines, **letters)
    figure.update_yaxes(showgrid=True, showline=False, ticks="", title_standoff=10, **lines, **letters)
    return figure


def to_html(figure: go.Figure, name: str) -> str:
    """A figure as a piece of a page that already holds plotly's script; `name` is its id there."""
    piece: str = plotly.io.to_html(figure, config=CONFIG, include_plotlyjs=False, full_html=False, div_id=name)
    return piece
