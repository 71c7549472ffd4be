"""The picture of a comparison: learning curves where there are several numbers of molecules, bars otherwise."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from storage.objects import write_object
from training.comparison.config import KINDS, Comparison
from training.comparison.table import Row
from training.comparison.text import round_figure

INK, FAINT, PAPER = "#23272e", "#8a9099", "#ffffff"
HUES = (
    "#0f6db3",
    "#d9662b",
    "#2f9c6a",
    "#9a5bb5",
    "#c4a000",
    "#c23b53",
    "#4d5b6b",
    "#17a2b8",
)  # told apart by all eyes
MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")
DASHES = ("solid", (0, (5, 2)), (0, (1.2, 1.2)))  # where hues come again
FEW = 4  # variants whose bands can be told apart
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "rhoflow",  # the same table gives the same bytes
}
LINE = 0.05  # of a panel's height, for a name
CURVE_SIZE, BAR_WIDTH, BAR_HEIGHT = (6.8, 3.9), 5.6, 0.34  # inches
MOST_COLUMNS = 2  # of panels
NARROW = 4  # times as much at the top as at the bottom: less than that has too few round powers and halves for ticks

Panel = tuple[str, str]  # judge and measure


class Look(NamedTuple):
    """Of a variant."""

    hue: str
    mark: str
    dashes: str | tuple[float, tuple[float, float]]  # of its line


def plot_comparison(comparison: Comparison, rows: Sequence[Row], file: Path) -> None:
    """One panel for each judge and measure; nothing where nothing is judged."""
    drawn = KINDS[comparison.kind].drawn
    panels: dict[Panel, list[Row]] = {}
    for row in rows:
        if not drawn or row.measure in drawn:
            panels.setdefault((row.judge, row.measure), []).append(row)
    if panels:
        with matplotlib.rc_context(STYLE):
            figure = _draw(comparison, panels)
            figure.savefig(file.with_name(f".{file.name}"), format="svg", metadata={"Date": None}, facecolor=PAPER)
        content = file.with_name(f".{file.name}").read_bytes()
        file.with_name(f".{file.name}").unlink()
        write_object(file.parent, file.name, content)


def _draw(comparison: Comparison, panels: Mapping[Panel, list[Row]]) -> Figure:
    looks = {variant: _look(number) for number, variant in enumerate(comparison.variants)}
    is_curve = len({row.molecules for rows in panels.values() for row in rows if row.is_trained}) > 1
    width, height = CURVE_SIZE if is_curve else (BAR_WIDTH, 1.1 + BAR_HEIGHT * max(map(len, panels.values())))
    columns = min(MOST_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
    places = figure.subplots(lines, columns, squeeze=False).ravel()
    for (panel, rows), axes in zip(panels.items(), places, strict=False):
        (_draw_curves if is_curve else _draw_bars)(axes, rows, looks)
        _finish(axes, panel, len(comparison.judges) > 1)
    for axes in places[len(panels) :]:
        axes.remove()
    if is_curve and len(looks) > 1:
        handles, names = places[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(comparison.title, x=0.012, ha="left", fontsize=12, fontweight="bold")
    return figure


def _look(number: int) -> Look:
    turn, hue = divmod(number, len(HUES))
    return Look(HUES[hue], MARKS[hue], DASHES[turn % len(DASHES)])


def _draw_curves(axes: Axes, rows: Sequence[Row], looks: Mapping[str, Look]) -> None:
    """Both axes logarithmic; bands are intervals over molecules, whiskers the spread over seeds."""
    trained = [row for row in rows if row.is_trained]
    sizes = sorted({row.molecules for row in trained if row.molecules})
    alpha = 0.16 if len(looks) <= FEW else 0.04
    for variant, look in looks.items():
        line = [row for row in trained if row.method == variant and row.molecules]
        counts, means = [row.molecules or 0 for row in line], [row.mean for row in line]
        low, high = ([getattr(row, end) or row.mean for row in line] for end in ("low", "high"))
        axes.fill_between(counts, low, high, color=look.hue, alpha=alpha, linewidth=0)
        spreads = [row.spread or 0.0 for row in line]
        main, _, _ = axes.errorbar(
            counts, means, spreads, color=look.hue, marker=look.mark, markersize=5, linewidth=1.8, capsize=2.5,
            label=variant,
        )  # fmt: skip
        main.set_linestyle(look.dashes)
    for method in dict.fromkeys(row.method for row in rows if not row.is_trained and row.molecules):
        line = [row for row in rows if row.method == method and row.molecules]
        counts, means = [row.molecules or 0 for row in line], [row.mean for row in line]
        axes.plot(counts, means, color=FAINT, linestyle=(0, (4, 3)), linewidth=1, zorder=0)
        axes.annotate(
            method, (counts[-1], means[-1]), (4, 0), textcoords="offset points", va="center", fontsize=8, color=FAINT
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    untrained = [(row, f"{row.method}, no training", looks[row.method].hue) for row in trained if row.molecules == 0]
    floors = [(row, row.method, FAINT) for row in rows if not row.is_trained and row.molecules is None]
    _draw_levels(axes, [(row.mean, name, hue) for row, name, hue in (*untrained, *floors)])
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training molecules")
    bottom, top = axes.get_ylim()
    axes.yaxis.set_major_locator(MaxNLocator(5) if top < NARROW * bottom else LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_levels(axes: Axes, levels: Sequence[tuple[float, str, str]]) -> None:
    """Dashed lines with their names beside the axes, moved apart where they would meet."""
    for height, _, hue in levels:
        axes.axhline(height, color=hue, linestyle=(0, (4, 3)), linewidth=1, zorder=0)
    low, high = axes.get_ylim()
    ordered = sorted(levels)
    places = [math.log(height / low) / math.log(high / low) for height, _, _ in ordered]
    for (_, name, hue), place in zip(ordered, _spread_out(places), strict=True):
        axes.text(1.015, place, name, transform=axes.transAxes, va="center", fontsize=8, color=hue)


def _spread_out(places: Sequence[float]) -> list[float]:
    """In ascending order, at least a line of text apart; none above the axes' top."""
    spread: list[float] = []
    for place in places:
        spread.append(max(place, spread[-1] + LINE if spread else place))
    for k in reversed(range(len(spread))):
        spread[k] = min(spread[k], spread[k + 1] - LINE if k + 1 < len(spread) else 1.0)
    return spread


def _draw_bars(axes: Axes, rows: Sequence[Row], looks: Mapping[str, Look]) -> None:
    """From the top down: variants, then what needs no training."""
    for place, row in enumerate(rows):
        hue = looks[row.method].hue if row.is_trained else "#c9ced6"
        axes.barh(place, row.mean, color=hue, height=0.66)
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=INK, linewidth=1.2)
        axes.annotate(
            round_figure(row.mean),
            (row.high or row.mean, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(rows)), [row.method for row in rows])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.14 * max(row.high or row.mean for row in rows))
    axes.set_ylabel("")


def _finish(axes: Axes, panel: Panel, names_judge: bool) -> None:
    judge, measure = panel
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    is_curve = axes.get_xscale() == "log"
    (axes.set_ylabel if is_curve else axes.set_xlabel)(measure)
    axes.grid(axis="both" if is_curve else "x", color="#e6e9ed", linewidth=0.7)
    axes.set_axisbelow(True)
    if names_judge:
        axes.set_title(judge, loc="left", fontsize=10, color=INK)
