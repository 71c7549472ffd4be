"""Comparison as a command: what two stores do not have in common, in words or JSON."""

import json
from collections.abc import Iterator, Sequence

from flows.care.compare_stores import Comparison, SampleDifference, compare_stores
from flows.json_values import to_json
from flows.progress import Meter
from storage.objects import Location
from storage.plan import read_plan

SHOWN = 20


def diff_stores(first: Location, second: Location, as_json: bool) -> bool:
    """Print how they differ; returns whether they are identical."""
    with Meter("compare", sum(read_plan(first).counts.values()), unit="samples") as meter:
        comparison = compare_stores(first, second, meter.advance)
    if as_json:
        print(json.dumps({"identical": comparison.is_identical, "comparison": to_json(comparison)}, allow_nan=False))
    else:
        print("\n".join(describe_comparison(comparison)))
    return comparison.is_identical


def describe_comparison(comparison: Comparison) -> Iterator[str]:
    if comparison.is_identical:
        yield f"identical: {comparison.samples} samples"
    else:
        yield (
            f"different: {len(comparison.differing)} of {comparison.samples} common samples, "
            f"{len(comparison.only_first)} in the first only, {len(comparison.only_second)} in the second only"
        )
    yield from _list_some("in the first only", comparison.only_first)
    yield from _list_some("in the second only", comparison.only_second)
    yield from _list_some("row", comparison.rows)
    yield from _summarise_arrays(comparison.differing)
    yield from _list_some("sample", [_describe_sample(sample) for sample in comparison.differing])
    yield from _list_some("made with", comparison.explanations)


def _list_some(title: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines[:SHOWN]:
        yield f"  {title}  {line}"
    if len(lines) > SHOWN:
        yield f"  {title}  … and {len(lines) - SHOWN} more: --json lists all"


def _summarise_arrays(differing: Sequence[SampleDifference]) -> Iterator[str]:
    for name in sorted({name for sample in differing for name in sample.arrays}):
        found = [sample.arrays[name] for sample in differing if name in sample.arrays]
        nmae, largest = max(it.nmae for it in found), max(it.largest for it in found)
        yield f"  array  {name}: {len(found)} samples differ, NMAE up to {nmae:.3g}, values up to {largest:.3g}"


def _describe_sample(sample: SampleDifference) -> str:
    arrays = [f"{name} NMAE {it.nmae:.3g}, values up to {it.largest:.3g}" for name, it in sample.arrays.items()]
    return f"{sample.id}: {'; '.join([*arrays, *sample.said])}"
