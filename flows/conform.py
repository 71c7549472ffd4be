"""Source rows become parts, and parts of rows become parts of conformers."""

import hashlib
import itertools
import platform
from collections.abc import Iterator
from pathlib import Path

from flows.isolation import shared_child
from flows.recipe import Recipe
from pipeline.conformers import conform
from pipeline.failures import MoleculeFailed
from pipeline.formats import list_volume_files
from pipeline.sources import read_molecules
from storage.errors import RequestError, StoreError
from storage.header import read_header
from storage.layout import SOURCE_END, conformers_key, source_key
from storage.manifest import vouch_again
from storage.objects import Location, checksum, has_object, read_record, write_record
from storage.parts import ROWS_PER_PART, ConformedRow, read_source_part, write_conformer_part, write_source_part
from storage.schema import Molecule


def read_source(store: Location, recipe: Recipe, limit: int | None = None) -> int:
    """Copy the source into the store, part by part; returns the number of parts. A copied source is not read again.

    Raises SourceError (bad file, bad ids) and RequestError where the store was begun with other rows.
    """
    path = recipe.source.path
    begun_with: dict[str, str | int | None] = {"sha256": checksum_source(path), "limit": limit}
    if has_object(store, SOURCE_END):
        end = read_record(store, SOURCE_END)
        if {name: end[name] for name in begun_with} != begun_with:
            limits = "" if end["limit"] == limit else f" (--limit was {end['limit']}, is {limit})"
            raise RequestError(
                f"{store} was begun with other rows than {path} has now{limits}: "
                "restore the file and the limit, or build into a new store"
            )
        if end["path"] != str(path):  # it has moved
            write_record(store, SOURCE_END, {**end, "path": str(path)})  # type: ignore[dict-item]
            vouch_again(store, SOURCE_END)
        return source_parts(store)
    parts = rows = 0
    for molecules in batch_molecules(itertools.islice(open_source(recipe), limit)):
        write_source_part(store, parts, molecules)
        parts, rows = parts + 1, rows + len(molecules)
    if not rows:
        raise RequestError(f"{path} holds no molecules: there is nothing to build")
    write_record(store, SOURCE_END, {"parts": parts, "rows": rows, "path": str(path), **begun_with})
    return parts


def checksum_source(path: Path) -> str:
    """sha256 of a file, or of the list of those in a folder with theirs."""
    if not path.is_dir():
        return checksum(path)
    listed = "".join(f"{checksum(file)}  {file.name}\n" for file in list_volume_files(path))
    return hashlib.sha256(listed.encode()).hexdigest()


def read_stored_recipe(store: Location) -> Recipe:
    """The recipe a store was begun with, its source where it was last read: there lie the densities from files."""
    recipe = Recipe.model_validate(read_header(store).recipe)
    source = recipe.source.model_copy(update={"path": Path(str(read_record(store, SOURCE_END)["path"]))})
    return recipe.model_copy(update={"source": source})


def source_parts(store: Location) -> int:
    """How many parts the source has, once it is read."""
    return int(str(read_record(store, SOURCE_END)["parts"]))


def is_conformed(store: Location, part: int) -> bool:
    return has_object(store, conformers_key(part))


def conform_part(store: Location, part: int) -> float:
    """Make the conformers of one part, unless it is done; returns the CPU seconds spent now."""
    if is_conformed(store, part):
        return 0.0
    recipe = Recipe.model_validate(read_header(store).recipe)
    if not has_object(store, source_key(part)):
        raise StoreError(f"{store} has no source part {part}: run `rhoflow plan` or `rhoflow build` first")
    rows, seconds = [], 0.0
    for molecule in read_source_part(store, part):
        row, spent = _conform_row(molecule, recipe)
        rows.append(row)
        seconds += spent
    write_conformer_part(store, part, rows, {"computing_seconds": seconds, "host": platform.node()})
    return seconds


def report_part(store: Location, part: int) -> int:
    """Conform one part, on a worker; returns its number."""
    conform_part(store, part)
    return part


def _conform_row(molecule: Molecule, recipe: Recipe) -> tuple[ConformedRow, float]:
    child = shared_child(recipe.limits.memory_gib)
    settings = recipe.conformers
    report = child.run(
        _conform,
        molecule,
        settings.keep,
        settings.count,
        settings.optimise,
        settings.seed,
        seconds=recipe.limits.seconds_per_molecule,
    )
    about = (molecule.row, molecule.id)
    if isinstance(report.end, MoleculeFailed):
        return ConformedRow(*about, report.end.reason, str(report.end), molecule.labels), report.seconds
    return ConformedRow(*about, "ok", "", molecule.labels, report.end), report.seconds


def _conform(molecule: Molecule, keep: bool, count: int, optimise: str, seed: int) -> list:  # type: ignore[type-arg]
    return conform(molecule, keep=keep, count=count, optimise=optimise, seed=seed)  # type: ignore[arg-type]


def open_source(recipe: Recipe) -> Iterator[Molecule]:
    source = recipe.source
    return read_molecules(
        source.path,
        smiles=source.smiles,
        id=source.id,
        labels=source.labels,
        charge=source.charge,
        unpaired=source.unpaired,
    )


def batch_molecules(molecules: Iterator[Molecule]) -> Iterator[list[Molecule]]:
    while batch := list(itertools.islice(molecules, ROWS_PER_PART)):
        yield batch
