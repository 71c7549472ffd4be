"""Reads molecules from files, one after another."""

import csv
import functools
import glob
import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import numpy as np

from pipeline.complexes import Parts, build_complex, list_complexes, list_indices, list_proteins, list_structures
from pipeline.formats import VOLUME_ENDINGS, FormatError, is_volume_file, list_volume_files, name_volume, read_scene
from pipeline.maps import is_map_file
from pipeline.molecule import UNREADABLE
from pipeline.records import read_comment, read_electrons, read_frame, read_mol_block, read_whole, split_sdf_record
from pipeline.residues import DEFAULT_RULES, Rules
from pipeline.structures import is_structure_file
from storage.errors import RequestError
from storage.schema import FloatArray, IntArray, Label, Molecule

Field = str | float | int | bool | None

FORMATS = (".csv", ".tsv", ".smi", ".sdf", ".xyz", ".extxyz", ".parquet")  # all but the last also with .gz

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LONGEST_CELL = 2**24  # characters; a quote left open swallows the rest of a file
_PARQUET_ROWS = 4096
_IDS_BETWEEN_SORTS = 2**14


class SourceError(RequestError):
    """The file cannot be read as asked: says which file, where, and what to do."""


@dataclass(frozen=True)
class _Columns:
    """What the recipe asks of a row, by the names the file uses."""

    smiles: str
    id: str | None
    labels: tuple[str, ...]
    charge: str | None
    unpaired: str | None

    @property
    def asked(self) -> list[str]:
        return [name for name in (self.id, self.charge, self.unpaired, *self.labels) if name is not None]


@dataclass(frozen=True)
class _Record:
    """One row as its file has it."""

    place: str  # "line 17"
    fields: Mapping[str, Field]
    text: str = ""  # of a mol block, or of the atoms of a frame: read only when its turn comes
    smiles: str | None = None
    numbers: IntArray | None = None
    positions: FloatArray | None = None  # (atoms, 3), bohr
    charge: int | None = None
    unpaired: int | None = None
    group: str = ""
    ligand_atoms: int = 0
    drawn_charge: int | None = None  # by which hydrogens were added to its geometry, if any were
    parts: Parts | None = None  # the files of a complex or a structure, read only when its turn comes


@dataclass(frozen=True)
class Files:
    """Columns of a table that name files, relative to it, and what is taken of a structure."""

    protein: str | None = None
    ligand: str | None = None
    record: str | None = None
    rules: Rules = DEFAULT_RULES
    map: str | None = None

    @property
    def asked(self) -> list[str]:
        return [name for name in (self.protein, self.ligand, self.record, self.map) if name is not None]


NO_FILES = Files()


def read_molecules(
    path: str | Path,
    *,
    smiles: str = "smiles",
    id: str | None = None,
    labels: Sequence[str] = (),
    charge: str | None = None,
    unpaired: str | None = None,
    files: Files = NO_FILES,
) -> Iterator[Molecule]:
    """The molecules of a file, one for every row, record or frame, read as they are asked for.

    * csv, tsv, parquet: the arguments name columns. Blank lines are no rows.
    * smi: a SMILES (or CXSMILES), a blank, a name. Blank lines, lines that begin with `#` and a first line that begins
      with `smiles` are no rows. `id="name"` asks for the names.
    * sdf: the arguments name data fields; `id="title"` asks for the title lines. A 3-D record gives its geometry,
      missing hydrogens added, and its SMILES; a 2-D one only its SMILES. Flat coordinates are 3-D where the header
      says so and no atom has four neighbours.
    * xyz, extxyz (Å, any number of frames): the arguments name `key=value` pairs of the comment line, also `smiles`.
      `charge`, `uhf` (or `unpaired`), `multiplicity` and `spin` are understood unasked; `spin` is 2S or 2S + 1,
      whichever the parity of the electron count allows. `Properties` says where species and positions stand. A
      periodic frame (`pbc` with a T, or a `Lattice` without `pbc`) is not read: it is no isolated molecule.
    * pdb, cif (also with .gz), or a folder of them: each file is one molecule, each chosen model a conformer; its id is
      the file's name without ending. `files` chooses among models and residues.
    * csv, tsv with `files.protein`: each row is a structure or, where `files.ligand` names a file too, a complex.
    * a folder with NAME_protein.pdb (or cif) and NAME_ligand.sdf or .mol2, in it or in its subfolders as in PDBbind, or
      NAME_ligands.sdf: each ligand is a complex. Labels are data fields of the ligand's record, and of PDBbind's index
      `pK` and `measurement`. Without `id`, ids are the names, or NAME_title where a file has several ligands.
    * cube (also with .gz), npz, or a folder of them: each file is one molecule with its geometry; its id is the file's
      name without ending. There are no columns.

    Without `id`, smi names and sdf titles are the ids if every row has one, all differ and none holds `#` or `/`; else,
    and in every other format, ids are row numbers from 0. A label is a float where it reads as a number, NaN where it
    is empty or absent, else text. A row that cannot be read still gives a molecule, whose `smiles` says why
    (`pipeline.molecule.UNREADABLE`). Raises SourceError: at once for what the beginning of the file shows, later for
    what comes later.
    """
    source = Path(path)
    columns = _Columns(smiles, id, tuple(labels), charge, unpaired)
    if source.is_dir() and list_proteins(source):
        return _read_complexes(source, columns, files.rules, lambda: _folder_records(source), name="name")
    if is_structure_file(source) or (source.is_dir() and list_structures(source)):
        return _read_complexes(source, columns, files.rules, lambda: _structure_records(source), name="name")
    if source.is_dir() or is_volume_file(source):
        return _read_volumes(source, columns)
    ending = _ending(source)
    if not source.is_file():
        raise SourceError(f"{source}: there is no such file: correct [source] path")
    if ending in _DELIMITERS:
        header = _read_header(source, _DELIMITERS[ending])
        if files.protein:
            _check_columns(source, header, [*files.asked, *columns.asked])
            return _read_complexes(
                source, columns, files.rules, lambda: _complex_rows(source, files, _DELIMITERS[ending])
            )
        _check_columns(source, header, [columns.smiles, *columns.asked])
        return _read(source, columns, lambda: _table_records(source, _DELIMITERS[ending], columns.smiles))
    if ending == ".parquet":
        return _read_parquet(source, columns)
    if ending == ".smi":
        if set(columns.asked) - {"name"}:
            raise SourceError(f"{source}: a .smi file has only 'smiles' and 'name', not {columns.asked}: use a .csv")
        return _read(source, columns, lambda: _smi_records(source), name="name")
    if ending == ".sdf":
        return _read(source, columns, lambda: _sdf_records(source), name="title", interpret=_interpret_mol_block)
    return _read(
        source, columns, lambda: _xyz_frames(source), interpret=lambda frame: _interpret_frame(frame, columns.smiles)
    )


# From records to molecules, alike for all formats


def _read(
    source: Path,
    columns: _Columns,
    records: Callable[[], Iterator[_Record]],
    name: str | None = None,
    interpret: Callable[[_Record], _Record] = lambda record: record,
) -> Iterator[Molecule]:
    """`records` begins the file anew at each call; `interpret` does what costs time."""
    id_column = columns.id
    if id_column is None and name is not None and _are_good_ids(record.fields.get(name) for record in records()):
        id_column = name
    seen = _SeenIds()
    missing = {column for column in columns.asked if name != column}
    present: set[str] = set()
    row = -1
    for row, raw in enumerate(records()):
        missing -= raw.fields.keys()
        if missing and len(present) < 1000:
            present |= raw.fields.keys()
        identity = str(row)
        if id_column is not None:
            identity = _text(raw.fields.get(id_column))
            _check_id(source, raw.place, id_column, identity)
            if seen.add(identity):
                _refuse_duplicate(source, records(), id_column, identity, row)
        yield _molecule(row, identity, interpret(raw), columns)
    if row >= 0 and missing:
        _refuse_missing(source, missing, present)


def _check_completed(record: _Record, charge: int | None, unpaired: int | None) -> None:
    """Raises ValueError where hydrogens were added to what a data field says is an ion or a radical."""
    drawn = record.drawn_charge
    if charge not in (None, drawn) or unpaired not in (None, 0, record.unpaired):
        raise ValueError(
            f"it lacks hydrogens as it is drawn (charge {drawn:+d}), but its row says charge {charge}, {unpaired or 0} "
            "unpaired electrons: write these into the record (M  CHG, M  RAD), or add the hydrogens"
        )


def _molecule(row: int, identity: str, record: _Record, columns: _Columns) -> Molecule:
    labels = {name: read_label(record.fields.get(name)) for name in columns.labels}
    try:
        charge = _whole(record.fields, columns.charge, record.charge)
        unpaired = _whole(record.fields, columns.unpaired, record.unpaired)
        if record.drawn_charge is not None:
            _check_completed(record, charge, unpaired)
    except ValueError as error:
        return Molecule(row=row, id=identity, smiles=f"{UNREADABLE}{record.place}: {error}", labels=labels)
    return Molecule(
        row,
        identity,
        record.smiles,
        record.numbers,
        record.positions,
        charge,
        unpaired,
        labels,
        record.group,
        record.ligand_atoms,
    )


def read_label(value: Field) -> Label:
    """A finite number where the value reads as one, NaN where it is empty or absent, else its text."""
    if value is None:
        return float("nan")
    text = str(value).strip()
    if not text:
        return float("nan")
    try:
        number = float(value if isinstance(value, bool) else text)
    except ValueError:
        return text
    return text if "_" in text or math.isinf(number) else number


def _whole(fields: Mapping[str, Field], name: str | None, otherwise: int | None) -> int | None:
    text = _text(fields.get(name)) if name is not None else ""
    return read_whole(text, str(name)) if text else otherwise


def _text(value: Field) -> str:
    return "" if value is None else str(value).strip()


# Ids


class _SeenIds:
    """Which ids have come by, at eight bytes each: a sorted array of hashes, and a small set not yet sorted into it."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, dtype=np.int64)
        self._recent: set[int] = set()

    def add(self, identity: str) -> bool:
        """True if it has probably come by before (two ids may share a hash)."""
        number = hash(identity)
        place = int(np.searchsorted(self._sorted, number))
        if number in self._recent or (place < len(self._sorted) and self._sorted[place] == number):
            return True
        self._recent.add(number)
        if len(self._recent) == _IDS_BETWEEN_SORTS:
            self._sorted = np.sort(np.append(self._sorted, np.fromiter(self._recent, dtype=np.int64)))
            self._recent.clear()
        return False


def _fault_of_id(identity: str) -> str | None:
    if not identity:
        return "is empty"
    if "#" in identity or "/" in identity:
        return "holds '#' or '/', which sample ids and paths need"
    return None if identity.isprintable() else "holds a line break or another unprintable character"


def _are_good_ids(names: Iterable[Field]) -> bool:
    seen = _SeenIds()
    return all(_fault_of_id(name) is None and not seen.add(name) for name in map(_text, names))


def _check_id(source: Path, place: str, column: str, identity: str) -> None:
    if fault := _fault_of_id(identity):
        raise SourceError(
            f"{source}, {place}: the id {identity!r} in {column!r} {fault}: correct it, name another column in "
            "[source] id, or leave that key out to number the rows"
        )


def _refuse_duplicate(source: Path, records: Iterator[_Record], column: str, identity: str, row: int) -> None:
    """Raises SourceError if one of the records before `row` has this id, which a shared hash alone does not mean."""
    first = None
    for index, record in enumerate(records):
        if index == row and first is not None:
            raise SourceError(
                f"{source}, {first} and {record.place}: two rows have the id {identity!r} in {column!r}: rename one, "
                "name another column in [source] id, or leave that key out to number the rows"
            )
        if index == row:
            return
        if first is None and _text(record.fields.get(column)) == identity:
            first = record.place


def _refuse_missing(source: Path, missing: Iterable[str], present: Iterable[str]) -> NoReturn:
    raise SourceError(
        f"{source}: no column or field {', '.join(map(repr, sorted(missing)))}; present: "
        f"{', '.join(map(repr, present)) or 'none'}: correct [source]"
    )


# The bytes


def _ending(source: Path) -> str:
    suffixes = [suffix.lower() for suffix in source.suffixes]
    is_packed = suffixes[-1:] == [".gz"]
    ending = "".join(suffixes[-2:-1] if is_packed else suffixes[-1:])
    if ending not in FORMATS or (is_packed and ending == ".parquet"):
        endings = ", ".join((*FORMATS, ".cube", ".npz"))
        raise SourceError(f"{source}: the ending is none of {endings} (text formats also with .gz)")
    return ending


def _read_lines(source: Path) -> Iterator[str]:
    """The lines of a UTF-8 text, plain or gzipped, with their ends, without byte-order mark."""
    packed = source.suffix.lower() == ".gz"
    with cast(BinaryIO, gzip.open(source)) if packed else source.open("rb") as file:
        number = 0
        try:
            for number, line in enumerate(file, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{source}, line {number}: byte {error.start + 1} of the line is not UTF-8 text: save the file as UTF-8"
            ) from error
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise SourceError(
                f"{source}, after line {number}: the gzip file is damaged ({error}): fetch it again"
            ) from error


# Tables


def _read_rows(source: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The line each row begins at, and its cells."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(_read_lines(source), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise SourceError(
                f"{source}, line {line}: {error}: is a quotation mark left open, or followed by text?"
            ) from error
        if cells is None:
            return
        if cells:
            yield line, cells


def _read_header(source: Path, delimiter: str) -> list[str]:
    for _, cells in _read_rows(source, delimiter):
        return [cell.strip() for cell in cells]
    raise SourceError(f"{source}: the file is empty: a table begins with a line of column names")


def _check_columns(source: Path, header: Sequence[str], asked: Sequence[str]) -> None:
    if missing := set(asked) - set(header):
        _refuse_missing(source, missing, header)
    if repeated := [name for name in asked if header.count(name) > 1]:
        raise SourceError(f"{source}, line 1: several columns are named {repeated[0]!r}: rename all but one")


def _table_records(source: Path, delimiter: str, smiles: str) -> Iterator[_Record]:
    rows = _read_rows(source, delimiter)
    header = [cell.strip() for cell in next(rows)[1]]
    for line, cells in rows:
        if any(cell.strip() for cell in cells[len(header) :]):
            raise SourceError(
                f"{source}, line {line}: {len(cells)} cells under {len(header)} column names: put cells that hold "
                f"{delimiter!r} in quotation marks"
            )
        fields = dict(zip(header, cells, strict=False))
        yield _Record(f"line {line}", fields, smiles=fields.get(smiles, "").strip())


def _read_parquet(source: Path, columns: _Columns) -> Iterator[Molecule]:
    import pyarrow  # here: slow to import, and the text formats do without it
    from pyarrow import parquet

    try:
        header = parquet.read_schema(source).names
    except pyarrow.ArrowInvalid as error:
        raise SourceError(f"{source}: not a parquet file ({error})") from error
    _check_columns(source, header, [columns.smiles, *columns.asked])

    def records() -> Iterator[_Record]:
        rows = count(1)
        with parquet.ParquetFile(source) as file:
            names = list(dict.fromkeys([columns.smiles, *columns.asked]))
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=names):
                for row in batch.to_pylist():
                    yield _Record(f"row {next(rows)}", row, smiles=_text(row[columns.smiles]))

    return _read(source, columns, records)


def _smi_records(source: Path) -> Iterator[_Record]:
    for number, line in enumerate(_read_lines(source), start=1):
        text = line.strip()
        if not text or text.startswith("#") or (number == 1 and text.lower().startswith("smiles")):
            continue
        found = re.fullmatch(r"(\S+(?:\s+\|[^|]*\|)?)\s*(.*)", text)
        smiles, name = found.groups() if found else (text, "")
        yield _Record(f"line {number}", {"name": name}, smiles=smiles)


# Structures


def _sdf_records(source: Path) -> Iterator[_Record]:
    lines: list[str] = []
    begin = 1
    for number, line in enumerate(_read_lines(source), start=1):
        if not line.startswith("$$$$"):
            lines.append(line.rstrip("\r\n"))
            continue
        block, fields = split_sdf_record(lines)
        yield _Record(f"line {begin}", fields, block)
        lines, begin = [], number + 1
    if any(line.strip() for line in lines):
        block, fields = split_sdf_record(lines)
        yield _Record(f"line {begin}", fields, block)


def _interpret_mol_block(record: _Record) -> _Record:
    try:
        smiles, numbers, positions, unpaired, drawn = read_mol_block(record.text)
    except ValueError as error:
        return replace(record, smiles=f"{UNREADABLE}the record at {record.place}: {error}")
    return replace(record, smiles=smiles, numbers=numbers, positions=positions, unpaired=unpaired, drawn_charge=drawn)


def _xyz_frames(source: Path) -> Iterator[_Record]:
    lines = enumerate(_read_lines(source), start=1)
    for number, line in lines:
        if not line.strip():
            continue
        if not re.fullmatch(r"\s*\d+\s*", line):
            raise SourceError(f"{source}, line {number}: a frame begins with its number of atoms, not {line.strip()!r}")
        body = [text for _, text in islice(lines, int(line) + 1)]
        if len(body) < int(line) + 1:
            raise SourceError(f"{source}, line {number}: the file ends within this frame: is it cut off?")
        yield _Record(f"line {number}", read_comment(body[0]), "".join(body[1:]))


def _interpret_frame(frame: _Record, smiles: str) -> _Record:
    try:
        numbers, positions = read_frame(frame.text, frame.fields)
        charge, unpaired = read_electrons(frame.fields, numbers)
    except ValueError as error:
        return replace(frame, smiles=f"{UNREADABLE}the frame at {frame.place}: {error}")
    graph = _text(frame.fields.get(smiles)) or None
    return replace(frame, smiles=graph, numbers=numbers, positions=positions, charge=charge, unpaired=unpaired)


# Structures of macromolecules, and complexes


def _read_complexes(
    source: Path, columns: _Columns, rules: Rules, records: Callable[[], Iterator[_Record]], name: str | None = None
) -> Iterator[Molecule]:
    return _read(source, columns, records, name, lambda record: _interpret_complex(record, rules))


def list_source_files(source: Path, files: Files = NO_FILES) -> list[Path]:
    """Every file that the molecules of a source are read from and that is there, the source itself first."""
    if not source.is_dir():
        if not files.protein or _ending(source) not in _DELIMITERS:
            return [source]
        rows = list(_complex_rows(source, files, _DELIMITERS[_ending(source)]))
        maps = [source.parent / _text(row.fields.get(files.map)) for row in rows] if files.map else []
        return [source, *_list_parts([row.parts for row in rows]), *(path for path in maps if path.is_file())]
    if list_proteins(source):
        return [*list_indices(source), *_list_parts([entry.parts for entry in list_complexes(source)])]
    structures = list_structures(source)
    return [*structures, *filter(is_map_file, sorted(source.iterdir()))] if structures else list_volume_files(source)


@functools.lru_cache(maxsize=4)
def _list_maps(source: Path, written: int, column: str, id: str | None) -> dict[str, Path]:  # noqa: ARG001
    """By row id, the maps that a table names, relative to it; `written`: when it was, for the cache."""
    rows = _table_records(source, _DELIMITERS[_ending(source)], "")
    return {
        _text(row.fields.get(id)) if id else str(number): source.parent / _text(row.fields.get(column))
        for number, row in enumerate(rows)
    }


def find_map(source: Path, name: str, column: str | None, id: str | None) -> Path:
    """The map of a row, by the column of its table, or else beside its structure under the same name.

    Raises ValueError where there is none.
    """
    if column is not None:
        path = _list_maps(source, source.stat().st_mtime_ns, column, id)[name]
        if path == source.parent:
            raise ValueError(f"{column} is empty: name the map's file")
        return path
    folder = source if source.is_dir() else source.parent
    found = sorted(path for path in folder.glob(f"{glob.escape(name)}.*") if is_map_file(path))
    if len(found) != 1:
        raise ValueError(f"{len(found)} maps are called {name}, with .ccp4, .map, .mrc or .mtz: put one there")
    return found[0]


def _list_parts(parts: Iterable[Parts | None]) -> list[Path]:
    paths = (path for one in parts if one for path in (one.structure, *(one.ligands or ())))
    return [path for path in dict.fromkeys(paths) if path and path.is_file()]


def _complex_rows(source: Path, files: Files, delimiter: str) -> Iterator[_Record]:
    for record in _table_records(source, delimiter, ""):
        structure, ligand, which = (
            _text(record.fields.get(name)) if name else "" for name in (files.protein, files.ligand, files.record)
        )
        ligands = (source.parent / ligand,) if ligand else None
        yield replace(record, parts=Parts(source.parent / structure if structure else None, ligands, which))


def _folder_records(source: Path) -> Iterator[_Record]:
    for entry in list_complexes(source):
        yield _Record(entry.protein.name, {"name": entry.name, **entry.fields}, parts=entry.parts)


def _structure_records(source: Path) -> Iterator[_Record]:
    for path in list_structures(source) if source.is_dir() else [source]:
        name = path.name.removesuffix(".gz").rpartition(".")[0]
        yield _Record(path.name, {"name": name}, parts=Parts(path))


def _interpret_complex(record: _Record, rules: Rules) -> _Record:
    assert record.parts is not None
    try:
        return replace(record, **vars(build_complex(record.parts, rules)))
    except ValueError as error:
        return replace(record, smiles=f"{UNREADABLE}{record.place}: {error}")


# Volumes


def _read_volumes(source: Path, columns: _Columns) -> Iterator[Molecule]:
    if columns.asked:
        raise SourceError(f"{source}: cube and npz files have no {columns.asked[0]!r}: leave it out of [source]")
    files = list_volume_files(source)
    if not files or not files[0].is_file():
        raise SourceError(f"{source}: there is no file in {', '.join(VOLUME_ENDINGS)}: correct [source] path")
    named: dict[str, Path] = {}
    for file in files:
        name = name_volume(file)
        if fault := _fault_of_id(name):
            raise SourceError(f"{file}: the id, its name without ending, {fault}: rename the file")
        if name in named:
            raise SourceError(f"{named[name]} and {file}: two files have the id {name!r}: rename one")
        named[name] = file
    return (_read_volume(row, name, file) for row, (name, file) in enumerate(named.items()))


def _read_volume(row: int, name: str, file: Path) -> Molecule:
    try:
        scene = read_scene(file)
    except FormatError as error:
        return Molecule(row, name, smiles=f"{UNREADABLE}{error}")
    return Molecule(row, name, None, scene.numbers, scene.positions, scene.charge)
