"""What a store was begun with: its recipe, which no later run may change."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storage.claims import CLAIM, claim_store
from storage.errors import RequestError, StoreError
from storage.generations import Origin, count_generations
from storage.layout import HEADER, SCHEMA_VERSION
from storage.manifest import vouch_again
from storage.objects import PARTIAL, Json, Location, has_object, list_keys, read_record, write_record

# May differ between runs: what is computed from then on obeys the new ones.
FREE_KEYS = ("limits", "source.path", "source.heavy_atoms", "source.count")


@dataclass(frozen=True)
class Header:
    recipe: Mapping[str, Any]  # every key, defaults filled in
    recipe_text: str  # as its author wrote it
    origin: Origin | None = None  # whose wavefunctions the store is voxelized from


def begin_store(store: Location, header: Header) -> None:
    """Write the header of a new store, or check that the existing one was begun with the same recipe.

    Until the source has been read, another recipe simply takes the place of the first.

    Raises RequestError naming each key that differs, or what stands at `store` instead of a store, and StoreError where
    another works on it by what would change.
    """
    if _is_begun_with(store, header):
        return
    if isinstance(store, Path):
        (store / CLAIM).parent.mkdir(parents=True, exist_ok=True)
    with claim_store(store):  # whoever works on it goes by its header
        if not _is_begun_with(store, header):
            was = read_header(store).origin if has_object(store, HEADER) else None
            _write_header(store, replace(header, origin=header.origin or was))


@contextmanager
def claim_begun(store: Location, header: Header) -> Iterator[None]:
    """`claim_store`, of a store that `header` has begun. Raises StoreError where another has begun it meanwhile."""
    with claim_store(store):
        if read_header(store).recipe != header.recipe:
            raise StoreError(f"{store} was begun with another recipe just now: run the same command again")
        yield


def _is_begun_with(store: Location, header: Header) -> bool:
    """Whether it says just that. Raises RequestError where it says what may not change, or is no store at all."""
    if not has_object(store, HEADER):
        if _is_occupied(store):
            raise RequestError(f"{store} exists and is no rhoflow store: name an empty or a new folder")
        return False
    begun = read_header(store)
    if header.origin and (begun.origin is None or begun.origin.fingerprint != header.origin.fingerprint):
        begun_from = f"voxelized from {begun.origin.store}, as it was then" if begun.origin else "built"
        raise RequestError(f"{store} was {begun_from}, not from {header.origin.store}: name a new store")
    if begun.origin and not header.origin and not count_generations(store):
        raise RequestError(
            f"{store} was begun by `rhoflow voxelize` from {begun.origin.store}, and its rows are not all "
            "copied yet: run that command again, or name a new folder"
        )
    differences = list(_differences(begun.recipe, header.recipe))
    if differences and count_generations(store):
        raise RequestError(
            f"{store} was begun with another recipe: "
            + "; ".join(f"{key} was {old!r}, is {new!r}" for key, old, new in differences)
            + ". Restore the recipe, or build into a new store"
        )
    return begun.recipe == header.recipe and begun.origin == (header.origin or begun.origin)


def _is_occupied(store: Location) -> bool:
    """Whether something is there, leftovers of killed writers and of those who began nothing left out."""
    is_file = isinstance(store, Path) and store.exists() and not store.is_dir()
    return is_file or any(not key.endswith(PARTIAL) and key != CLAIM for key in list_keys(store))


def _write_header(store: Location, header: Header) -> None:
    record: dict[str, Json] = {
        "schema_version": SCHEMA_VERSION,
        "recipe": header.recipe,
        "recipe_text": header.recipe_text,
        "origin": vars(header.origin) if header.origin else None,
    }
    write_record(store, HEADER, record)
    vouch_again(store, HEADER)


def read_header(store: Location) -> Header:
    """Raises RequestError where there is no store, and StoreError where it is of another schema."""
    if not has_object(store, HEADER):
        raise RequestError(f"{store} is no rhoflow store (it has no {HEADER}): check the path, or build it first")
    record: Any = read_record(store, HEADER)
    if record["schema_version"] != SCHEMA_VERSION:
        raise StoreError(
            f"{store} has schema version {record['schema_version']}, this rhoflow reads {SCHEMA_VERSION}: "
            "use the rhoflow that made it, or build it again"
        )
    origin = Origin(**record["origin"]) if record["origin"] else None
    return Header(record["recipe"], record["recipe_text"], origin)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key in sorted({*old, *new}):
        name = prefix + key
        if name in FREE_KEYS or old.get(key) == new.get(key):
            continue
        if isinstance(old.get(key), Mapping) and isinstance(new.get(key), Mapping):
            yield from _differences(old[key], new[key], f"{name}.")
        else:
            yield name, old.get(key), new.get(key)
