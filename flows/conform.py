"""Parts of source rows become parts of conformers."""

import functools
import platform
from dataclasses import replace
from pathlib import Path

from flows.isolation import borrow_child
from flows.recipe import Recipe
from flows.source import digest_molecule
from pipeline.conformers import conform
from pipeline.failures import MoleculeFailed
from storage.errors import StoreError
from storage.generations import read_latest
from storage.header import read_header
from storage.layout import conformers_key, source_key
from storage.objects import Location, has_object, locate
from storage.parts import ConformedRow, SourceRow, read_conformer_part, read_source_part, write_conformer_part
from storage.schema import Molecule


def read_stored_recipe(store: Location) -> Recipe:
    """The recipe a store was begun with, its source where it was last read: there lie the densities from files."""
    recipe = Recipe.model_validate(read_header(store).recipe)
    if recipe.source.path is None:
        return recipe
    source = recipe.source.model_copy(update={"path": Path(read_latest(store).path)})
    return recipe.model_copy(update={"source": source})


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
    shelf = Shelf(store)
    for source in read_source_part(store, part):
        if was := shelf.find(source):
            rows.append(_take_over(was, source.molecule))
            continue
        row, spent = _conform_row(source.molecule, recipe)
        rows.append(row)
        seconds += spent
    write_conformer_part(store, part, rows, {"computing_seconds": seconds, "host": platform.node()})
    return seconds


def report_part(store: Location, part: int) -> int:
    """Conform one part, on a worker; returns its number."""
    conform_part(store, part)
    return part


class Shelf:
    """Rows whose conformers exist, of this store and others; a few parts are kept in memory."""

    def __init__(self, store: Location) -> None:
        self._store = store
        self._conformers = functools.lru_cache(maxsize=4)(read_conformer_part)
        self._sources = functools.lru_cache(maxsize=4)(read_source_part)

    def find(self, source: SourceRow) -> ConformedRow | None:
        """None where there is none to take over, or another store has none any more, or other ones."""
        if (known := source.known) is None:
            return None
        if not known.store:
            return self._conformers(self._store, known.part)[known.index]
        old = locate(known.store)
        if not (has_object(old, source_key(known.part)) and has_object(old, conformers_key(known.part))):
            return None
        if digest_molecule(self._sources(old, known.part)[known.index]) != digest_molecule(source):
            return None
        row = self._conformers(old, known.part)[known.index]
        return row if row.outcome == "ok" else None


def _take_over(was: ConformedRow, molecule: Molecule) -> ConformedRow:
    """The same conformers under the row's own id and labels."""
    named = tuple(replace(one, id=f"{molecule.id}#{k}") for k, one in enumerate(was.conformers))
    return replace(was, row=molecule.row, id=molecule.id, labels=molecule.labels, conformers=named)


def _conform_row(molecule: Molecule, recipe: Recipe) -> tuple[ConformedRow, float]:
    settings, limits = recipe.conformers, recipe.limits
    how = (settings.keep, settings.count, settings.optimise, settings.seed)
    with borrow_child(limits.memory_gib) as child:
        report = child.run(_conform, molecule, *how, seconds=limits.seconds_per_molecule)
    about = (molecule.row, molecule.id)
    if isinstance(report.end, MoleculeFailed):
        return ConformedRow(*about, report.end.reason, str(report.end), molecule.labels), report.seconds
    return ConformedRow(*about, "ok", "", molecule.labels, report.end), report.seconds


def _conform(molecule: Molecule, keep: bool, count: int, optimise: str, seed: int) -> list:  # type: ignore[type-arg]
    return conform(molecule, keep=keep, count=count, optimise=optimise, seed=seed)  # type: ignore[arg-type]
