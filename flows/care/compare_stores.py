"""How two stores differ: sample by sample, with what explains it. Arrays are read only where checksums differ."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.errors import StoreError
from storage.generations import Place, read_generation, read_rows
from storage.header import read_header
from storage.layout import PLANS, class_key, open_group, receipt_key
from storage.manifest import digest_content
from storage.objects import Location, checksum_object, list_keys
from storage.outcomes import Version, read_version
from storage.parts import read_circumstances
from storage.plan import Plan, Shard, read_basis, read_plan, read_shard_samples
from storage.receipts import Outcome, Receipt, has_receipt, read_receipt
from storage.sample_tables import PlannedSample
from storage.schema import Basis, Label

Home: TypeAlias = tuple[Shard, int]  # a sample's shard, and its row there
WAVEFUNCTION = ("orbitals", "occupations")
VERIFY = "`rhoflow verify` says what else is"


@dataclass(frozen=True)
class ArrayDifference:
    """Of two arrays of one shape: Σ|a − b| / Σ|a|, and the largest |a − b|, in the array's own unit."""

    nmae: float
    largest: float


@dataclass(frozen=True)
class SampleDifference:
    """One sample that both stores have; what is equal is left out."""

    id: str
    said: Sequence[str] = ()  # in words: outcome, grid, positions, split, measured facts
    arrays: Mapping[str, ArrayDifference] = field(default_factory=dict)  # by name: channels, orbitals, occupations

    @property
    def is_some(self) -> bool:
        return bool(self.said or self.arrays)


@dataclass(frozen=True)
class Comparison:
    only_first: Sequence[str]  # ids of samples
    only_second: Sequence[str]
    samples: int  # that both have
    differing: Sequence[SampleDifference]
    rows: Sequence[str]  # source rows that one store lacks, or whose labels or outcomes differ, in words
    explanations: Sequence[str]  # recipe keys, versions and kernels that differ

    @property
    def is_identical(self) -> bool:
        return not (self.only_first or self.only_second or self.differing or self.rows)


class StoredShards:
    """The computed samples of one store, found by id; one shard's receipt and tables in memory at a time."""

    def __init__(self, store: Location) -> None:
        self.store = store
        self.plan: Plan = read_plan(store)
        self._groups: dict[int, Any] = {}
        self.shards = [shard for shard in self.plan.shards() if has_receipt(store, shard.number)]
        self.receipt = lru_cache(maxsize=2)(self._read_receipt)
        self.samples = lru_cache(maxsize=2)(self._read_samples)
        self.basis = lru_cache(maxsize=None)(self._read_basis)

    @cached_property
    def version(self) -> Version:
        return read_version(self.store, self.plan)

    def _read_receipt(self, shard: Shard) -> Receipt:
        return read_receipt(self.store, shard.number)

    def _read_samples(self, shard: Shard) -> list[PlannedSample]:
        return read_shard_samples(self.store, shard)

    def _read_basis(self, density: str) -> Basis:
        return read_basis(self.store, density)

    def name_samples(self, shard: Shard) -> list[str]:
        """Their ids; "" for those that no row of the source has any more."""
        owners = (self.version.owners.get(Place(shard.cells, row)) for row in range(shard.first, shard.last))
        return [owner.id if owner else "" for owner in owners]

    def find_places(self) -> dict[str, Home]:
        """Of every sample that the source has now, by id."""
        return {id: (shard, row) for shard in self.shards for row, id in enumerate(self.name_samples(shard)) if id}

    def list_channels(self) -> list[str]:
        return [channel.name for channel in self.plan.channels]

    def list_arrays(self) -> list[str]:
        """Names of the arrays over samples."""
        kept = self.plan.densities if self.plan.keeps_wavefunctions else ()
        return [*self.list_channels(), *(f"{part}_{density}" for density in kept for part in WAVEFUNCTION)]

    def read_array(self, name: str, shard: Shard, row: int) -> NDArray[np.floating[Any]]:
        """One sample's row of an array, without its padding.

        Raises StoreError where what is stored cannot be read.
        """
        group = self._groups.setdefault(shard.cells, open_group(self.store, "r", class_key(shard.cells)))
        shape = self._measure_box(name, shard, row)
        try:
            values: NDArray[np.floating[Any]] = group[name][(shard.first + row, ..., *map(slice, shape))]
        except (ValueError, RuntimeError) as error:  # what Zarr and Blosc raise
            raise StoreError(f"{self.store}: {name} of shard {shard.number} is damaged: {VERIFY}") from error
        if np.isnan(values).all():  # what Zarr gives for an object that is gone
            raise StoreError(f"{self.store}: {name} of shard {shard.number} is missing: {VERIFY}")
        return values

    def _measure_box(self, name: str, shard: Shard, row: int) -> tuple[int, ...]:
        """How much of an array's row is the sample's, the rest being padding."""
        planned = self.samples(shard)[row]
        if name in self.list_channels():
            return planned.grid.shape
        part, density = name.split("_", 1)
        orbitals = int(self.receipt(shard).outcomes[row].facts[f"{density}_orbitals"])
        functions = (self.basis(density).size(planned.conformer.numbers),) if part == "orbitals" else ()
        return (orbitals, *functions)

    def digest_tables(self, cells: int) -> str:
        """sha256 of a size class's tables: equal where every planned sample and its place are."""
        keys = [key for key in list_keys(self.store, PLANS) if f"/{class_key(cells)}/" in key and "/c." in key]
        listed = "".join(f"{checksum_object(self.store, key)}  {key}\n" for key in keys)
        return hashlib.sha256(listed.encode()).hexdigest()


def compare_stores(first: Location, second: Location, advance: Callable[[int], None] = lambda _: None) -> Comparison:
    """Compare every computed sample, and what became of every row; `advance` hears how many more samples are done."""
    one, other = StoredShards(first), StoredShards(second)
    places = other.find_places()
    same_tables = _find_equal_tables(one, other)
    only_first, differing, both = [], [], 0
    for shard in one.shards:
        names = one.name_samples(shard)
        found = [places.pop(id, None) for id in names]
        only_first += [id for id, place in zip(names, found, strict=True) if id and place is None]
        both += len(found) - found.count(None)
        advance(shard.last - shard.first)
        if shard.cells in same_tables and _is_same_shard(one, shard, other, found):
            continue
        for row, place in enumerate(found):
            if place and (difference := compare_sample(one, (shard, row), other, place)).is_some:
                differing.append(difference)
    rows = list(_compare_rows(one, other))
    return Comparison(only_first, list(places), both, differing, rows, list(explain(one, other)))


def _find_equal_tables(one: StoredShards, other: StoredShards) -> set[int]:
    """Size classes whose tables are the same bytes."""
    return {
        cells
        for cells in {*one.plan.lengths} & {*other.plan.lengths}
        if one.digest_tables(cells) == other.digest_tables(cells)
    }


def _is_same_shard(one: StoredShards, shard: Shard, other: StoredShards, found: Sequence[Home | None]) -> bool:
    """Whether the samples lie in the other store as they do here, in the same bytes."""
    first = found[0]
    if first is None or found != [(first[0], row) for row in range(len(found))] or first[0].cells != shard.cells:
        return False
    here, there = (
        digest_content(shards.store, receipt_key(number))
        for shards, number in ((one, shard.number), (other, first[0].number))
    )
    return here == there


def compare_sample(one: StoredShards, place: Home, other: StoredShards, other_place: Home) -> SampleDifference:
    (shard, row), (other_shard, other_row) = place, other_place
    receipt, other_receipt = one.receipt(shard), other.receipt(other_shard)
    was, now, id = receipt.outcomes[row], other_receipt.outcomes[other_row], one.name_samples(shard)[row]
    planned, other_planned = one.samples(shard)[row], other.samples(other_shard)[other_row]
    said = [*_compare_outcomes(was, now), *_compare_planned(planned, other_planned)]
    if (was.outcome, now.outcome) != ("ok", "ok") or planned.grid.shape != other_planned.grid.shape:
        return SampleDifference(id, said)
    said += [f"{name}: in one of the stores only" for name in {*one.list_arrays()} ^ {*other.list_arrays()}]
    equal = _find_equal_objects(receipt, other_receipt) if row == other_row else set()
    arrays = {}
    for name in sorted({*one.list_arrays()} & {*other.list_arrays()} - equal):
        values, others = one.read_array(name, shard, row), other.read_array(name, other_shard, other_row)
        if values.shape != others.shape:
            said.append(f"{name}: shape {values.shape}, then {others.shape}")
        elif not np.array_equal(values, others):
            arrays[name] = compare_arrays(values, others)
    return SampleDifference(id, said, arrays)


def compare_arrays(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> ArrayDifference:
    """Sums run in double precision."""
    apart = np.abs(np.subtract(first, second, dtype=np.float64))
    total = float(np.abs(first).sum(dtype=np.float64))
    return ArrayDifference(float(apart.sum()) / total if total else float("inf"), float(apart.max()))


def _find_equal_objects(receipt: Receipt, other: Receipt) -> set[str]:
    """Names of the arrays whose stored objects of these shards are the same bytes."""
    sums, others = (
        {key.split("/")[1]: digest for key, digest in receipt.objects.items()} for receipt in (receipt, other)
    )
    return {name for name, digest in sums.items() if others.get(name) == digest}


def _compare_outcomes(was: Outcome, now: Outcome) -> Iterator[str]:
    if was.outcome != now.outcome:
        yield f"outcome: {was.outcome}, then {now.outcome}"
    for name in sorted({*was.facts} | {*now.facts}):
        old, new = was.facts.get(name), now.facts.get(name)
        if old != new and not (old != old and new != new):  # two NaN are the same
            yield f"{name}: {old}, then {new}"


def _compare_planned(was: PlannedSample, now: PlannedSample) -> Iterator[str]:
    if was.split != now.split:
        yield f"split: {was.split}, then {now.split}"
    if was.grid != now.grid:
        yield f"grid: {was.grid}, then {now.grid}"
    if not np.array_equal(was.conformer.numbers, now.conformer.numbers):
        yield "atoms: other elements"
    elif not np.array_equal(was.conformer.positions, now.conformer.positions):
        moved = np.abs(was.conformer.positions - now.conformer.positions).max()
        yield f"positions: up to {moved:.3g} bohr apart"
    for name in ("charge", "unpaired", "smiles"):
        if getattr(was.conformer, name) != getattr(now.conformer, name):
            yield f"{name}: {getattr(was.conformer, name)}, then {getattr(now.conformer, name)}"


def _read_rows(shards: StoredShards) -> Iterator[tuple[str, str, Mapping[str, Label]]]:
    """Id, outcome before any density, and labels of every source row."""
    latest = read_generation(shards.store, shards.version.number)
    return ((row.id, row.outcome, row.labels) for _, row in read_rows(shards.store, latest))


def _compare_rows(one: StoredShards, other: StoredShards) -> Iterator[str]:
    rows = {id: (outcome, labels) for id, outcome, labels in _read_rows(other)}
    for id, outcome, labels in _read_rows(one):
        if id not in rows:
            yield f"{id}: in the first only"
            continue
        now, others = rows.pop(id)
        if outcome != now:
            yield f"{id}: {outcome}, then {now}"
        for name in sorted({*labels} | {*others}):
            if labels.get(name) != others.get(name):
                yield f"{id}: label {name} {labels.get(name)!r}, then {others.get(name)!r}"
    for id in rows:
        yield f"{id}: in the second only"


def explain(one: StoredShards, other: StoredShards) -> Iterator[str]:
    """What may make two stores differ: keys of their recipes, versions of programs, kernels."""
    recipes = [flatten(read_header(shards.store).recipe) for shards in (one, other)]
    for key in sorted({*recipes[0]} | {*recipes[1]}):
        if recipes[0].get(key) != recipes[1].get(key):
            yield f"recipe {key}: {recipes[0].get(key)!r}, then {recipes[1].get(key)!r}"
    made, then = (_name_circumstances(shards) for shards in (one, other))
    for name in sorted({*made} | {*then}):
        if made.get(name) != then.get(name):
            yield f"{name}: {_join(made.get(name))}, then {_join(then.get(name))}"


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"grid": {"box": "cube"}} → {"grid.box": "cube"}"""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def _name_circumstances(shards: StoredShards) -> dict[str, set[str]]:
    """Programs by density, packages and kernels that the receipts name."""
    named: dict[str, set[str]] = {}
    for shard in shards.shards:
        for outcome in read_receipt(shards.store, shard.number).outcomes:
            for density, program in outcome.programs.items():
                named.setdefault(f"program of {density}", set()).add(program)
        circumstances = read_circumstances(shards.store, receipt_key(shard.number))
        for package, version in circumstances.get("versions", {}).items():
            named.setdefault(f"version of {package}", set()).add(version)
        named.setdefault("kernel", set()).add(circumstances.get("kernel", "unknown"))
    return named


def _join(names: set[str] | None) -> str:
    return " and ".join(sorted(names)) if names else "none"
