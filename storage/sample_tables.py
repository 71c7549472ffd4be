"""The tables of samples: what each is and where its box lies, one row per sample, atoms after one another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.layout import decode_text, encode_text, write_table
from storage.schema import Conformer, FloatArray, Grid

Table = NDArray[np.generic]
TEXTS = ("id", "smiles", "group", "split")
OF_ATOMS = ("number", "position")
KEYS = ("key", "state_keys")  # for planning: of no use to readers
ATTRIBUTES = {
    "charge": {"units": "e"},
    "unpaired": {"long_name": "unpaired electrons"},
    "ligand_atoms": {"long_name": "of a complex: how many of the atoms, the first, are the ligand's; 0: no complex"},
    "atom_offset": {"long_name": "first atom of each sample, then the end"},
    "number": {"long_name": "atomic number"},
    "position": {"units": "bohr"},
    "origin": {"units": "bohr", "long_name": "centre of cell (0, 0, 0)"},
    "spacing": {"units": "bohr"},
    "grid_shape": {"long_name": "cells of the sample along each axis; the rest of its array is padding"},
    "rotation": {"long_name": "stored position = rotation @ source position"},
    "key": {"long_name": "hash of everything that the sample's bytes depend on"},
    "state_keys": {"long_name": "the same of each density's wavefunction"},
}
DIMENSIONS = {
    "charge": ("sample",),
    "unpaired": ("sample",),
    "ligand_atoms": ("sample",),
    "atom_offset": ("sample_end",),
    "number": ("atom",),
    "position": ("atom", "axis"),
    "origin": ("sample", "axis"),
    "spacing": ("sample", "axis"),
    "grid_shape": ("sample", "axis"),
    "rotation": ("sample", "axis", "source_axis"),
    "key": ("sample", "key_byte"),
    "state_keys": ("sample", "density", "key_byte"),
    **{name: ("sample", f"{name}_bytes") for name in TEXTS},
}


@dataclass(frozen=True)
class PlannedSample:
    """A conformer with its box. Positions are those computed and stored: turned, where a rotation says so."""

    conformer: Conformer
    grid: Grid
    split: str
    rotation: FloatArray  # (3, 3); stored position = rotation @ source position
    key: bytes = bytes(16)  # equal for samples of the same bytes
    state_keys: tuple[bytes, ...] = ()  # by density in the plan's order: equal for the same wavefunction


def tabulate(planned: Sequence[PlannedSample]) -> dict[str, Table]:
    """By name."""
    conformers = [sample.conformer for sample in planned]
    offsets = np.cumsum([0] + [len(conformer.numbers) for conformer in conformers])
    return {
        "id": encode_text([conformer.id for conformer in conformers]),
        "smiles": encode_text([conformer.smiles for conformer in conformers]),
        "group": encode_text([conformer.group for conformer in conformers]),
        "split": encode_text([sample.split for sample in planned]),
        "charge": np.array([conformer.charge for conformer in conformers], dtype=np.int64),
        "unpaired": np.array([conformer.unpaired for conformer in conformers], dtype=np.int64),
        "ligand_atoms": np.array([conformer.ligand_atoms for conformer in conformers], dtype=np.int64),
        "atom_offset": offsets.astype(np.int64),
        "number": np.concatenate([conformer.numbers for conformer in conformers]).astype(np.int64),
        "position": np.concatenate([conformer.positions for conformer in conformers]),
        "origin": np.array([sample.grid.origin for sample in planned], dtype=np.float64),
        "spacing": np.array([sample.grid.spacing for sample in planned], dtype=np.float64),
        "grid_shape": np.array([sample.grid.shape for sample in planned], dtype=np.int64),
        "rotation": np.array([sample.rotation for sample in planned], dtype=np.float64),
        "key": np.array([list(sample.key) for sample in planned], dtype=np.uint8),
        "state_keys": np.array(
            [[list(key) for key in sample.state_keys] for sample in planned], dtype=np.uint8
        ).reshape(len(planned), -1, 16),
    }


def write_tables(group: Any, tables: dict[str, Table]) -> None:
    for name, values in tables.items():
        attributes = {"encoding": "utf-8", "padding": "NUL"} if name in TEXTS else ATTRIBUTES[name]
        write_table(group, name, values, DIMENSIONS[name], {**attributes})


def read_tables(group: Any, first: int = 0, last: int | None = None) -> dict[str, Table]:
    """A group's tables, whole or of the rows from `first` to `last` (exclusive), if there are so many."""
    offsets = group["atom_offset"][first : None if last is None else last + 1]
    atoms = slice(offsets[0], offsets[-1])
    tables = {
        name: group[name][atoms] if name in OF_ATOMS else group[name][first:last]
        for name in DIMENSIONS
        if name in group
    }
    return {**tables, "atom_offset": offsets - offsets[0]}


def join_tables(pieces: Sequence[tuple[int, dict[str, Table]]], rows: int) -> dict[str, Table]:
    """The tables of several generations as one of so many rows, each piece from its first row on.

    Rows between the pieces, left free so that stored objects have one writer, hold no atoms, no text and NaN.
    """
    joined: dict[str, Table] = {}
    for name in pieces[0][1]:
        values = [piece[name] for _, piece in pieces]
        if name in OF_ATOMS:
            joined[name] = np.concatenate(values)
        elif name != "atom_offset":
            inner = tuple(np.max([value.shape[1:] for value in values], axis=0)) if values[0].ndim > 1 else ()
            whole = np.full((rows, *inner), np.nan if values[0].dtype.kind == "f" else 0, dtype=values[0].dtype)
            for (first, _), value in zip(pieces, values, strict=True):
                whole[(slice(first, first + len(value)), *map(slice, value.shape[1:]))] = value
            joined[name] = whole
    atoms = np.zeros(rows, dtype=np.int64)
    for first, piece in pieces:
        counts = np.diff(piece["atom_offset"].astype(np.int64))
        atoms[first : first + len(counts)] = counts
    joined["atom_offset"] = np.concatenate([[0], np.cumsum(atoms)])
    return joined


def read_samples(group: Any, first: int, last: int) -> list[PlannedSample]:
    """Rows `first` to `last` (exclusive) of a group's tables."""
    offsets = group["atom_offset"][first : last + 1]
    numbers = group["number"][offsets[0] : offsets[-1]]
    positions = group["position"][offsets[0] : offsets[-1]]
    texts = {name: decode_text(group[name][first:last]) for name in TEXTS}
    charges, unpaired = (group[name][first:last] for name in ("charge", "unpaired"))
    ligands = group["ligand_atoms"][first:last] if "ligand_atoms" in group else np.zeros(last - first, dtype=np.int64)
    origins, spacings, rotations = (group[name][first:last] for name in ("origin", "spacing", "rotation"))
    shapes = group["grid_shape"][first:last].tolist()
    keys = [group[name][first:last] for name in KEYS if name in group]
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
            ligand_atoms=int(ligands[k]),
        )
        nx, ny, nz = shapes[k]
        grid = Grid((nx, ny, nz), _triple(spacings[k]), _triple(origins[k]))
        sample = PlannedSample(conformer, grid, texts["split"][k], rotations[k])
        if keys:
            sample = replace(sample, key=bytes(keys[0][k]), state_keys=tuple(map(bytes, keys[1][k])))
        planned.append(sample)
    return planned


def write_coordinates(group: Any, cells: int, spacing: Table) -> None:
    """Offsets along x, y, z, the same for every sample; where their spacings differ, the number of the cell."""
    for axis, name in enumerate("xyz"):
        widths = np.unique(spacing[:, axis][~np.isnan(spacing[:, axis].astype(np.float64))])
        if len(widths) == 1:
            along = {"units": "bohr", "long_name": f"{name} of the cell centre from the sample's origin"}
            write_table(group, name, float(widths[0]) * np.arange(cells), (name,), {**along})
        else:
            about = f"number of the cell along {name}; spacings differ from sample to sample"
            write_table(group, name, np.arange(cells, dtype=np.float64), (name,), {"units": "1", "long_name": about})


def _triple(values: FloatArray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
