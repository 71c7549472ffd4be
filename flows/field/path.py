"""The way from one molecule's field to another's through the latents: measured frame by frame, and as an animation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from pipeline.units import BOHR_PER_ANGSTROM
from storage.schema import FloatArray
from training.field.read import FieldReader, Values

FRAMES = 21


@dataclass(frozen=True)
class FieldPath:
    """Frames at equal steps. A field that is a density holds electrons: then integrals are their numbers."""

    label: str
    frames: Sequence[Values]  # (cells, cells, cells) each
    cell_volume: float  # bohr³

    @property
    def integrals(self) -> FloatArray:
        """Of the field in each frame, (frames,)."""
        return np.array([self.cell_volume * frame.sum(dtype=np.float64) for frame in self.frames])

    @property
    def strides(self) -> FloatArray:
        """How far each frame is from the one before, root mean square: (frames − 1,)."""
        pairs = zip(self.frames[:-1], self.frames[1:], strict=True)
        return np.array([np.sqrt(np.mean((one - other) ** 2, dtype=np.float64)) for one, other in pairs])

    def __str__(self) -> str:
        """Integrals should run straight from end to end, and no stride be much longer than the others."""
        whole, steps = self.integrals, self.strides
        straight = np.linspace(whole[0], whole[-1], len(whole))
        worst = np.abs(whole - straight).max() / max(np.abs(straight).max(), 1e-12)
        longest = steps.max() / max(steps.mean(), 1e-12)
        return (
            f"{self.label}: integral {whole[0]:.4g} to {whole[-1]:.4g}, at most {100 * worst:.2f} % off the straight "
            f"line; least value {min(frame.min() for frame in self.frames):.3g}; "
            f"longest step {longest:.2f} times the mean"
        )


def follow_path(reader: FieldReader, first: int, second: int, label: str, cells: int) -> FieldPath:
    """Of one field, between two molecules of the reader's."""
    place = reader.scenes.fields.labels.index(label)
    shares = np.linspace(0, 1, FRAMES).tolist()
    frames = [reader.between(first, second, share, cells)[place] for share in shares]
    return FieldPath(label, frames, reader.grid(first, cells).cell_volume)


def write_animation(path: Path, followed: FieldPath, edge: float, title: str) -> None:
    """A page that plays the frames: the largest value along z, from above. `edge`: of the box, bohr."""
    axis = ((np.arange(len(followed.frames[0])) + 0.5) / len(followed.frames[0]) - 0.5) * edge / BOHR_PER_ANGSTROM
    ceiling = float(max(frame.max() for frame in followed.frames))

    def draw(frame: Values) -> go.Heatmap:
        shown = np.round(frame.max(axis=2).T.astype(float), 4).tolist()
        return go.Heatmap(z=shown, x=axis.tolist(), y=axis.tolist(), zmin=0, zmax=ceiling, colorscale="Viridis")

    figure = go.Figure(data=[draw(followed.frames[0])])
    figure.frames = [go.Frame(data=[draw(frame)], name=str(number)) for number, frame in enumerate(followed.frames)]
    play = {"frame": {"duration": 120, "redraw": True}, "fromcurrent": True}
    figure.update_layout(
        title=title,
        template="simple_white",
        width=640,
        height=640,
        xaxis_title="x, Å",
        yaxis={"title": "y, Å", "scaleanchor": "x"},
        updatemenus=[{"type": "buttons", "buttons": [{"label": "play", "method": "animate", "args": [None, play]}]}],
    )
    path.write_text(str(figure.to_html(include_plotlyjs=True)), encoding="utf-8")
