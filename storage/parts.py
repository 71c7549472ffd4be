"""Source rows and their conformers, in parts of a fixed number of rows: each part one object, written whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from storage.layout import conformers_key, source_copy_key, source_key
from storage.objects import Json, Location, read_record, write_record
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


@dataclass(frozen=True)
class KnownRow:
    """A row whose conformers exist, because only its labels, id or place in the source are new."""

    store: str  # "" where it is the same store
    part: int
    index: int


@dataclass(frozen=True)
class SourceRow:
    molecule: Molecule
    known: KnownRow | None = None
    content: str = ""  # sha256 of the file of its own that holds its density, where there is one


def write_source_part(store: Location, part: int, rows: Sequence[SourceRow]) -> None:
    """In two copies."""
    records: list[Json] = [
        {**vars(row), "molecule": molecule_record(row.molecule), "known": vars(row.known) if row.known else None}
        for row in rows
    ]
    for key in (source_copy_key(part), source_key(part)):
        write_record(store, key, {"rows": records})


def read_source_part(store: Location, part: int) -> list[SourceRow]:
    records: Any = read_record(store, source_key(part))["rows"]
    return [
        SourceRow(
            _molecule(record["molecule"]), KnownRow(**record["known"]) if record["known"] else None, record["content"]
        )
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


def read_circumstances(store: Location, key: str) -> dict[str, Any]:
    """The block of a part or receipt that says how it came about rather than what it holds."""
    circumstances: Any = read_record(store, key)["circumstances"]
    return dict(circumstances)


def molecule_record(molecule: Molecule) -> dict[str, Any]:
    labels = {name: _without_nan(value) for name, value in molecule.labels.items()}
    return {**vars(molecule), "labels": labels, **_geometry(molecule.numbers, molecule.positions)}


def _molecule(record: dict[str, Any]) -> Molecule:
    return Molecule(**{**record, "numbers": _integers(record["numbers"]), "positions": _floats(record["positions"])})


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
