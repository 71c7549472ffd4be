"""The sections with accounts: electrons, sizes, failures, time, recipe."""

from collections.abc import Iterator
from html import escape

import numpy as np

from flows.recipe import FileDensity, MapDensity, ModelDensity
from flows.report.house import to_html
from flows.report.html import figure, paragraph, section, table
from flows.report.numbers import counted, signed_scientific
from flows.report.plots import electron_figure, seconds_figure, size_figure, time_figure
from flows.report.tally import Tally
from storage.schema import FloatArray

LOSSES = {  # what takes electrons away, by the facts before and after it
    "outside the box": ("electrons", "box_electrons"),
    "voxelization": ("box_electrons", "summed_electrons"),
    "rounding": ("summed_electrons", "voxel_electrons"),
    "in all": ("electrons", "voxel_electrons"),
}


def ledger(tally: Tally) -> Iterator[str]:
    if tally.ok:
        yield _electrons(tally)
        sizes = figure(to_html(size_figure(tally), "sizes-figure"), kind="wide")
        yield section("sizes", "Sizes", sizes)
    yield _failures(tally)
    yield _time(tally)
    yield _recipe(tally)


def _electrons(tally: Tally) -> str:
    given = FileDensity | MapDensity | ModelDensity
    solved = [name for name, density in tally.recipe.densities.items() if not isinstance(density, given)]
    stored = [name for name in solved if name in tally.recipe.channel_densities]
    if not stored:
        return ""
    rows = [
        [name, *(_worst(_read_change(tally, name, before, after)) for before, after in LOSSES.values())]
        for name in stored
    ]
    errors = {name: _read_change(tally, name, *LOSSES["in all"]) for name in stored}
    return section(
        "electrons",
        "Electrons",
        paragraph(
            "How far the electrons in the stored voxels are from those of the molecule, and what takes them away: "
            "the edge of the box, the sum over cells, the rounding of stored values."
        ),
        figure(to_html(electron_figure(errors), "electrons-figure"), kind="wide"),
        table(["largest change of any sample, electrons", *LOSSES], rows, ["", *["number"] * len(LOSSES)], "compact"),
    )


def _read_change(tally: Tally, density: str, before: str, after: str) -> FloatArray:
    """Electrons of every sample after a step less those before it."""
    counts = [sample.outcome.facts for sample in tally.ok]
    return np.array([facts[f"{density}_{after}"] - facts[f"{density}_{before}"] for facts in counts])


def _worst(changes: FloatArray) -> str:
    return signed_scientific(float(changes[np.argmax(np.abs(changes))]))


def _failures(tally: Tally) -> str:
    ends = [[end.id, end.outcome, end.message] for end in tally.failures]
    if not ends:
        missing = (
            f"none so far, {counted(tally.status.missing, 'row')} still to come" if tally.status.missing else "none"
        )
        return section("failures", "Failures", paragraph(f"Rows that failed: {missing}."))
    reasons = [[reason, f"{count:,}"] for reason, count in tally.status.failed.items()]
    return section(
        "failures",
        "Failures",
        table(["reason", "rows"], reasons, ["reason", "number"], "compact") if reasons else "",
        paragraph(f"Every row or conformer that ended without a sample ({len(ends):,}):"),
        f'<div class="scroll">{table(["id", "reason", "message"], ends, ["id", "reason", ""])}</div>',
    )


def _time(tally: Tally) -> str:
    status = tally.status
    held = status.wall_seconds * status.workers
    rest = max(0.0, held - status.computing_seconds)
    spent = [*tally.stages.items(), ("everything else", rest)]
    total = sum(seconds for _, seconds in spent)
    if not total:
        return section("time", "Time", paragraph("Nothing has been computed yet."))
    rows = [[name, f"{seconds:,.1f}", f"{100 * seconds / total:.1f} %"] for name, seconds in spent]
    seconds = np.array([sample.seconds for sample in tally.samples])
    return section(
        "time",
        "Time",
        paragraph(
            f"{status.wall_seconds:,.1f} s of wall time on {counted(status.workers, 'worker')}, "
            f"{status.computing_seconds:,.1f} CPU s of chemistry: {100 * status.overhead:+.1f} % over computing "
            "divided by workers. Everything else is starting up, reading, writing, and workers with nothing left to do."
        ),
        figure(to_html(time_figure(spent), "time-figure")),
        table(["stage", "worker seconds", "share"], rows, ["", "number", "number"], "compact"),
        figure(to_html(seconds_figure(seconds), "seconds-figure")) if len(seconds) else "",
    )


def _recipe(tally: Tally) -> str:
    programs = [[name, ", ".join(names)] for name, names in tally.programs.items() if names]
    return section(
        "recipe",
        "Recipe and versions",
        f"<pre>{escape(tally.recipe_text)}</pre>",
        table(["density", "made by"], programs, ["", ""], "compact") if programs else "",
        paragraph(f"Written with {', '.join(tally.versions)}, on {counted(tally.hosts, 'host')}.")
        if tally.versions
        else "",
    )
