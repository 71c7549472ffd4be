"""The samples that a training reads, of one or several stores: which they are, and where the box of each lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias, cast

import numpy as np
import pandas as pd

from storage.errors import StoreError
from storage.identity import fingerprint
from storage.objects import Location
from storage.reader import Dataset, open_dataset
from storage.schema import FloatArray, Grid, IntArray

SAME_SPACING = 1e-6  # relative

Recipe: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Catalog:
    """Samples of one split, all with the same cells; store by store, size class by size class. Lengths in bohr."""

    datasets: tuple[Dataset, ...]
    table: pd.DataFrame  # what Dataset.table says of each
    stores: IntArray  # (samples,) place in `datasets`
    shards: IntArray  # (samples,) number of the stored object, counted over all stores and classes
    shapes: IntArray  # (samples, 3) cells of the box; the rest of its array is padding
    origins: FloatArray  # (samples, 3) centre of cell (0, 0, 0)
    first_atoms: IntArray  # (samples,)
    atoms: IntArray  # (samples,) how many
    numbers: IntArray  # (all atoms,)
    positions: FloatArray  # (all atoms, 3)
    spacing: tuple[float, float, float]

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def ids(self) -> list[str]:
        """Two stores may call different samples the same."""
        return [str(id) for id in self.table.index]

    @cached_property
    def cells(self) -> IntArray:
        """The size class of each sample, shape (samples,)."""
        return self.table["cells"].to_numpy(dtype=np.int64)

    @cached_property
    def rows(self) -> IntArray:
        """The row of each sample in the arrays of its class, shape (samples,)."""
        return self.table["sample"].to_numpy(dtype=np.int64)

    @cached_property
    def fingerprints(self) -> list[str]:
        """What the stores hold, as sha256: a training goes on only where they are the same."""
        return [fingerprint(dataset.store) for dataset in self.datasets]

    def positions_of(self, sample: int) -> FloatArray:
        """Shape (atoms, 3)."""
        return self.positions[self.first_atoms[sample] : self.first_atoms[sample] + self.atoms[sample]]

    def numbers_of(self, sample: int) -> IntArray:
        """Shape (atoms,)."""
        return self.numbers[self.first_atoms[sample] : self.first_atoms[sample] + self.atoms[sample]]

    @cached_property
    def elements(self) -> list[int]:
        """Atomic numbers that occur in these samples, ascending."""
        return [int(number) for number in np.unique(np.concatenate([*map(self.numbers_of, range(len(self)))]))]

    @cached_property
    def boxed_atoms(self) -> IntArray:
        """How many atoms of each sample, the first, its box is around: of a complex those of the ligand; (samples,)."""
        ligand = self.table.get("ligand_atoms", pd.Series(0, self.table.index)).to_numpy(dtype=np.int64)
        return np.where(ligand > 0, ligand, self.atoms)

    def grid(self, sample: int) -> Grid:
        nx, ny, nz = self.shapes[sample].tolist()
        x, y, z = self.origins[sample].tolist()
        return Grid((nx, ny, nz), self.spacing, (x, y, z))

    def electrons(self, density: str) -> FloatArray:
        """Analytic integral of a density over the box of each sample, shape (samples,); NaN where none is stored."""
        name = f"{density}_box_electrons"
        stored = self.table[name] if name in self.table else np.full(len(self), np.nan)
        return np.asarray(stored, dtype=np.float64)

    def take(self, samples: IntArray) -> "Catalog":
        """Some of the samples, in that order."""
        names = ("stores", "shards", "shapes", "origins", "first_atoms", "atoms")
        return replace(self, table=self.table.iloc[samples], **{name: getattr(self, name)[samples] for name in names})


def read_catalog(stores: Sequence[Location], split: str, channels: Sequence[str]) -> Catalog:
    """The samples of a split in sealed stores that have these channels.

    Raises StoreError where a store lacks a channel, no store has such samples, or their cells differ.
    """
    datasets = tuple(map(open_dataset, stores))
    for dataset in datasets:
        _check_channels(dataset, channels)
        check_meaning(dataset, str(stores[0]), datasets[0].attributes["recipe"], channels)
    pieces = [
        _read_class(dataset, number, cells, split)
        for number, dataset in enumerate(datasets)
        for cells in dataset.size_classes
    ]
    table = pd.concat([piece.table for piece in pieces]) if pieces else pd.DataFrame()
    if table.empty:
        raise StoreError(
            f'{" + ".join(map(str, stores))} has no samples in split "{split}": '
            f"build a store with more molecules, or with a larger {split} in [splits] of its recipe"
        )
    atoms = np.cumsum([0, *(len(piece.positions) for piece in pieces)])
    shards = np.cumsum([0, *(piece.stored_objects for piece in pieces)])
    return Catalog(
        datasets=datasets,
        table=table,
        stores=np.concatenate([np.full(len(piece.table), piece.store) for piece in pieces]),
        shards=np.concatenate([piece.shards + first for piece, first in zip(pieces, shards[:-1], strict=True)]),
        shapes=np.concatenate([piece.shapes for piece in pieces]),
        origins=np.concatenate([piece.origins for piece in pieces]),
        first_atoms=np.concatenate(
            [piece.first_atoms + first for piece, first in zip(pieces, atoms[:-1], strict=True)]
        ),
        atoms=np.concatenate([piece.atoms for piece in pieces]),
        numbers=np.concatenate([piece.numbers for piece in pieces]),
        positions=np.concatenate([piece.positions for piece in pieces]),
        spacing=_agree_on_spacing(datasets, pieces),
    )


@dataclass(frozen=True)
class _Piece:
    """The samples of one store and size class; atoms and stored objects counted from 0."""

    store: int
    table: pd.DataFrame
    shards: IntArray
    stored_objects: int
    shapes: IntArray
    origins: FloatArray
    spacings: FloatArray
    first_atoms: IntArray
    atoms: IntArray
    numbers: IntArray
    positions: FloatArray


def _read_class(dataset: Dataset, number: int, cells: int, split: str) -> _Piece:
    table = dataset.table
    table = table[(table["split"] == split) & (table["cells"] == cells)]
    rows = table["sample"].to_numpy(dtype=np.int64)
    tables = dataset.read_tables(cells)
    offsets = cast(IntArray, tables["atom_offset"]).astype(np.int64)
    shards = rows // dataset.shard_samples(cells)
    return _Piece(
        store=number,
        table=table,
        shards=shards,
        stored_objects=int(shards.max(initial=-1)) + 1,
        shapes=cast(IntArray, tables["grid_shape"][rows]).astype(np.int64),
        origins=cast(FloatArray, tables["origin"][rows]),
        spacings=cast(FloatArray, tables["spacing"][rows]),
        first_atoms=offsets[:-1][rows],
        atoms=np.diff(offsets)[rows],
        numbers=cast(IntArray, tables["number"]).astype(np.int64),
        positions=cast(FloatArray, tables["position"]),
    )


def _check_channels(dataset: Dataset, channels: Sequence[str]) -> None:
    for name in channels:
        if name not in dataset.channels:
            raise StoreError(
                f"{dataset.store} has no channel {name!r}, only {', '.join(dataset.channels) or 'kept wavefunctions'}: "
                "name one of them in the training config, or build a store that has it"
            )


def check_meaning(dataset: Dataset, name: str, recipe: Recipe, densities: Sequence[str]) -> None:
    """Raises StoreError where densities of a store are not what the recipe of another one, `name`, says of them."""
    here, there = (_describe_densities(one, densities) for one in (dataset.attributes["recipe"], recipe))
    for key, value in here.items():
        if value != there.get(key, value):
            raise StoreError(
                f"{name} has {key} = {there[key]!r}, but {dataset.store} has {value!r}: "
                "bring together stores whose densities mean the same"
            )


def _describe_densities(recipe: Recipe, names: Sequence[str]) -> dict[str, object]:
    """By key; recipes of earlier versions lack some."""
    keys = {"electrons": recipe["electrons"], "sampling": recipe["grid"]["sampling"]}
    known = ((name, recipe["densities"].get(name, {})) for name in names)
    return keys | {f"densities.{name}.{key}": value for name, table in known for key, value in table.items()}


def _agree_on_spacing(datasets: Sequence[Dataset], pieces: Sequence[_Piece]) -> tuple[float, float, float]:
    """The width of every sample's cells. Raises StoreError naming two that differ, or one whose cells are no cubes."""
    spacings = np.concatenate([piece.spacings for piece in pieces])
    names = [f"{datasets[piece.store].store}: {id}" for piece in pieces for id in piece.table.index]
    width = float(spacings[0, 0])
    differs = np.abs(spacings / width - 1).max(axis=1) > SAME_SPACING
    if differs.any():
        other = int(np.argmax(differs))
        cells = (f"{names[k]} has cells of {tuple(spacings[k].round(6).tolist())} bohr" for k in sorted({0, other}))
        raise StoreError(
            f"{', '.join(cells)}, but a model learns one width, the same along each axis: "
            "train on samples that have it, or bring a store to it with `rhoflow voxelize`"
        )
    return width, width, width
