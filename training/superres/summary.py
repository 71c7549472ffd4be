"""What all test samples together say: means over them, with confidence intervals from resampling their molecules."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.bootstrap import Interval, bootstrap_ratio, sum_molecules
from training.superres.regions import name_bins
from training.superres.scores import Errors, Score

MEASURES: Mapping[str, Callable[[Errors], float]] = {
    "nmae": lambda errors: errors.nmae,
    "electron_error": lambda errors: abs(errors.electron_error),
    "largest": lambda errors: errors.largest,
    "dipole_debye": lambda errors: errors.dipole,
    "quadrupole_debye_angstrom": lambda errors: errors.quadrupole,
}
TURNED: Mapping[str, Callable[[Errors], float]] = {
    "turned_nmae": lambda errors: float(np.mean(errors.turned_nmae)),
    "turned_spread": lambda errors: find_spread(errors.turned_nmae),
}


def find_spread(values: Sequence[float]) -> float:
    """Standard deviation over one molecule's rotations, estimated from a sample of them; NaN from one alone."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Part:
    """One region of all boxes: a bin of distances, or the cells nearest to an element."""

    name: str
    share: float  # of Σ|Δρ| over all boxes
    nmae: Interval  # Σ|Δρ| / Σρ_target, both within the region


@dataclass(frozen=True)
class Summary:
    """Of one method over all samples."""

    means: dict[str, Interval]  # by measure
    by_distance: list[Part]
    by_element: list[Part]


def summarise(scores: Sequence[Score]) -> dict[str, Summary]:
    """By method."""
    return {name: _summarise_method(scores, name) for name in scores[0].methods}


def _summarise_method(scores: Sequence[Score], name: str) -> Summary:
    errors = [score.methods[name] for score in scores]
    measures = {**MEASURES, **(TURNED if errors[0].turned_nmae else {})}
    elements = list(dict.fromkeys(symbol for score in scores for symbol in score.target_by_element))
    bins, molecules = name_bins(), [score.molecule for score in scores]
    samples = sum_molecules(molecules, np.ones(len(scores)))
    sums = {key: sum_molecules(molecules, np.array([*map(measure, errors)])) for key, measure in measures.items()}
    return Summary(
        means={key: bootstrap_ratio(summed, samples) for key, summed in sums.items()},
        by_distance=_split_up(
            molecules,
            bins,
            [dict(zip(bins, one.by_distance, strict=True)) for one in errors],
            [dict(zip(bins, score.target_by_distance, strict=True)) for score in scores],
        ),
        by_element=_split_up(
            molecules,
            elements,
            [one.by_element for one in errors],
            [score.target_by_element for score in scores],
        ),
    )


def _split_up(
    molecules: Sequence[str],
    regions: Iterable[str],
    amiss: Sequence[Mapping[str, float]],
    held: Sequence[Mapping[str, float]],
) -> list[Part]:
    """`amiss` and `held`: electrons by region, one mapping per sample; `molecules`: that of each sample."""
    whole = sum(sum(one.values()) for one in amiss)
    parts = []
    for name in regions:
        wrong, there = (
            sum_molecules(molecules, np.array([one.get(name, 0.0) for one in several])) for several in (amiss, held)
        )
        parts.append(Part(name, float(wrong.sum()) / whole if whole else 0.0, bootstrap_ratio(wrong, there)))
    return parts
