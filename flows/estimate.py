"""What a build will cost, from molecules of its own that are computed first."""

import dataclasses
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flows.conform import conform_part
from flows.plan import plan_dataset
from flows.recipe import Recipe, recipe_values
from flows.shard import compute_shard
from flows.source import open_source
from storage.errors import RequestError
from storage.generations import Generation, Place, Run, write_generation
from storage.header import Header, begin_store
from storage.layout import conformers_key, receipt_key
from storage.objects import Location, list_keys, measure_object
from storage.outcomes import read_version
from storage.parts import ROWS_PER_PART, SourceRow, read_circumstances, write_source_part
from storage.plan import Plan
from storage.schema import FloatArray, Molecule
from storage.seal import seal

HEAVY = re.compile(r"Cl|Br|[A-Zbcnops](?<!H)")  # atoms of a SMILES, near enough


@dataclass(frozen=True)
class Timed:
    """One molecule, computed."""

    size: int  # heavy atoms
    seconds: float  # CPU
    stored_bytes: float
    samples: int


@dataclass(frozen=True)
class Estimate:
    rows: int
    timed: int  # of them
    timed_sizes: tuple[int, int]  # heavy atoms, least and most: the smallest and the largest row are among them
    failed: dict[str, int]  # of the timed ones, by reason
    core_hours: float
    bytes: float
    files: int
    memory_gib: float  # of one worker's child, at the largest molecule


def estimate_build(recipe: Recipe, limit: int | None, molecules: int, on_done: Callable[[int], None]) -> Estimate:
    """Compute so many rows, from the smallest to the largest, and interpolate. Raises RequestError for an empty source.

    `on_done` hears how many rows have been computed, about: each has as many samples as conformers.
    """
    sizes = [count_heavy(row.molecule) for row in open_source(recipe, limit)]
    if not sizes:
        raise RequestError(f"{recipe.source.address} holds no molecules: there is nothing to estimate")
    chosen = choose_rows(sizes, molecules)
    picked = {number: row for number, row in enumerate(open_source(recipe)) if number in chosen}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "estimate.zarr"
        plan = plan_small_store(store, recipe, [picked[row] for row in chosen])
        preparing = read_circumstances(store, conformers_key(0))["computing_seconds"] / len(chosen)
        memory = 0.0
        trials = len(plan.shards())  # of one sample each
        for number in range(trials):
            compute_shard(store, number)
            memory = max(memory, read_circumstances(store, receipt_key(number))["peak_memory_gib"])
            on_done(len(chosen) * (number + 1) // trials)
        timed = [replace(one, seconds=one.seconds + preparing) for one in read_timed(store, plan, chosen, sizes)]
        ends = [row.outcome for row in read_version(store, plan).rows if row.outcome != "ok"]
        objects = max((len(compute_shard(store, number).objects) for number in range(len(plan.shards()))), default=0)
        seal(store)
        described = [key for key in list_keys(store) if not is_of_shards(Path(key))]
        described_bytes = sum(
            measure_object(store, key) * (1 if key.endswith(".json") else len(sizes) / len(chosen)) for key in described
        )
    samples = sum_over(sizes, timed, "samples")
    shards = samples / recipe.store.shard_samples + len(plan.counts)
    return Estimate(
        rows=len(sizes),
        timed=len(chosen),
        timed_sizes=(min(sizes), max(sizes)),
        failed={reason: ends.count(reason) for reason in sorted(set(ends))},
        core_hours=sum_over(sizes, timed, "seconds") / 3600,
        bytes=sum_over(sizes, timed, "stored_bytes") + described_bytes,
        files=round(shards * (objects + 1) + 3 * len(sizes) / ROWS_PER_PART) + len(described),
        memory_gib=memory,
    )


def is_of_shards(key: Path) -> bool:
    """Whether an object is a shard's or its receipt, rather than a table or metadata of the whole store."""
    return key.parts[:2] == ("work", "receipts") or (key.name.startswith("c.") and key.name.count(".") > 2)


def count_heavy(molecule: Molecule) -> int:
    if molecule.numbers is not None:
        return max(1, int((molecule.numbers > 1).sum()))
    return max(1, len(HEAVY.findall(molecule.smiles or "")))


def choose_rows(sizes: Sequence[int], count: int) -> list[int]:
    """Rows spread evenly over the sizes, the smallest and the largest among them, in ascending size."""
    order = np.argsort(sizes, kind="stable")
    places = np.unique(np.round(np.linspace(0, len(sizes) - 1, min(count, len(sizes)))).astype(int))
    return [int(row) for row in order[places]]


def plan_small_store(store: Location, recipe: Recipe, rows: Sequence[SourceRow]) -> Plan:
    """A store of these molecules, planned with one sample to a shard."""
    values = recipe_values(recipe)
    values["store"]["shard_samples"] = 1
    begin_store(store, Header(values, ""))
    numbered = [replace(row, molecule=replace(row.molecule, row=number)) for number, row in enumerate(rows)]
    write_source_part(store, 0, numbered)
    write_generation(store, Generation(1, recipe.source.address, "", None, 0, 1, [Run(0, 0, len(rows))]))
    conform_part(store, 0)
    return plan_dataset(store)


def read_timed(store: Location, plan: Plan, chosen: Sequence[int], sizes: Sequence[int]) -> list[Timed]:
    """What each chosen row took; a row without samples took next to nothing."""
    seconds, stored, samples = (dict.fromkeys(range(len(chosen)), 0.0) for _ in range(3))
    owners = read_version(store, plan).owners
    for shard in plan.shards():
        row = owners[Place(shard.cells, shard.first)].row
        receipt = compute_shard(store, shard.number)
        seconds[row] += float(receipt.circumstances["computing_seconds"])
        stored[row] += sum(measure_object(store, key) for key in receipt.objects)
        samples[row] += 1
    return [Timed(sizes[chosen[row]], seconds[row], stored[row], int(samples[row])) for row in range(len(chosen))]


def sum_over(sizes: Sequence[int], timed: Sequence[Timed], what: str) -> float:
    """A quantity over every row, interpolated in the size between means of the timed rows of one size."""
    known = sorted({one.size for one in timed})
    means = [float(np.mean([getattr(one, what) for one in timed if one.size == size])) for size in known]
    values: FloatArray = np.interp(sizes, known, means)
    return float(values.sum())


def describe(estimate: Estimate, workers: int) -> str:
    (least, most), hours = estimate.timed_sizes, estimate.core_hours
    failed = ", ".join(f"{count} {reason}" for reason, count in estimate.failed.items())
    return "\n".join(
        [
            f"{estimate.rows} rows, from {least} to {most} heavy atoms; {estimate.timed} of them were computed"
            + (f" ({failed})" if failed else ""),
            f"  computing  {hours:.3g} core-hours: {hours / workers:.3g} hours on {workers} workers",
            f"  disk       {estimate.bytes / 1e6:.3g} MB in about {estimate.files} files",
            f"  memory     {estimate.memory_gib:.2g} GiB a worker at most",
        ]
    )


def estimate_json(estimate: Estimate) -> str:
    return json.dumps(dataclasses.asdict(estimate))
