"""Source rows and their conformers, in parts of a fixed number of rows: each part one object, written whole."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from storage.layout import SOURCE_END, conformers_key, source_key
from storage.objects import Json, Location, copy_object, read_record, write_record
from storage.schema import Conformer, FloatArray, IntArray, Label, Molecule

ROWS_PER_PART = 64


@dataclass(frozen=True)
class ConformedRow:
    """What became of one source row before any electronic structure."""

    row: int
    id: str
    outcome: str  # "ok", or the reason it has no conformers
    message: str = ""
    labels: Mapping[str, Label] = field(default_factory=dict)
    conformers: Sequence[Conformer] = ()


def write_source_part(store: Location, part: int, molecules: Sequence[Molecule]) -> None:
    records: list[Json] = [_molecule_record(molecule) for molecule in molecules]
    write_record(store, source_key(part), {"molecules": records})


def read_source_part(store: Location, part: int) -> list[Molecule]:
    records: Any = read_record(store, source_key(part))["molecules"]
    return [
        Molecule(**{**record, "numbers": _integers(record["numbers"]), "positions": _floats(record["positions"])})
        for record in records
    ]


def write_conformer_part(
    store: Location, part: int, rows: Sequence[ConformedRow], circumstances: Mapping[str, float | str]
) -> None:
    """The part is its own receipt. `circumstances` (seconds, host) are no part of a store's identity."""
    records: list[Json] = [_row_record(row) for row in rows]
    write_record(store, conformers_key(part), {"rows": records, "circumstances": circumstances})


def read_conformer_part(store: Location, part: int) -> list[ConformedRow]:
    records: Any = read_record(store, conformers_key(part))["rows"]
    return [
        ConformedRow(**{**record, "conformers": tuple(_conformer(entry) for entry in record["conformers"])})
        for record in records
    ]


def copy_parts(store: Location, new: Location, parts: int) -> None:
    """The source rows and conformers of one store become those of another, at no computing time; their end, last."""
    for part in range(parts):
        copy_object(store, new, source_key(part))
        conformed = read_conformer_part(store, part)
        write_conformer_part(new, part, conformed, {"computing_seconds": 0.0, "host": platform.node()})
    copy_object(store, new, SOURCE_END)


def read_circumstances(store: Location, key: str) -> dict[str, Any]:
    """The block of a part or receipt that says how it came about rather than what it holds."""
    circumstances: Any = read_record(store, key)["circumstances"]
    return dict(circumstances)


def _molecule_record(molecule: Molecule) -> dict[str, Any]:
    labels = {name: _without_nan(value) for name, value in molecule.labels.items()}
    return {**vars(molecule), "labels": labels, **_geometry(molecule.numbers, molecule.positions)}


def _row_record(row: ConformedRow) -> dict[str, Any]:
    conformers = [
        {**vars(conformer), **_geometry(conformer.numbers, conformer.positions)} for conformer in row.conformers
    ]
    labels = {name: _without_nan(value) for name, value in row.labels.items()}
    return {**vars(row), "labels": labels, "conformers": conformers}


def _conformer(record: dict[str, Any]) -> Conformer:
    numbers = np.array(record["numbers"], dtype=np.int64)
    positions = np.array(record["positions"], dtype=np.float64).reshape(-1, 3)
    return Conformer(**{**record, "numbers": numbers, "positions": positions})


def _geometry(numbers: IntArray | None, positions: FloatArray | None) -> dict[str, Any]:
    return {
        "numbers": None if numbers is None else numbers.tolist(),
        "positions": None if positions is None else positions.tolist(),
    }


def _without_nan(label: Label | None) -> Label | None:
    return None if label != label else label  # NaN is no JSON


def _integers(values: list[int] | None) -> IntArray | None:
    return None if values is None else np.array(values, dtype=np.int64)


def _floats(values: list[list[float]] | None) -> FloatArray | None:
    return None if values is None else np.array(values, dtype=np.float64).reshape(-1, 3)
