"""The table of a comparison: what its cells say together, as far as they are done."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from storage.objects import Json, has_object, locate, read_record, write_object, write_record
from storage.schema import FloatArray
from training.bootstrap import Interval, average_molecules, bootstrap_mean, bootstrap_ratio
from training.comparison.config import Cell, Comparison
from training.comparison.jobs import TRIAL, read_chosen, read_judgements, read_trial
from training.comparison.kind import Judge, Judgement, Scores

TABLE, SHEET = "comparison.json", "comparison.csv"

Place = tuple[str, int | None]  # variant, and its training molecules: None where it is all, or makes no difference


@dataclass(frozen=True)
class Row:
    """One mean over the molecules of a judge, with its 95 % interval; None where it has none."""

    judge: str
    method: str  # a variant, or what needs no training
    is_trained: bool
    molecules: int | None  # that were trained on; None: all, or none were needed
    measure: str
    mean: float
    low: float | None
    high: float | None
    seeds: int
    spread: float | None  # standard deviation of the means over seeds
    ratio: float | None  # to the first variant with as many molecules, molecule by molecule
    ratio_low: float | None
    ratio_high: float | None
    judged_molecules: int
    samples: int


def tabulate(comparison: Comparison, run: Path) -> list[Row]:
    """Judge by judge, variant by variant, then what needs no training."""
    done = {cell: read_judgements(run, cell) for cell in comparison.cells()}
    rows = []
    for judge in comparison.judges:
        judged = {cell: judgements[judge] for cell, judgements in done.items() if judgements}
        rows += [*_list_variants(judge, next(iter(comparison.variants)), judged), *_list_floors(judge, judged)]
    return rows


def write_table(comparison: Comparison, run: Path) -> list[Row]:
    rows = tabulate(comparison, run)
    record: dict[str, Json] = {
        "title": comparison.title,
        "kind": comparison.kind,
        "confidence": 0.95,
        "judges": {name: {**vars(judge), "store": str(judge.store or "")} for name, judge in comparison.judges.items()},
        "variants": {variant: _describe_variant(comparison, run, variant) for variant in comparison.variants},
        "rows": [asdict(row) for row in rows],
    }
    write_record(run, TABLE, record)
    write_object(run, SHEET, _write_sheet(rows).encode())
    return rows


def read_table(run: Path) -> tuple[str, dict[str, Judge], list[Row]]:
    """Title, judges and rows of a comparison."""
    record: dict[str, Any] = dict(read_record(run, TABLE))
    judges = {
        name: Judge(**{**judge, "store": locate(judge["store"]) if judge["store"] else None})
        for name, judge in record["judges"].items()
    }
    return record["title"], judges, [Row(**row) for row in record["rows"]]


def _list_variants(judge: str, first: str, judged: Mapping[Cell, Judgement]) -> Iterator[Row]:
    places: dict[Place, list[Scores]] = {}
    for cell, judgement in judged.items():
        places.setdefault((cell.variant, cell.molecules), []).append(judgement.model)
    for (variant, molecules), scores in places.items():
        reference = places.get((first, molecules)) if variant != first else None
        yield from _list_measures(judge, (variant, molecules), scores, reference)


def _list_floors(judge: str, judged: Mapping[Cell, Judgement]) -> Iterator[Row]:
    """Each once; named after the variants, or told by the molecules, only where these make a difference."""
    floors: dict[str, dict[Place, Scores]] = {}
    for cell, judgement in judged.items():
        for name, scores in judgement.floors.items():
            floors.setdefault(name, {}).setdefault((cell.variant, cell.molecules), scores)
    for name, found in floors.items():
        kept: dict[Place, Scores] = {}
        of_variants = [[other for (one, _), other in found.items() if one == variant] for variant, _ in found]
        by_size = any(_differ(several) for several in of_variants)
        for (variant, molecules), scores in found.items():
            alike = [other for (_, size), other in found.items() if size == molecules]
            label = f"{name} ({variant})" if _differ(alike) else name
            kept.setdefault((label, molecules if by_size else None), scores)
        for place, scores in kept.items():
            yield from _list_measures(judge, place, [scores], None, is_trained=False)


def _differ(several: Sequence[Scores]) -> bool:
    """Beyond what a device rounds."""
    first = several[0]
    return any(
        scores.molecules != first.molecules
        or any(not np.allclose(scores.errors[one], first.errors[one], rtol=1e-4) for one in first.errors)
        for scores in several
    )


def _list_measures(
    judge: str, place: Place, scores: Sequence[Scores], reference: Sequence[Scores] | None, *, is_trained: bool = True
) -> Iterator[Row]:
    for measure in scores[0].errors:
        seeds = np.array([_average_molecules(one, measure) for one in scores])
        values = seeds.mean(axis=0)
        ratio = Interval(np.nan, np.nan, np.nan)
        if reference and measure in reference[0].errors and reference[0].molecules == scores[0].molecules:
            ratio = bootstrap_ratio(values, np.mean([_average_molecules(one, measure) for one in reference], axis=0))
        interval = bootstrap_mean(values)
        means = seeds.mean(axis=1)
        yield Row(
            judge=judge,
            method=place[0],
            is_trained=is_trained,
            molecules=place[1],
            measure=measure,
            mean=interval.mean,
            low=_known(interval.low),
            high=_known(interval.high),
            seeds=len(scores) if is_trained else 0,
            spread=float(means.std(ddof=1)) if len(means) > 1 else None,
            ratio=_known(ratio.mean),
            ratio_low=_known(ratio.low),
            ratio_high=_known(ratio.high),
            judged_molecules=len(values),
            samples=len(scores[0].molecules),
        )


def _average_molecules(scores: Scores, measure: str) -> FloatArray:
    return average_molecules(scores.molecules, np.asarray(scores.errors[measure], dtype=np.float64))


def _describe_variant(comparison: Comparison, run: Path, variant: str) -> dict[str, Json]:
    """What a trial and tuning found; nothing before they are done."""
    found: dict[str, Json] = {}
    if comparison.seconds and has_object(run, f"{variant}/{TRIAL}"):
        trial = read_trial(run, variant)
        checkpoint_steps = comparison.variants[variant].checkpoint_steps
        found = {**asdict(trial), "steps": trial.count_steps(comparison.seconds, checkpoint_steps)}
    return found | read_chosen(run, variant)


def _write_sheet(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    sheet = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    sheet.writeheader()
    sheet.writerows(asdict(row) for row in rows)
    return text.getvalue()


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number
