"""Which sample is computed where: every conformer's size class, shard and row, fixed before any density is computed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.errors import StoreError
from storage.header import read_header
from storage.layout import BASIS, PLAN, class_key, create_sharded, decode_text, open_group, write_table, write_text
from storage.objects import Location, has_object, read_record, write_record
from storage.schema import Basis, Conformer, FloatArray, Grid, Shell

Attributes = dict[str, str | list[str]]


@dataclass(frozen=True)
class PlannedSample:
    """A conformer with its place. Positions are those computed and stored: turned, where a rotation says so."""

    conformer: Conformer
    row: int  # of the source
    grid: Grid
    split: str
    rotation: FloatArray  # (3, 3); stored position = rotation @ source position


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


@dataclass(frozen=True)
class Plan:
    """What is to be computed. `samples` counts those of each size class, ascending."""

    rows: int  # of the source
    parts: int
    shard_samples: int
    samples: Mapping[int, int]
    channels: Sequence[ChannelLayout]
    densities: Sequence[str]
    keeps_wavefunctions: bool
    refusals: Sequence[Refusal]
    duplicates: Mapping[str, str]  # sample id → id of the sample with the same molecule and geometry

    def shards(self) -> list[Shard]:
        """Every shard, numbered over all classes."""
        places = [
            (cells, index, first, min(first + self.shard_samples, count))
            for cells, count in sorted(self.samples.items())
            for index, first in enumerate(range(0, count, self.shard_samples))
        ]
        return [Shard(number, *place) for number, place in enumerate(places)]


def write_plan(
    store: Location, plan: Plan, samples: Mapping[int, Sequence[PlannedSample]], densities: Sequence[DensityLayout]
) -> None:
    """Create every array at its full size, fill in what is known of each sample, then put the plan itself, last."""
    root = open_group(store, "a")
    for density in densities:
        _write_basis(store, density)
    for cells, planned in samples.items():
        group = root.require_group(class_key(cells))
        _write_sample_table(store, cells, planned)
        _create_channels(store, cells, plan)
        for density in densities if plan.keeps_wavefunctions else ():
            _create_wavefunctions(store, cells, plan.shard_samples, planned, density)
        group.attrs["cells"] = cells
    os.sync()  # the plan vouches for them
    write_record(
        store,
        PLAN,
        {
            **vars(plan),
            "samples": {str(cells): count for cells, count in plan.samples.items()},
            "channels": [vars(channel) for channel in plan.channels],
            "refusals": [vars(refusal) for refusal in plan.refusals],
        },
    )


def is_planned(store: Location) -> bool:
    return has_object(store, PLAN)


def read_plan(store: Location) -> Plan:
    """Raises RequestError where there is no store, StoreError where planning has not finished."""
    read_header(store)
    if not is_planned(store):
        raise StoreError(f"{store} has no plan yet: run `rhoflow plan RECIPE {store}` (or `rhoflow build`)")
    record: Any = read_record(store, PLAN)
    return Plan(
        **{
            **record,
            "samples": {int(cells): count for cells, count in record["samples"].items()},
            "channels": [ChannelLayout(**{**entry, "types": tuple(entry["types"])}) for entry in record["channels"]],
            "refusals": [Refusal(**entry) for entry in record["refusals"]],
        }
    )


def read_shard_samples(store: Location, shard: Shard) -> list[PlannedSample]:
    """The samples of one shard, in row order."""
    return read_planned_samples(store, shard.cells, shard.first, shard.last)


def read_planned_samples(store: Location, cells: int, first: int, last: int) -> list[PlannedSample]:
    """Rows `first` to `last` (exclusive) of one size class."""
    group: Any = open_group(store, "r", class_key(cells))
    offsets = group["atom_offset"][first : last + 1]
    numbers = group["number"][offsets[0] : offsets[-1]]
    positions = group["position"][offsets[0] : offsets[-1]]
    texts = {name: decode_text(group[name][first:last]) for name in ("id", "smiles", "group", "split")}
    rows, charges, unpaired = (group[name][first:last] for name in ("row", "charge", "unpaired"))
    origins, spacings, rotations = (group[name][first:last] for name in ("origin", "spacing", "rotation"))
    shapes = group["grid_shape"][first:last].tolist()
    planned = []
    for k in range(last - first):
        atoms = slice(offsets[k] - offsets[0], offsets[k + 1] - offsets[0])
        conformer = Conformer(
            id=texts["id"][k],
            numbers=numbers[atoms],
            positions=positions[atoms],
            charge=int(charges[k]),
            unpaired=int(unpaired[k]),
            smiles=texts["smiles"][k],
            group=texts["group"][k],
        )
        nx, ny, nz = shapes[k]
        grid = Grid((nx, ny, nz), _triple(spacings[k]), _triple(origins[k]))
        planned.append(PlannedSample(conformer, int(rows[k]), grid, texts["split"][k], rotations[k]))
    return planned


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


def _triple(values: FloatArray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


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


def _write_sample_table(store: Location, cells: int, planned: Sequence[PlannedSample]) -> None:
    group = open_group(store, "a", class_key(cells))
    conformers = [sample.conformer for sample in planned]
    write_text(group, "id", [conformer.id for conformer in conformers], "sample")
    write_text(group, "smiles", [conformer.smiles for conformer in conformers], "sample")
    write_text(group, "group", [conformer.group for conformer in conformers], "sample")
    write_text(group, "split", [sample.split for sample in planned], "sample")
    write_table(group, "row", np.array([sample.row for sample in planned], dtype=np.int64), ("sample",))
    charges = np.array([conformer.charge for conformer in conformers], dtype=np.int64)
    write_table(group, "charge", charges, ("sample",), {"units": "e"})
    unpaired = np.array([conformer.unpaired for conformer in conformers], dtype=np.int64)
    write_table(group, "unpaired", unpaired, ("sample",), {"long_name": "unpaired electrons"})
    offsets = np.cumsum([0] + [len(conformer.numbers) for conformer in conformers]).astype(np.int64)
    write_table(
        group, "atom_offset", offsets, ("sample_end",), {"long_name": "first atom of each sample, then the end"}
    )
    numbers = np.concatenate([conformer.numbers for conformer in conformers]).astype(np.int64)
    write_table(group, "number", numbers, ("atom",), {"long_name": "atomic number"})
    positions = np.concatenate([conformer.positions for conformer in conformers])
    write_table(group, "position", positions, ("atom", "axis"), {"units": "bohr"})
    centre = {"units": "bohr", "long_name": "centre of cell (0, 0, 0)"}
    write_table(group, "origin", np.array([sample.grid.origin for sample in planned]), ("sample", "axis"), {**centre})
    write_table(
        group, "spacing", np.array([sample.grid.spacing for sample in planned]), ("sample", "axis"), {"units": "bohr"}
    )
    shapes = np.array([sample.grid.shape for sample in planned], dtype=np.int64)
    held = {"long_name": "cells of the sample along each axis; the rest of its array is padding"}
    write_table(group, "grid_shape", shapes, ("sample", "axis"), {**held})
    turned = {"long_name": "stored position = rotation @ source position"}
    rotations = np.array([sample.rotation for sample in planned], dtype=np.float64)
    write_table(group, "rotation", rotations, ("sample", "axis", "source_axis"), {**turned})
    for axis, name in enumerate("xyz"):
        _write_coordinate(group, name, cells, {sample.grid.spacing[axis] for sample in planned})


def _write_coordinate(group: Any, name: str, cells: int, spacings: set[float]) -> None:
    """Offsets along one axis, the same for every sample; where their spacings differ, the number of the cell."""
    if len(spacings) == 1:
        along = {"units": "bohr", "long_name": f"{name} of the cell centre from the sample's origin"}
        write_table(group, name, spacings.pop() * np.arange(cells), (name,), {**along})
    else:
        numbered = {
            "units": "1",
            "long_name": f"number of the cell along {name}; spacings differ from sample to sample",
        }
        write_table(group, name, np.arange(cells, dtype=np.float64), (name,), {**numbered})


def _create_channels(store: Location, cells: int, plan: Plan) -> None:
    group = open_group(store, "a", class_key(cells))
    for channel in plan.channels:
        leading = (plan.samples[cells], *([len(channel.types)] if channel.types else []))
        dimensions = ("sample", *([f"{channel.name}_type"] if channel.types else []), "x", "y", "z")
        attributes: Attributes = {"units": channel.units, "long_name": channel.long_name}
        attributes["coordinates"] = "id row charge unpaired origin split smiles"
        if channel.types:
            attributes["types"] = list(channel.types)
        if channel.name not in group:
            shape = (*leading, cells, cells, cells)
            create_sharded(group, channel.name, shape, plan.shard_samples, "float32", dimensions, attributes)


def _create_wavefunctions(
    store: Location, cells: int, shard_samples: int, planned: Sequence[PlannedSample], density: DensityLayout
) -> None:
    group = open_group(store, "a", class_key(cells))
    functions = max(density.basis.size(sample.conformer.numbers) for sample in planned)
    shape = (len(planned), density.orbitals[cells], functions)
    about: Attributes = {"long_name": f"orbital coefficients of density {density.name}, zero-padded"}
    axes = (f"orbital_{density.name}", f"function_{density.name}")
    if f"orbitals_{density.name}" not in group:
        create_sharded(group, f"orbitals_{density.name}", shape, shard_samples, "float64", ("sample", *axes), about)
    if f"occupations_{density.name}" not in group:
        about = {"long_name": f"occupations of density {density.name}, zero-padded", "units": "electrons"}
        create_sharded(
            group, f"occupations_{density.name}", shape[:2], shard_samples, "float64", ("sample", axes[0]), about
        )


def estimate_costs(store: Location, plan: Plan) -> list[float]:
    """A relative cost of every shard, by number: Σ atoms³ of its samples."""
    costs: dict[int, FloatArray] = {}
    for cells in plan.samples:
        group: Any = open_group(store, "r", class_key(cells))
        costs[cells] = np.diff(group["atom_offset"][...]).astype(np.float64) ** 3
    return [float(costs[shard.cells][shard.first : shard.last].sum()) for shard in plan.shards()]
