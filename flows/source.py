"""The rows of a source: copied into the store part by part, and followed when the source changes."""

import functools
import hashlib
import itertools
import json
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from flows.recipe import FileDensity, MapDensity, Recipe, Source
from pipeline.formats import FormatError, find_volume_file
from pipeline.qm9 import list_qm9_files, read_qm9
from pipeline.sources import Files, find_map, list_source_files, read_molecules
from storage.claims import claim_store
from storage.errors import RequestError
from storage.generations import (
    Generation,
    Origin,
    Run,
    append_run,
    change_generation,
    count_generations,
    keep_parts,
    read_generation,
    read_latest,
    read_rows,
    write_generation,
)
from storage.header import read_header
from storage.identity import fingerprint
from storage.manifest import unseal
from storage.objects import Location, checksum, resolve
from storage.parts import (
    ROWS_PER_PART,
    KnownRow,
    SourceRow,
    molecule_record,
    read_source_part,
    write_conformer_part,
    write_source_part,
)
from storage.plan import read_plan
from storage.receipts import find_missing
from storage.schema import Molecule
from storage.seal import is_sealed

SAME, RELABELLED, EDITED, ADDED, REMOVED, MOVED = "same", "relabelled", "edited", "added", "removed", "moved"


@dataclass(frozen=True)
class StoredRow:
    molecule: str  # digest of all but id, place and labels
    labels: str  # digest
    lies: KnownRow


@dataclass(frozen=True)
class Match:
    """A row of the source as it is now, beside those that the store has."""

    change: str  # SAME, RELABELLED, EDITED or ADDED
    row: SourceRow
    lies: KnownRow | None  # where the same row is


def read_source(
    store: Location, recipe: Recipe, limit: int | None = None, reuse: Location | None = None
) -> Counter[str]:
    """Copy the source into the store, or what has changed of it since: how many rows were added, edited and so on.

    What was copied before stays as it is; what is new becomes a generation. Rows whose molecule the store or `reuse`,
    another one, had before take over their conformers. Raises SourceError (bad file, bad ids), and RequestError where
    the source holds no molecules.
    """
    path, sha256 = recipe.source.address, checksum_source(recipe.source)
    number = count_generations(store)
    last = read_generation(store, number) if number else None
    origin = Origin(str(resolve(reuse)), fingerprint(reuse)) if reuse else None
    if last and (last.sha256, last.limit) == (sha256, limit):
        change_generation(store, last, path=path, reuse=origin or last.reuse)
        return Counter()
    stored = {row.lies: (id, row) for id, row in read_stored_rows(store, last)} if last else {}
    finder = Finder(dict(stored.values()), list_reusable(reuse, recipe) if reuse else {})
    if next(open_source(recipe, limit), None) is None:
        raise RequestError(f"{path} holds no molecules: there is nothing to build")
    changes = count_changes(finder, open_source(recipe, limit), list(stored)) if last else Counter()
    if last and not changes:
        change_generation(store, last, path=path, sha256=sha256, limit=limit, reuse=origin or last.reuse)
        return changes
    if last and read_header(store).origin:
        raise RequestError(
            f"{store} was voxelized from another store, and follows no source ({describe_changes(changes)} in {path}): "
            "build that store again, and voxelize it into a new folder"
        )
    unseal(store)
    first = last.first_part + last.parts if last else 0
    runs, parts = copy_rows(store, finder, open_source(recipe, limit), first)
    changes = changes if last else Counter({ADDED: sum(run.length for run in runs)})
    write_generation(store, Generation(number + 1, path, sha256, limit, first, parts, runs, reuse=origin))
    return changes


def check_reuse(reuse: Location | None, store: Location) -> None:
    """Raises RequestError where samples are to be taken from what is no other sealed store."""
    if reuse is None:
        return
    read_header(reuse)
    if not is_sealed(reuse):
        raise RequestError(f"--reuse {reuse} is not sealed: finish its build first")
    if resolve(reuse) == resolve(store):
        raise RequestError(f"--reuse {reuse}: a store keeps its own samples anyway: name another one")


def finish_unchanged(store: Location, recipe: Recipe, limit: int | None, *, claimed: bool = False) -> bool:
    """Whether a store is sealed and its source is as it was, so that there is nothing to do.

    Where the source lies elsewhere now, that is noted, under a claim unless the caller has it.
    """
    if not is_sealed(store):
        return False
    if find_missing(store, (shard.number for shard in read_plan(store).shards())):
        return False
    latest = read_latest(store)
    if (latest.sha256, latest.limit) != (checksum_source(recipe.source), limit):
        return False
    if latest.path != recipe.source.address:
        with nullcontext() if claimed else claim_store(store):
            if read_latest(store) != latest:
                return False
            change_generation(store, latest, path=recipe.source.address)
    return True


class Finder:
    """Tells what each row of a source is to the rows that a store has, and to those it may take conformers from."""

    def __init__(self, rows: dict[str, StoredRow], reusable: dict[str, KnownRow]) -> None:
        self._rows = rows  # by id
        self._molecules = {**reusable, **{row.molecule: row.lies for row in rows.values()}}

    def match(self, row: SourceRow) -> Match:
        molecule, labels = digest_molecule(row), digest_labels(row)
        was = self._rows.get(row.molecule.id)
        if was and (was.molecule, was.labels) == (molecule, labels):
            return Match(SAME, row, was.lies)
        change = ADDED if was is None else RELABELLED if was.molecule == molecule else EDITED
        return Match(change, replace(row, known=self._molecules.get(molecule)), None)


def count_changes(finder: Finder, rows: Iterator[SourceRow], stored: list[KnownRow]) -> Counter[str]:
    """Of those that are gone too; rows that only stand in another order are `moved`."""
    changes: Counter[str] = Counter()
    kept = []
    for row in rows:
        match = finder.match(row)
        changes[match.change] += 1
        if match.lies:
            kept.append(match.lies)
    same = changes.pop(SAME, 0)
    changes[REMOVED] = len(stored) - same - changes[EDITED] - changes[RELABELLED]
    left = {*kept}
    changes[MOVED] = sum(now != was for now, was in zip(kept, filter(left.__contains__, stored), strict=True))
    return +changes


def copy_rows(store: Location, finder: Finder, rows: Iterator[SourceRow], first: int) -> tuple[list[Run], int]:
    """Write the rows that are new from part `first` on; the order of all, and how many parts were written."""
    runs: list[Run] = []
    batch: list[SourceRow] = []
    parts = 0
    for row in rows:
        match = finder.match(row)
        if match.lies:
            append_run(runs, match.lies.part, match.lies.index)
            continue
        append_run(runs, first + parts, len(batch))
        batch.append(match.row)
        if len(batch) == ROWS_PER_PART:
            write_source_part(store, first + parts, batch)
            batch, parts = [], parts + 1
    if batch:
        write_source_part(store, first + parts, batch)
        parts += 1
    return runs, parts


def open_source(recipe: Recipe, limit: int | None = None) -> Iterator[SourceRow]:
    """Every row as the source has it now."""
    kinds = {type(density) for density in recipe.densities.values()}
    for molecule in itertools.islice(open_molecules(recipe.source), limit):
        content = ""
        if FileDensity in kinds:
            content = checksum_density(Path(recipe.source.address), molecule.id)
        elif MapDensity in kinds:
            content = checksum_map(recipe.source, molecule.id)
        yield SourceRow(molecule, content=content)


def open_molecules(source: Source) -> Iterator[Molecule]:
    if source.path is None:
        return read_qm9(source.labels, source.heavy_atoms, source.count)
    return read_molecules(
        source.path,
        smiles=source.smiles,
        id=source.id,
        labels=source.labels,
        charge=source.charge,
        unpaired=source.unpaired,
        files=name_files(source),
    )


def name_files(source: Source) -> Files:
    return Files(source.protein, source.ligand, source.record, source.rules, source.map)


def read_stored_rows(store: Location, generation: Generation) -> Iterator[tuple[str, StoredRow]]:
    """Every row of the source as it was in a generation, by id."""
    places = (KnownRow("", run.part, run.first + k) for run in generation.runs for k in range(run.length))
    for row, lies in zip(read_source_rows(store, generation), places, strict=True):
        yield row.molecule.id, StoredRow(digest_molecule(row), digest_labels(row), lies)


def read_source_rows(store: Location, generation: Generation) -> Iterator[SourceRow]:
    """Every row of the source as it was in a generation, in its order."""
    read_part = keep_parts(generation, functools.partial(read_source_part, store))
    for run in generation.runs:
        yield from read_part(run.part)[run.first : run.first + run.length]


def list_reusable(store: Location, recipe: Recipe) -> dict[str, KnownRow]:
    """By the digest of a molecule, the rows of another store whose conformers are made as the recipe asks."""
    if read_header(store).recipe["conformers"] != recipe.conformers.model_dump(mode="json"):
        return {}
    rows = (row for _, row in read_stored_rows(store, read_latest(store)))
    return {row.molecule: replace(row.lies, store=str(resolve(store))) for row in rows}


def copy_source(store: Location, new: Location) -> None:
    """The rows that the source of one store has now become those of another."""
    latest = read_latest(store)
    rows = (
        replace(row, known=None, molecule=replace(row.molecule, row=number))
        for number, row in enumerate(read_source_rows(store, latest))
    )
    runs, parts = copy_rows(new, Finder({}, {}), rows, 0)
    write_generation(new, Generation(1, latest.path, latest.sha256, latest.limit, 0, parts, runs))


def copy_conformers(store: Location, new: Location) -> None:
    """Those of all rows that `copy_source` copies, at no computing time."""
    rows = (replace(row, row=index) for index, (_, row) in enumerate(read_rows(store, read_latest(store))))
    for part in itertools.count():
        if not (batch := list(itertools.islice(rows, ROWS_PER_PART))):
            return
        write_conformer_part(new, part, batch, {"computing_seconds": 0.0, "host": platform.node()})


def digest_molecule(row: SourceRow) -> str:
    """Of everything that its conformers, and densities from files, depend on."""
    record = molecule_record(row.molecule)
    content = {name: value for name, value in record.items() if name not in ("row", "id", "labels")}
    return hashlib.sha256(json.dumps([content, row.content], sort_keys=True).encode()).hexdigest()


def digest_labels(row: SourceRow) -> str:
    labels = molecule_record(row.molecule)["labels"]
    return hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()


def checksum_source(source: Source) -> str:
    """sha256 of a file, or of the list of those in a folder or a package with theirs and what is chosen of them."""
    if source.path is None:
        return checksum_files(list_qm9_files(), f"{source.heavy_atoms} {source.count}\n")
    files = list_source_files(source.path, name_files(source))
    return checksum(source.path) if files == [source.path] else checksum_files(files)


def checksum_files(files: Sequence[Path], chosen: str = "") -> str:
    listed = "".join(f"{checksum(file)}  {file.name}\n" for file in files)
    return hashlib.sha256((chosen + listed).encode()).hexdigest()


def checksum_density(source: Path, id: str) -> str:
    """sha256 of the file that a molecule's density lies in; "" where there is none."""
    try:
        return checksum(find_volume_file(source, id))
    except FormatError:
        return ""


def checksum_map(source: Source, id: str) -> str:
    """sha256 of the experimental map of a row; where there is none, what no other row has."""
    try:
        path = find_map(Path(source.address), id, source.map, source.id)
    except ValueError:
        return f"no map of {id}"
    return checksum(path) if path.is_file() else f"no map of {id}"


def describe_changes(changes: Counter[str]) -> str:
    """In words."""
    return ", ".join(f"{count} rows {change}" for change, count in sorted(changes.items())) or "no row has changed"
