"""Closes a dataset: checks that every receipt is there, then writes tables, statistics and metadata."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from storage.errors import StoreError
from storage.header import read_header
from storage.layout import (
    HEADER,
    ROWS,
    SCHEMA_VERSION,
    SEAL,
    SOURCE_END,
    class_key,
    conformers_key,
    consolidate,
    open_group,
    receipt_key,
    write_table,
    write_text,
)
from storage.manifest import Manifest, digest_content, is_vouched_for, unseal, write_manifest
from storage.objects import PARTIAL, Location, checksum_object, delete_object, has_object, list_keys, read_record
from storage.outcomes import RowOutcome, read_row_outcomes, read_sample_outcomes
from storage.plan import Plan, PlannedSample, read_plan, read_planned_samples
from storage.receipts import Outcome, has_receipt, read_receipt
from storage.schema import Label

UNITS = {
    "hartree": "hartree",
    "ebohr": "e bohr",
    "electrons": "electrons",
    "bohr": "bohr",
}


def is_sealed(store: Location) -> bool:
    return has_object(store, SEAL)


def seal(store: Location) -> None:
    """Write what describes the whole dataset, then vouch for it. Running it again writes the same bytes.

    Raises StoreError naming the shards that have no receipt.
    """
    check_complete(store)
    unseal(store)
    for key in list_keys(store):
        if key.endswith(PARTIAL):
            delete_object(store, key)  # left by killed writers; with every receipt written, nobody writes any more
    describe(store)
    os.sync()  # the seal vouches for all of it
    write_manifest(store, list_checksums(store))


def check_complete(store: Location) -> None:
    """Raises StoreError naming the shards that have no receipt, or stored objects that are gone."""
    plan = read_plan(store)
    missing = [shard.number for shard in plan.shards() if not has_receipt(store, shard.number)]
    if missing:
        named = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
        raise StoreError(
            f"{store} cannot be sealed: {len(missing)} shards have no receipt ({named}); "
            f"run `rhoflow run {store} --parts 1/1` or the build again"
        )
    lost = [
        key
        for shard in plan.shards()
        for key in read_receipt(store, shard.number).objects
        if not has_object(store, key)
    ]
    if lost:
        raise StoreError(
            f"{store} cannot be sealed: {len(lost)} stored objects are gone though their receipts exist ({lost[0]} …): "
            f"`rhoflow verify {store} --repair` computes them again"
        )


def describe(store: Location) -> None:
    """Tables, statistics and metadata: a pure function of plan, conformers and receipts."""
    plan = read_plan(store)
    outcomes = read_sample_outcomes(store, plan)
    rows = list(read_row_outcomes(store, plan))
    samples = {cells: read_planned_samples(store, cells, 0, count) for cells, count in plan.samples.items()}
    for cells, planned in samples.items():
        _write_class_table(store, cells, planned, outcomes, rows)
    _write_rows(store, rows)
    _write_root(store, plan, samples, outcomes, rows)
    consolidate(store)


def list_checksums(store: Location) -> Manifest:
    """The checksums of all files as they are now, those of stored objects as their receipts say."""
    plan, keys = read_plan(store), [key for key in list_keys(store) if is_vouched_for(key)]
    files: dict[str, str] = {}
    for shard in plan.shards():
        files.update(read_receipt(store, shard.number).objects)
    files.update({key: checksum_object(store, key) for key in keys if key not in files})
    remade = [*map(conformers_key, range(plan.parts)), *(receipt_key(shard.number) for shard in plan.shards())]
    copied = [HEADER, SOURCE_END, *(key for key in keys if key.startswith("work/runs/"))]
    contents = {key: digest_content(store, key) for key in remade}
    copies = {key: read_record(store, key) for key in copied}
    return Manifest(dict(sorted(files.items())), contents, copies)


def _write_class_table(
    store: Location,
    cells: int,
    planned: Sequence[PlannedSample],
    outcomes: Mapping[str, Outcome],
    rows: Sequence[RowOutcome],
) -> None:
    group = open_group(store, "r+", class_key(cells))
    ends = [outcomes[sample.conformer.id] for sample in planned]
    write_text(group, "outcome", [end.outcome for end in ends], "sample")
    for fact in sorted({name for end in ends for name in end.facts}):
        values = np.array([end.facts.get(fact, math.nan) for end in ends], dtype=np.float64)
        write_table(group, fact, values, ("sample",), {"units": UNITS.get(fact.rsplit("_", 1)[-1], "1")})
    labels = {row.row: row.labels for row in rows}
    _write_labels(group, [labels[sample.row] for sample in planned], "sample", find_text_labels(rows))


def _write_rows(store: Location, rows: Sequence[RowOutcome]) -> None:
    group = open_group(store, "r+").require_group(ROWS)
    write_text(group, "id", [row.id for row in rows], "row")
    write_text(group, "outcome", [row.outcome for row in rows], "row")
    write_text(group, "message", [row.message for row in rows], "row")
    write_text(group, "duplicate_of", [row.duplicate_of for row in rows], "row")
    write_text(group, "samples", [" ".join(row.samples) for row in rows], "row")
    _write_labels(group, [row.labels for row in rows], "row", find_text_labels(rows))


def find_text_labels(rows: Sequence[RowOutcome]) -> set[str]:
    """Labels that are text in at least one row are text everywhere."""
    return {name for row in rows for name, value in row.labels.items() if isinstance(value, str)}


def _write_labels(group: Any, labels: Sequence[Mapping[str, Label | None]], dimension: str, texts: set[str]) -> None:
    for name in sorted({name for row in labels for name in row}):
        values = [row.get(name) for row in labels]
        if name in texts:
            write_text(group, f"label_{name}", [_as_text(value) for value in values], dimension)
        else:
            numbers = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
            write_table(group, f"label_{name}", numbers, (dimension,), {"long_name": name})


def _write_root(
    store: Location,
    plan: Plan,
    samples: Mapping[int, Sequence[PlannedSample]],
    outcomes: Mapping[str, Outcome],
    rows: Sequence[RowOutcome],
) -> None:
    header = read_header(store)
    splits = Counter(
        sample.split
        for planned in samples.values()
        for sample in planned
        if outcomes[sample.conformer.id].outcome == "ok"
    )
    programs = sorted({program for end in outcomes.values() for program in end.programs.values()})
    open_group(store, "r+").attrs.update(
        {
            "format": "rhoflow",
            "schema_version": SCHEMA_VERSION,
            "recipe": dict(header.recipe),
            "recipe_text": header.recipe_text,
            "densities": list(plan.densities),
            "channels": [channel.name for channel in plan.channels],
            "wavefunctions": plan.keeps_wavefunctions,
            "programs": programs,
            "rows": dict(sorted(Counter(row.outcome for row in rows).items())),
            "splits": dict(sorted(splits.items())),
            "statistics": _training_statistics(plan, samples, outcomes),
        }
    )


def _training_statistics(
    plan: Plan, samples: Mapping[int, Sequence[PlannedSample]], outcomes: Mapping[str, Outcome]
) -> dict[str, dict[str, float]]:
    """Mean, standard deviation and maximum over every voxel of the training split, by channel."""
    training = [
        (math.prod(sample.grid.shape), outcomes[sample.conformer.id].facts)
        for _, planned in sorted(samples.items())
        for sample in planned
        if sample.split == "train" and outcomes[sample.conformer.id].outcome == "ok"
    ]
    if not training:
        return {}
    voxels = sum(count for count, _ in training)
    statistics = {}
    for channel in plan.channels:
        mean = math.fsum(count * facts[f"{channel.name}_mean"] for count, facts in training) / voxels
        square = math.fsum(count * facts[f"{channel.name}_square_mean"] for count, facts in training) / voxels
        highest = max(facts[f"{channel.name}_maximum"] for _, facts in training)
        spread = math.sqrt(max(0.0, square - mean**2))
        statistics[channel.name] = {"mean": mean, "standard_deviation": spread, "maximum": highest}
    return statistics


def _as_text(value: Label | None) -> str:
    """A label of a column that holds text in other rows; 7 there is "7", not "7.0"."""
    return "" if value is None else f"{value:.17g}" if isinstance(value, float) else value
