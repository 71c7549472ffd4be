"""Which sample is computed where: every conformer's size class, shard and row, fixed before any density is computed."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from storage.errors import StoreError
from storage.generations import Place, count_generations
from storage.header import read_header
from storage.layout import BASIS, TABLE_CHUNK, class_key, create_sharded, open_group, plan_key, planned_key, write_table
from storage.objects import Location, checksum_object, has_object, read_record, write_record
from storage.sample_tables import PlannedSample, Table, read_samples, read_tables, tabulate, write_tables
from storage.schema import Basis, FloatArray, Shell

Attributes = dict[str, str | list[str]]


@dataclass(frozen=True)
class Refusal:
    """A conformer that will not be computed."""

    id: str
    reason: str
    message: str


@dataclass(frozen=True)
class ChannelLayout:
    """One channel's array: (sample, [types,] x, y, z)."""

    name: str
    units: str
    long_name: str
    types: tuple[str, ...] = ()


@dataclass(frozen=True)
class DensityLayout:
    """The arrays that keep one density's wavefunctions."""

    name: str
    basis: Basis
    orbitals: Mapping[int, int]  # by size class: the most orbitals of any sample


@dataclass(frozen=True)
class Shard:
    """The samples that one task computes: rows `first` to `last` (exclusive) of one size class."""

    number: int
    cells: int
    index: int  # within its class: which stored object
    first: int
    last: int
    generation: int  # that brought them
    begin: int  # the first row that this generation has in the class


@dataclass(frozen=True)
class GenerationPlan:
    """What one generation brings. Its samples begin with a stored object of their own in every class."""

    number: int
    first: Mapping[int, int]  # by size class, ascending: the row of its first sample
    samples: Mapping[int, int]  # by size class: how many
    refusals: Sequence[Refusal]
    aliases: Mapping[str, Place]  # id of a conformer → the sample of the same molecule, geometry and settings
    retried: Sequence[tuple[Place, Place]]  # where a failed sample lay, and where it is tried again
    programs: Mapping[str, str]  # by density: the one that its keys name
    bases: Mapping[str, Mapping[int, str]]  # by density and element, of all generations so far: a digest of its shells


@dataclass(frozen=True)
class Plan:
    """What is to be computed, by all generations together."""

    shard_samples: int
    channels: Sequence[ChannelLayout]
    densities: Sequence[str]
    keeps_wavefunctions: bool
    generations: Sequence[GenerationPlan]

    @property
    def lengths(self) -> dict[int, int]:
        """Rows of the arrays of each size class, ascending: the free ones at the ends of generations among them."""
        ends = {
            cells: first + generation.samples[cells]
            for generation in self.generations
            for cells, first in generation.first.items()
        }
        return dict(sorted(ends.items()))

    @property
    def counts(self) -> dict[int, int]:
        """Samples of each size class, ascending."""
        return {
            cells: sum(generation.samples.get(cells, 0) for generation in self.generations) for cells in self.lengths
        }

    def until(self, number: int) -> "Plan":
        """As it was when a generation had been planned."""
        return replace(self, generations=self.generations[:number])

    def shards(self) -> list[Shard]:
        """Every shard, numbered over all generations and classes."""
        return self._shards

    @cached_property
    def _shards(self) -> list[Shard]:
        size = self.shard_samples
        places = [
            (cells, row // size, row, min(row + size, begin + generation.samples[cells]), generation.number, begin)
            for generation in self.generations
            for cells, begin in generation.first.items()
            for row in range(begin, begin + generation.samples[cells], size)
        ]
        return [Shard(number, *place) for number, place in enumerate(places)]


def write_plan(
    store: Location, plan: Plan, samples: Mapping[int, Sequence[PlannedSample]], densities: Sequence[DensityLayout]
) -> None:
    """Add the last of the plan's generations: its tables, then room for its samples, then the plan itself, last."""
    generation = plan.generations[-1]
    open_group(store, "a")
    for density in densities:
        _write_basis(store, density)
    for cells, planned in samples.items():
        write_tables(open_group(store, "w", planned_key(generation.number, cells)), tabulate(planned))
        group = open_group(store, "a", class_key(cells))
        group.attrs["cells"] = cells
        _make_channels(group, cells, plan)
        for density in densities if plan.keeps_wavefunctions else ():
            _make_wavefunctions(group, cells, plan, planned, density)
    os.sync()  # the plan vouches for them
    write_record(
        store,
        plan_key(generation.number),
        {
            "shard_samples": plan.shard_samples,
            "channels": [vars(channel) for channel in plan.channels],
            "densities": plan.densities,
            "keeps_wavefunctions": plan.keeps_wavefunctions,
            "generation": {**vars(generation), "refusals": [vars(refusal) for refusal in generation.refusals]},
        },
    )


def is_planned(store: Location) -> bool:
    """Whether all that was read of the source has its place."""
    number = count_generations(store)
    return bool(number) and has_object(store, plan_key(number))


def read_plan(store: Location) -> Plan:
    """Of every generation that is planned.

    Raises RequestError where there is no store, StoreError where planning has not finished once.
    """
    read_header(store)
    numbers = [number for number in range(1, count_generations(store) + 1) if has_object(store, plan_key(number))]
    if not numbers:
        raise StoreError(f"{store} has no plan yet: run `rhoflow plan RECIPE {store}` (or `rhoflow build`)")
    records: list[Any] = [read_record(store, plan_key(number)) for number in numbers]
    return Plan(
        shard_samples=records[-1]["shard_samples"],
        channels=[ChannelLayout(**{**entry, "types": tuple(entry["types"])}) for entry in records[-1]["channels"]],
        densities=records[-1]["densities"],
        keeps_wavefunctions=records[-1]["keeps_wavefunctions"],
        generations=[_read_generation(record["generation"]) for record in records],
    )


def _read_generation(record: Any) -> GenerationPlan:
    return GenerationPlan(
        number=record["number"],
        first={int(cells): row for cells, row in record["first"].items()},
        samples={int(cells): count for cells, count in record["samples"].items()},
        refusals=[Refusal(**entry) for entry in record["refusals"]],
        aliases={id: Place(*place) for id, place in record["aliases"].items()},
        retried=[(Place(*was), Place(*now)) for was, now in record["retried"]],
        programs=record["programs"],
        bases={
            density: {int(element): digest for element, digest in digests.items()}
            for density, digests in record["bases"].items()
        },
    )


def read_shard_samples(store: Location, shard: Shard) -> list[PlannedSample]:
    """The samples of one shard, in row order, as they were planned."""
    first, last = shard.first - shard.begin, shard.last - shard.begin
    block = first // TABLE_CHUNK
    if block != (last - 1) // TABLE_CHUNK:
        return read_samples(open_group(store, "r", planned_key(shard.generation, shard.cells)), first, last)
    plan = checksum_object(store, plan_key(shard.generation))
    tables = _read_block(store, shard.generation, shard.cells, block, plan)
    return read_samples(tables, first - block * TABLE_CHUNK, last - block * TABLE_CHUNK)


@lru_cache(maxsize=8)
def _read_block(store: Location, generation: int, cells: int, block: int, plan: str) -> dict[str, Table]:  # noqa: ARG001
    """A chunk of each table of samples, kept: a process computes many shards of it."""
    group = open_group(store, "r", planned_key(generation, cells))
    return read_tables(group, block * TABLE_CHUNK, (block + 1) * TABLE_CHUNK)


def digest_shells(shells: Sequence[Shell]) -> str:
    """Equal for the same shells of an element."""
    digest = hashlib.sha256()
    for shell in shells:
        digest.update(np.array([shell.angular_momentum, shell.cartesian], dtype=np.int64).tobytes())
        digest.update(np.array([shell.exponents, shell.coefficients], dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]


def read_basis(store: Location, density: str) -> Basis:
    """The basis of one density, as `write_plan` stored it."""
    group: Any = open_group(store, "r", f"{BASIS}/{density}")
    elements, degrees, cartesian, offsets, exponents, coefficients = (
        group[name][...]
        for name in ("element", "angular_momentum", "cartesian", "primitive_offset", "exponent", "coefficient")
    )
    shells: dict[int, list[Shell]] = {}
    for k, element in enumerate(elements):
        primitives = slice(offsets[k], offsets[k + 1])
        shell = Shell(int(degrees[k]), exponents[primitives], coefficients[primitives], bool(cartesian[k]))
        shells.setdefault(int(element), []).append(shell)
    return Basis(shells)


def _write_basis(store: Location, density: DensityLayout) -> None:
    group = open_group(store, "a", BASIS).require_group(density.name)
    shells = [(number, shell) for number, of_element in sorted(density.basis.shells.items()) for shell in of_element]
    offsets = np.cumsum([0] + [len(shell.exponents) for _, shell in shells])
    write_table(group, "element", np.array([number for number, _ in shells], dtype=np.int64), ("shell",))
    degrees = np.array([shell.angular_momentum for _, shell in shells], dtype=np.int64)
    write_table(group, "angular_momentum", degrees, ("shell",))
    write_table(group, "cartesian", np.array([shell.cartesian for _, shell in shells], dtype=np.uint8), ("shell",))
    write_table(group, "primitive_offset", offsets.astype(np.int64), ("shell_end",))
    exponents = np.concatenate([[], *(shell.exponents for _, shell in shells)])
    coefficients = np.concatenate([[], *(shell.coefficients for _, shell in shells)])
    write_table(group, "exponent", exponents, ("primitive",), {"units": "bohr-2"})
    write_table(group, "coefficient", coefficients, ("primitive",))


def _make_channels(group: Any, cells: int, plan: Plan) -> None:
    for channel in plan.channels:
        types = [len(channel.types)] if channel.types else []
        dimensions = ("sample", *([f"{channel.name}_type"] if channel.types else []), "x", "y", "z")
        attributes: Attributes = {"units": channel.units, "long_name": channel.long_name}
        attributes["coordinates"] = "id row charge unpaired origin split smiles"
        if channel.types:
            attributes["types"] = list(channel.types)
        shape = (plan.lengths[cells], *types, cells, cells, cells)
        _make_room(group, channel.name, shape, plan.shard_samples, "float32", dimensions, attributes)


def _make_wavefunctions(
    group: Any, cells: int, plan: Plan, planned: Sequence[PlannedSample], density: DensityLayout
) -> None:
    functions = max(density.basis.size(sample.conformer.numbers) for sample in planned)
    shape = (plan.lengths[cells], density.orbitals[cells], functions)
    about: Attributes = {"long_name": f"orbital coefficients of density {density.name}, zero-padded"}
    axes = ("sample", f"orbital_{density.name}", f"function_{density.name}")
    _make_room(group, f"orbitals_{density.name}", shape, plan.shard_samples, "float64", axes, about)
    about = {"long_name": f"occupations of density {density.name}, zero-padded", "units": "electrons"}
    _make_room(group, f"occupations_{density.name}", shape[:2], plan.shard_samples, "float64", axes[:2], about)


def _make_room(
    group: Any,
    name: str,
    shape: tuple[int, ...],
    shard_samples: int,
    dtype: str,
    dimensions: tuple[str, ...],
    attributes: Attributes,
) -> None:
    """Create an array over samples, or let one that exists grow to the shape; no stored object is touched.

    Its other axes grow by whole chunks, so that what lies in a chunk never depends on what comes later.
    """
    if name not in group:
        create_sharded(group, name, shape, shard_samples, dtype, dimensions, attributes)
        return
    array = group[name]
    widths = zip(shape[1:], array.shape[1:], array.chunks[1:], strict=True)
    grown = (max(shape[0], array.shape[0]), *(max(had, math.ceil(n / chunk) * chunk) for n, had, chunk in widths))
    if grown != array.shape:
        array.resize(grown)


def estimate_costs(store: Location, plan: Plan) -> list[float]:
    """A relative cost of every shard, by number: Σ atoms³ of its samples."""
    costs: dict[tuple[int, int], FloatArray] = {}
    for generation in plan.generations:
        for cells in generation.first:
            group: Any = open_group(store, "r", planned_key(generation.number, cells))
            costs[generation.number, cells] = np.diff(group["atom_offset"][...]).astype(np.float64) ** 3
    return [
        float(costs[shard.generation, shard.cells][shard.first - shard.begin : shard.last - shard.begin].sum())
        for shard in plan.shards()
    ]
