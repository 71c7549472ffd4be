"""Opens a sealed dataset: samples as NumPy arrays, tables as pandas, everything as xarray."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from numpy.typing import NDArray

from storage.errors import RequestError, StoreError
from storage.layout import ROWS, SCHEMA_VERSION, SEAL, class_key, decode_text, give_to_zarr, version_key
from storage.levels import coarsen
from storage.objects import Location, has_object, locate, read_record
from storage.outcomes import Version, read_version
from storage.plan import read_basis, read_plan
from storage.sample_tables import PlannedSample, Table, read_samples, read_tables
from storage.schema import Basis, Conformer, ElectronicState, FloatArray, Grid, IntArray, Sampling

EMPTY_TABLE = ["row", "conformer", "cells", "sample", "split"]  # of a dataset in which nothing was planned
NOT_TABLES = ("number", "position", "atom_offset", "x", "y", "z", "rotation", "origin", "spacing", "grid_shape")


def open_dataset(path: str | Location, version: int | None = None) -> "Dataset":
    """The sealed dataset at `path`, which may be a URL: s3://bucket/name.zarr.

    As it is, or as its numbered `version` was.

    Raises RequestError where there is none, StoreError where it is not sealed, or of another schema.
    """
    store = locate(path)
    if not has_object(store, "zarr.json"):
        raise RequestError(
            f"{store} is no rhoflow dataset: check the path, or make it with `rhoflow build RECIPE {store}`"
        )
    root = zarr.open_group(give_to_zarr(store, read_only=True), mode="r", zarr_format=3)
    if not has_object(store, SEAL):
        raise StoreError(f"{store} is not sealed yet: run the same `rhoflow build` again, or `rhoflow seal {store}`")
    if root.attrs["schema_version"] != SCHEMA_VERSION:
        raise StoreError(
            f"{store} has schema version {root.attrs['schema_version']}, this rhoflow reads {SCHEMA_VERSION}: "
            "read it with the rhoflow that made it, or build it again"
        )
    latest = root.attrs["version"]
    if version is None or version == latest:
        return Dataset(store, root)
    if not has_object(store, version_key(version)):
        raise RequestError(f"{store} has no sealed version {version}: the last is {latest}")
    return Dataset(store, root, read_version(store, read_plan(store).until(version)))


@dataclass(frozen=True)
class StoredSample:
    """One sample; arrays are read when asked for. Lengths in bohr."""

    planned: PlannedSample
    channels: Mapping[str, NDArray[np.float32]]  # (nx, ny, nz), or (types, nx, ny, nz)
    states: Mapping[str, ElectronicState]  # by density, where the store keeps wavefunctions
    sampling: Sampling
    lengths: Sequence[str]  # channels that hold lengths of vectors

    @property
    def id(self) -> str:
        return self.planned.conformer.id

    @property
    def conformer(self) -> Conformer:
        return self.planned.conformer

    @property
    def grid(self) -> Grid:
        return self.planned.grid

    @property
    def numbers(self) -> IntArray:
        """Atomic numbers, shape (atoms,)."""
        return self.planned.conformer.numbers

    @property
    def positions(self) -> FloatArray:
        """Shape (atoms, 3), bohr."""
        return self.planned.conformer.positions

    @property
    def charge(self) -> int:
        return self.planned.conformer.charge

    def coarsen(self, channel: str, factor: int) -> tuple[NDArray[np.float32], Grid]:
        """A channel on cells `factor` times as wide (or every factor-th point), and the grid they make.

        Raises RequestError where the cells do not divide, and for lengths of gradients, which have no mean of meaning.
        """
        if channel in self.lengths and self.sampling == "cell":
            raise RequestError(
                f"channel {channel!r} holds lengths of vectors, whose mean is not the length on coarser cells: "
                "make them from the wavefunctions with `rhoflow voxelize --spacing-angstrom`"
            )
        return coarsen(self.channels[channel], self.grid, factor, self.sampling)


class Dataset:
    """A sealed store. Not safe to use while another process builds into it."""

    def __init__(self, store: Location, root: zarr.Group, version: Version | None = None) -> None:
        """`version`: an earlier one than the tables in the store describe."""
        self.store = store
        self._root: Any = root
        self._version = version
        self._bases: dict[str, Basis] = {}

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Recipe, channels, statistics of the training split, programs, counts."""
        return read_record(self.store, version_key(self._version.number)) if self._version else dict(self._root.attrs)

    @property
    def size_classes(self) -> list[int]:
        """Cells along an edge of each class that holds samples, ascending."""
        return sorted(int(name.removeprefix("cells_")) for name in self._root if name.startswith("cells_"))

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per ok sample, in row order, indexed by id: where it lies, what was measured, its labels."""
        frames = [self._class_frame(cells) for cells in self.size_classes]
        table = pd.concat(frames) if frames else pd.DataFrame(columns=EMPTY_TABLE)
        return table.sort_values(["row", "conformer"], kind="stable")

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row per source row, indexed by id: outcome, message, samples, duplicate_of, labels."""
        return pd.DataFrame(self._row_columns()).set_index("id")

    @cached_property
    def ids(self) -> list[str]:
        return list(self.table.index)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __getitem__(self, id: str) -> StoredSample:
        if id not in self.table.index:
            raise KeyError(
                f"{self.store} has no ok sample {id!r}: see .ids, and .rows for what became of each source row"
            )
        place: Any = self.table.loc[id]
        cells, index = int(place["cells"]), int(place["sample"])
        group = self._root[class_key(cells)]
        stored = read_samples(group, index, index + 1)[0]
        planned = replace(stored, conformer=replace(stored.conformer, id=id))  # as this version calls it
        channels = _Channels(group, index, self.channels, planned.grid)
        recipe = self.attributes["recipe"]
        lengths = [f"{density}_gradient" for density in recipe["channels"]["gradient_magnitude"]]
        states = _States(self, group, index, planned)
        return StoredSample(planned, channels, states, recipe["grid"]["sampling"], lengths)

    @property
    def channels(self) -> list[str]:
        return list(self.attributes["channels"])

    @property
    def densities(self) -> list[str]:
        return list(self.attributes["densities"])

    def read_tables(self, cells: int) -> dict[str, Table]:
        """The tables of all samples planned in a size class, the failed ones too; rows as the table's `sample`."""
        return read_tables(self._root[class_key(cells)])

    def field_types(self, channel: str) -> tuple[str, ...]:
        """The atom type that each field of a channel is of; () where it is one field of no type."""
        types: Any = self._root[class_key(self.size_classes[0])][channel].attrs.get("types")
        return tuple(types or ())

    def shard_samples(self, cells: int) -> int:
        """How many samples of a size class lie in one stored object."""
        if not self.channels:
            return int(self.attributes["recipe"]["store"]["shard_samples"])
        array = self._root[class_key(cells)][self.channels[0]]
        return int((array.shards or array.chunks)[0])

    def to_xarray(self) -> xr.DataTree:
        """One node per size class, ok samples only: every channel with coordinates, ids and units; lazy."""
        nodes: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs=self.attributes)}
        for cells in self.size_classes:
            key = class_key(cells)
            stored = xr.open_zarr(
                give_to_zarr(self.store, read_only=True), group=key, chunks=None, consolidated=True, zarr_format=3
            )
            texts = [name for name in stored.variables if stored[name].attrs.get("encoding") == "utf-8"]
            decoded: dict[str, Any] = {name: ("sample", decode_text(stored[name].values)) for name in texts}
            if self._version:
                named = self._version.name_places(cells, stored.sizes["sample"])
                decoded.update({f"label_{name}": ("sample", values) for name, values in named.labels.items()})
                decoded.update(id=("sample", named.ids), row=("sample", named.rows), outcome=("sample", named.outcomes))
            channels = [name for name in stored if name in self.channels]
            offsets = stored["atom_offset"].values  # of every sample: meaningless once failed ones are left out
            atoms = {"first_atom": ("sample", offsets[:-1]), "atoms": ("sample", np.diff(offsets))}
            whole = stored.drop_vars([*texts, "atom_offset"]).assign(decoded).assign(atoms)
            whole = whole.set_coords([name for name in whole.data_vars if name not in channels])
            for name in channels:
                if "types" in stored[name].attrs:
                    whole = whole.assign_coords({f"{name}_type": stored[name].attrs["types"]})
            nodes[key] = whole.isel(sample=np.flatnonzero(whole["outcome"].values == "ok"))
        return xr.DataTree.from_dict(nodes)

    def basis(self, density: str) -> Basis:
        if density not in self._bases:
            self._bases[density] = read_basis(self.store, density)
        return self._bases[density]

    def _row_columns(self) -> dict[str, Any]:
        if self._version is None:
            return self._columns(self._root[ROWS])
        rows = self._version.rows
        said = {
            "id": [row.id for row in rows],
            "outcome": [row.outcome for row in rows],
            "message": [row.message for row in rows],
            "duplicate_of": [row.duplicate_of for row in rows],
            "samples": [" ".join(row.samples) for row in rows],
        }
        return {**said, **self._version.label_columns()}

    def _class_frame(self, cells: int) -> pd.DataFrame:
        group: Any = self._root[class_key(cells)]
        columns = self._columns(group)
        if self._version:
            named = self._version.name_places(cells, len(columns["id"]))
            columns.update({"id": named.ids, "row": named.rows, "outcome": named.outcomes, **named.labels})
        frame = pd.DataFrame(columns)
        frame.insert(1, "cells", cells)
        frame.insert(2, "sample", np.arange(len(frame)))
        for axis, widths in zip("xyz", group["spacing"][...].T, strict=True):
            frame[f"spacing_{axis}_bohr"] = widths
        frame = frame[frame["outcome"] == "ok"].drop(columns="outcome")
        frame.insert(3, "conformer", [int(id.rsplit("#", 1)[1]) for id in frame["id"]])
        return frame.set_index("id")

    def _columns(self, group: Any) -> dict[str, Any]:
        """The one-dimensional arrays of a group, text decoded, as columns."""
        columns: dict[str, Any] = {"id": decode_text(group["id"][...])}
        for name, array in sorted(group.arrays()):
            if name in NOT_TABLES or name == "id":
                continue
            if array.attrs.get("encoding") == "utf-8":
                columns[name.removeprefix("label_")] = decode_text(array[...])
            elif array.ndim == 1:
                columns[name.removeprefix("label_")] = array[...]
        return columns


class _Channels(Mapping[str, NDArray[np.float32]]):
    """A sample's channels, each read when it is asked for."""

    def __init__(self, group: Any, index: int, names: list[str], grid: Grid) -> None:
        self._group, self._index, self._names, self._shape = group, index, names, grid.shape

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        if name not in self._names:
            raise KeyError(f"no channel {name!r}: there are {', '.join(self._names) or 'none'}")
        box = tuple(slice(cells) for cells in self._shape)
        values: NDArray[np.float32] = self._group[name][(self._index, ..., *box)]
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _States(Mapping[str, ElectronicState]):
    """A sample's kept wavefunctions, each read when it is asked for."""

    def __init__(self, dataset: Dataset, group: Any, index: int, planned: PlannedSample) -> None:
        self._dataset, self._group, self._index, self._planned = dataset, group, index, planned

    def __getitem__(self, density: str) -> ElectronicState:
        if density not in list(self):
            raise KeyError(f"no kept wavefunctions of density {density!r}: there are {', '.join(self) or 'none'}")
        conformer, basis = self._planned.conformer, self._dataset.basis(density)
        facts: Any = self._dataset.table.loc[conformer.id]
        return restore_state(self._group, self._index, conformer, basis, density, facts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._dataset.densities if self._dataset.attributes["wavefunctions"] else [])

    def __len__(self) -> int:
        return len(list(iter(self)))


def restore_state(
    group: Any, index: int, conformer: Conformer, basis: Basis, density: str, facts: Mapping[str, float]
) -> ElectronicState:
    """A kept wavefunction, from its row of the size class's group and what its receipt says of it."""
    orbitals, functions = int(facts[f"{density}_orbitals"]), basis.size(conformer.numbers)
    x, y, z = (float(facts[f"{density}_dipole_{axis}_ebohr"]) for axis in "xyz")
    edges = [float(facts[f"{density}_cell_{axis}_bohr"]) for axis in "xyz" if f"{density}_cell_{axis}_bohr" in facts]
    return ElectronicState(
        numbers=conformer.numbers,
        positions=conformer.positions,
        basis=basis,
        orbitals=group[f"orbitals_{density}"][index, :orbitals, :functions],
        occupations=group[f"occupations_{density}"][index, :orbitals],
        alpha_orbitals=int(facts[f"{density}_alpha_orbitals"]),
        energy=float(facts[f"{density}_energy_hartree"]),
        dipole=(x, y, z),
        cell=(edges[0], edges[1], edges[2]) if edges else None,
        homo=float(facts[f"{density}_homo_hartree"]),
        lumo=float(facts[f"{density}_lumo_hartree"]),
        spin_square=float(facts[f"{density}_spin_square"]),
        rung=int(facts[f"{density}_rung"]),
    )
