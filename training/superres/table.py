"""An evaluation as text: its molecules, then what they say together."""

from collections.abc import Sequence

import numpy as np

from training.bootstrap import Interval
from training.superres.methods import GUESS, INTERPOLATIONS, MODEL
from training.superres.scores import Score
from training.superres.summary import Part, Summary

MOST_LISTED = 40  # molecules; of more, those with the largest errors


def describe_evaluation(scores: Sequence[Score], summary: dict[str, Summary]) -> str:
    """Tables with an empty line between them."""
    tables = [
        list_molecules(scores),
        list_methods(summary),
        list_parts("Å from a nucleus", summary, {name: one.by_distance for name, one in summary.items()}),
        list_parts("nearest nucleus", summary, {name: one.by_element for name, one in summary.items()}),
    ]
    if "turned_nmae" in summary[MODEL].means:
        tables.append(list_rotations(summary))
    return "\n\n".join("\n".join(lines) for lines in tables)


def list_molecules(scores: Sequence[Score]) -> list[str]:
    """One line each, of the model's errors and the guess's NMAE."""
    listed = list(scores)
    if len(listed) > MOST_LISTED:
        listed = sorted(listed, key=lambda score: -score.model_nmae)[:MOST_LISTED]
    width = max(8, *(len(score.id) for score in listed))
    lines = [
        f"{'held out':<{width}}  guess NMAE  model NMAE  electrons   error  largest e/bohr³  dipole D  quadrup. D·Å"
    ]
    for score in listed:
        errors = score.methods[MODEL]
        lines.append(
            f"{score.id:<{width}}  {100 * score.guess_nmae:8.2f} %  {100 * score.model_nmae:8.2f} %"
            f"  {score.electrons:9.4f}  {errors.electron_error:+.0e}  {errors.largest:15.4f}"
            f"  {errors.dipole:8.3f}  {errors.quadrupole:13.3f}"
        )
    if len(scores) > len(listed):
        lines.append(f"… the {len(listed)} worst of {len(scores)}; all are in evaluation.json")
    return lines


def list_methods(summary: dict[str, Summary]) -> list[str]:
    """One line each: means over samples, with 95 % intervals from resampling their molecules."""
    width = max(len("mean, 95 %"), *map(len, summary))
    lines = [
        f"{'mean, 95 %':<{width}}  {'NMAE %':<20}  {'|electron error|':<16}  {'largest e/bohr³':<21}"
        f"  {'dipole D':<21}  {'quadrupole D·Å'}"
    ]
    for name, one in summary.items():
        means = one.means
        cells = [
            f"{_percent(means['nmae']):<20}",
            f"{means['electron_error'].mean:<16.0e}",
            *(f"{_interval(means[key], 3):<21}" for key in ("largest", "dipole_debye", "quadrupole_debye_angstrom")),
        ]
        lines.append(f"{name:<{width}}  {'  '.join(cells)}".rstrip())
    return lines


def list_rotations(summary: dict[str, Summary]) -> list[str]:
    """Errors of turned molecules, and how much they differ from one rotation of a molecule to the next."""
    width = max(len("turned"), *map(len, summary))
    lines = [f"{'turned':<{width}}  {'NMAE %':<20}  spread % (one molecule, standard deviation)"]
    for name, one in summary.items():
        lines.append(
            f"{name:<{width}}  {_percent(one.means['turned_nmae']):<20}  {_percent(one.means['turned_spread'])}"
        )
    return lines


def list_parts(title: str, summary: dict[str, Summary], parts: dict[str, list[Part]]) -> list[str]:
    """Regions of the boxes; `parts` by method."""
    names = [name for name in summary if name not in INTERPOLATIONS]
    width = max(len(title), *(len(part.name) for part in parts[GUESS]))
    lines = [f"{title:<{width}}  " + "  ".join(f"{f'{name}: NMAE %':<24}{'share':>7}" for name in names)]
    for place, part in enumerate(parts[GUESS]):
        cells = (parts[name][place] for name in names)
        row = "  ".join(f"{_percent(cell.nmae):<24}{100 * cell.share:5.1f} %" for cell in cells)
        lines.append(f"{part.name:<{width}}  {row}")
    return lines


def _percent(interval: Interval) -> str:
    return _interval(Interval(100 * interval.mean, 100 * interval.low, 100 * interval.high), 2)


def _interval(interval: Interval, digits: int) -> str:
    if np.isnan(interval.mean):
        return "–"
    ends = "" if np.isnan(interval.low) else f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    return f"{interval.mean:.{digits}f}{ends}"
