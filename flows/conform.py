"""Parts of source rows become parts of conformers."""

import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias

from flows.recipe import Recipe
from flows.source import digest_molecule
from flows.workers.isolation import borrow_child
from pipeline.conformers import conform
from pipeline.failures import MoleculeFailed
from storage.errors import StoreError
from storage.generations import read_latest
from storage.header import read_header
from storage.layout import conformers_key, source_key
from storage.objects import Location, has_object, locate
from storage.parts import ConformedRow, SourceRow, read_conformer_part, read_source_part, write_conformer_part
from storage.schema import Conformer, Molecule

SECONDS_TOGETHER = 60.0  # for a part of geometries that are kept; then each has its own time
Conformed: TypeAlias = list[Conformer] | MoleculeFailed


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
    shelf = Shelf(store)
    sources = [(source.molecule, shelf.find(source)) for source in read_source_part(store, part)]
    made, seconds = _conform_rows([molecule for molecule, was in sources if not was], recipe)
    rows = [_take_over(was, molecule) if was else next(made) for molecule, was in sources]
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
        self._conformers = lru_cache(maxsize=4)(read_conformer_part)
        self._sources = lru_cache(maxsize=4)(read_source_part)

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


def _conform_rows(molecules: list[Molecule], recipe: Recipe) -> tuple[Iterator[ConformedRow], float]:
    """Their rows, and the CPU seconds spent.

    Geometries that are kept take a fraction of a millisecond each and go into one call. Where that fails, because one
    of them is bad, each goes alone.
    """
    settings, limits = recipe.conformers, recipe.limits
    make = partial(conform, keep=settings.keep, count=settings.count, optimise=settings.optimise, seed=settings.seed)
    spent = 0.0
    with borrow_child(limits.memory_gib) as child:
        if settings.keep and len(molecules) > 1:
            short = min(limits.seconds_per_molecule, SECONDS_TOGETHER)
            together = child.run(_make_all, make, molecules, seconds=short)
            spent += together.seconds
            if not isinstance(together.end, MoleculeFailed):
                return map(_lay_down, molecules, together.end), spent
        alone = [child.run(make, molecule, seconds=limits.seconds_per_molecule) for molecule in molecules]
    spent += sum(report.seconds for report in alone)
    return map(_lay_down, molecules, [report.end for report in alone]), spent


def _make_all(make: Callable[[Molecule], list[Conformer]], molecules: list[Molecule]) -> list[Conformed]:
    return [_try(make, molecule) for molecule in molecules]


def _try(make: Callable[[Molecule], list[Conformer]], molecule: Molecule) -> Conformed:
    try:
        return make(molecule)
    except MoleculeFailed as failure:
        return failure


def _lay_down(molecule: Molecule, end: Conformed) -> ConformedRow:
    about = (molecule.row, molecule.id)
    if isinstance(end, MoleculeFailed):
        return ConformedRow(*about, end.reason, str(end), molecule.labels)
    return ConformedRow(*about, "ok", "", molecule.labels, end)
