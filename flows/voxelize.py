"""Another grid for a sealed dataset, from its kept wavefunctions: no electronic structure is computed again."""

from collections.abc import Iterable, Mapping
from typing import Any

from flows.compute import compute_missing
from flows.plan import place, plan_dataset
from flows.recipe import Recipe, check_recipe, recipe_values
from flows.source import copy_conformers, copy_source
from flows.status import RunRecord, Status, read_status
from flows.workers.fleet import count_slots, open_cluster
from pipeline.failures import TooLarge
from storage.claims import claim_store
from storage.errors import RequestError
from storage.generations import Origin, count_generations, read_latest, read_rows
from storage.header import Header, begin_store, claim_begun, read_header
from storage.identity import fingerprint
from storage.objects import Location, resolve
from storage.plan import read_plan
from storage.seal import is_sealed, seal


def begin_voxelization(store: Location, new: Location, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Begin `new`, or check that it was begun so: the rows of `store`, with these keys of its recipe's tables changed.

    Raises RequestError where `store` is not sealed or keeps no wavefunctions, or where a key is wrong.
    """
    if resolve(store) == resolve(new):
        raise RequestError(f"{new}: a store cannot be voxelized into itself: name a new folder")
    begun = read_header(store)
    densities = begun.recipe["densities"]
    check_kept(store, densities)
    changed = {table: {**begun.recipe[table], **keys} for table, keys in changes.items()}
    recipe = recipe_values(check_recipe({**begun.recipe, **changed}, store))
    if recipe["grid"]["orient"] != begun.recipe["grid"]["orient"]:
        for name, density in densities.items():
            if density.get("boundary") == "periodic":
                raise RequestError(
                    f"{store}: density {name!r} is periodic, its box cannot be turned: leave orient as it is"
                )
    text = begun.recipe_text
    for table, keys in changes.items():
        words = ", ".join(
            f"{key} = {recipe[table][key]!r}" for key in keys if recipe[table][key] != begun.recipe[table][key]
        )
        text += f"\n# Voxelized again since, with [{table}] {words}\n" if words else ""
    check_fit(store, check_recipe(recipe, store))
    header = Header(recipe, text, Origin(str(resolve(store)), fingerprint(store)))
    begin_store(new, header)
    copy_rows_once(store, new, header)


def copy_rows_once(store: Location, new: Location, header: Header) -> None:
    """Conformers and source rows of `store` into `new`, which `header` has begun, where they are not all there yet."""
    if not count_generations(new):
        with claim_begun(new, header):
            if not count_generations(new):
                copy_conformers(store, new)
                copy_source(store, new)


def check_kept(store: Location, densities: Iterable[str]) -> None:
    """Raises RequestError where a store is not sealed, or keeps no wavefunctions of one of these."""
    plan = read_plan(store)
    if not is_sealed(store):
        raise RequestError(f"{store} is not sealed yet: finish its build first, then voxelize it")
    kept = plan.densities if plan.keeps_wavefunctions else ()
    solved = [name for name in densities if read_header(store).recipe["densities"][name]["engine"] != "promolecule"]
    if missing := [name for name in solved if name not in kept]:
        raise RequestError(
            f"{store} keeps no wavefunctions of {', '.join(missing)}: only a build with store.wavefunctions = true "
            "of densities that have orbitals can be voxelized"
        )


def check_fit(store: Location, recipe: Recipe) -> None:
    """Raises RequestError where no molecule of the store fits into the recipe's boxes."""
    failure = None
    for _, row in read_rows(store, read_latest(store)):
        for conformer in row.conformers:
            try:
                place(conformer, recipe)
            except TooLarge as too_large:
                failure = too_large
            else:
                return
    if failure:
        raise RequestError(f"{store}: no molecule fits; the last one {failure}: give larger --classes")


def finish_voxelization(new: Location, workers: int, cluster: str | None, begun: float) -> Status:
    """Plan, compute and seal what is still missing; `begun` is when the command started (time.time())."""
    if not is_sealed(new) or read_status(new).missing:
        with claim_store(new):
            plan_dataset(new)
            with open_cluster(workers, cluster) as client:
                compute_missing(resolve(new), client, RunRecord(new, count_slots(client), begun))
            seal(new)
    return read_status(new)
