"""Closes a dataset: checks that every receipt is there, then writes tables, statistics and metadata."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from storage.errors import StoreError
from storage.generations import Place, count_parts
from storage.header import read_header
from storage.layout import (
    GENERATIONS,
    HEADER,
    ROWS,
    SCHEMA_VERSION,
    SEAL,
    class_key,
    conformers_key,
    consolidate,
    decode_text,
    encode_text,
    open_group,
    planned_key,
    receipt_key,
    version_key,
    write_table,
    write_text,
)
from storage.manifest import Manifest, digest_content, is_vouched_for, unseal, write_manifest
from storage.objects import (
    PARTIAL,
    Location,
    checksum_object,
    delete_object,
    has_object,
    list_keys,
    read_record,
    write_record,
)
from storage.outcomes import Version, read_version
from storage.plan import Plan, is_planned, read_plan
from storage.receipts import Outcome, has_receipt, read_receipt
from storage.sample_tables import KEYS, Table, join_tables, read_tables, write_coordinates, write_tables
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
    if not is_planned(store):
        raise StoreError(f"{store} cannot be sealed: its source has changed and is not planned yet: run `rhoflow plan`")
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
    """Tables, statistics and metadata: a pure function of generations, plans, conformers and receipts."""
    plan = read_plan(store)
    version = read_version(store, plan)
    tables = {cells: read_class_tables(store, plan, cells) for cells in plan.lengths}
    for cells, of_class in tables.items():
        _write_class_tables(store, cells, of_class, version)
    _write_rows(store, version)
    _write_root(store, plan, tables, version)
    consolidate(store)


def read_class_tables(store: Location, plan: Plan, cells: int) -> dict[str, Table]:
    """What was planned of one size class, by all generations."""
    pieces = [
        (first, read_tables(open_group(store, "r", planned_key(generation.number, cells))))
        for generation in plan.generations
        if (first := generation.first.get(cells)) is not None
    ]
    return join_tables(pieces, plan.lengths[cells])


def list_checksums(store: Location) -> Manifest:
    """The checksums of all files as they are now, those of stored objects as their receipts say."""
    plan, keys = read_plan(store), [key for key in list_keys(store) if is_vouched_for(key)]
    files: dict[str, str] = {}
    for shard in plan.shards():
        files.update(read_receipt(store, shard.number).objects)
    files.update({key: checksum_object(store, key) for key in keys if key not in files})
    remade = [
        *map(conformers_key, range(count_parts(store))),
        *(receipt_key(shard.number) for shard in plan.shards()),
    ]
    copied = [HEADER, *(key for key in keys if key.startswith((f"{GENERATIONS}/", "work/runs/", "work/versions/")))]
    contents = {key: digest_content(store, key) for key in remade}
    copies = {key: read_record(store, key) for key in copied}
    return Manifest(dict(sorted(files.items())), contents, copies)


def _write_class_tables(store: Location, cells: int, tables: Mapping[str, Table], version: Version) -> None:
    group = open_group(store, "r+", class_key(cells))
    named = version.name_places(cells, len(tables["id"]))
    written = {name: values for name, values in tables.items() if name not in KEYS}
    write_tables(group, {**written, "id": encode_text(named.ids)})
    write_coordinates(group, cells, tables["spacing"])
    write_table(group, "row", np.array(named.rows), ("sample",), {"long_name": "row of the source; -1: none"})
    write_text(group, "outcome", named.outcomes, "sample")
    measured = [version.outcomes.get(Place(cells, row), Outcome("", "")).facts for row in range(len(named.ids))]
    for fact in sorted({name for facts in measured for name in facts}):
        numbers = np.array([facts.get(fact, math.nan) for facts in measured], dtype=np.float64)
        write_table(group, fact, numbers, ("sample",), {"units": UNITS.get(fact.rsplit("_", 1)[-1], "1")})
    for name, values in named.labels.items():
        _write_label(group, name, values, "sample")


def _write_rows(store: Location, version: Version) -> None:
    rows = version.rows
    group = open_group(store, "r+").require_group(ROWS)
    write_text(group, "id", [row.id for row in rows], "row")
    write_text(group, "outcome", [row.outcome for row in rows], "row")
    write_text(group, "message", [row.message for row in rows], "row")
    write_text(group, "duplicate_of", [row.duplicate_of for row in rows], "row")
    write_text(group, "samples", [" ".join(row.samples) for row in rows], "row")
    for name, values in version.label_columns().items():
        _write_label(group, name, values, "row")


def _write_label(group: Any, name: str, values: Sequence[Label | None], dimension: str) -> None:
    if any(isinstance(value, str) for value in values):
        write_text(group, f"label_{name}", [str(value) for value in values], dimension)
    else:
        numbers = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
        write_table(group, f"label_{name}", numbers, (dimension,), {"long_name": name})


def _write_root(store: Location, plan: Plan, tables: Mapping[int, Mapping[str, Table]], version: Version) -> None:
    header = read_header(store)
    splits = {cells: decode_text(of_class["split"]) for cells, of_class in tables.items()}  # type: ignore[arg-type]
    ok = [place for place in version.owners if version.outcomes[place].outcome == "ok"]
    counts = Counter(splits[place.cells][place.row] for place in ok)
    training = sorted(place for place in ok if splits[place.cells][place.row] == "train")
    sizes = {cells: of_class["grid_shape"].astype(np.int64).prod(axis=1) for cells, of_class in tables.items()}
    measured = [(int(sizes[place.cells][place.row]), version.outcomes[place].facts) for place in training]
    programs = sorted({program for place in ok for program in version.outcomes[place].programs.values()})
    attributes: dict[str, Any] = {
        "format": "rhoflow",
        "schema_version": SCHEMA_VERSION,
        "version": version.number,
        "recipe": dict(header.recipe),
        "recipe_text": header.recipe_text,
        "densities": list(plan.densities),
        "channels": [channel.name for channel in plan.channels],
        "wavefunctions": plan.keeps_wavefunctions,
        "programs": programs,
        "rows": dict(sorted(Counter(row.outcome for row in version.rows).items())),
        "splits": dict(sorted(counts.items())),
        "statistics": _describe_channels(plan, measured),
    }
    write_record(store, version_key(version.number), attributes)
    open_group(store, "r+").attrs.update(attributes)


def _describe_channels(plan: Plan, training: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation and maximum over every voxel of the training samples: (voxels, facts) of each."""
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
