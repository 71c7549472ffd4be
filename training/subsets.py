"""Fewer molecules, or samples, than stores have: nested, so that more of them are always the same ones and others."""

import hashlib
from collections.abc import Collection

import numpy as np

from storage.errors import RequestError
from training.catalog import Catalog


def list_groups(catalog: Catalog) -> set[str]:
    return set(map(str, catalog.table["group"]))


def leave_out(catalog: Catalog, known: Collection[str]) -> Catalog:
    """Without these molecules (groups): what validates in one store may be trained on in the next.

    Raises RequestError where none is left.
    """
    left = np.flatnonzero([group not in known for group in catalog.table["group"]])
    if not len(left):
        names = " + ".join(str(one.store) for one in catalog.datasets)
        raise RequestError(
            f"{names}: every validation molecule is trained on too, here or by the model at the start: use stores with "
            "the same [splits]"
        )
    return catalog.take(left)


def choose_molecules(catalog: Catalog, count: int) -> Catalog:
    """All samples of so many molecules (groups), the first by a hash of their names. 0: all.

    Raises RequestError where there are fewer.
    """
    if not count:
        return catalog
    groups = [str(group) for group in catalog.table["group"]]
    ordered = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).digest())
    if count > len(ordered):
        raise RequestError(
            f"molecules = {count}: {' + '.join(str(one.store) for one in catalog.datasets)} has {len(ordered)} "
            "in its training split: ask for so many, or build a store with more"
        )
    chosen = set(ordered[:count])
    return catalog.take(np.flatnonzero([group in chosen for group in groups]))


def choose_samples(catalog: Catalog, count: int) -> Catalog:
    """So many, by a hash of their names: mostly the same ones from a store that has grown. 0: all."""
    if not count:
        return catalog
    chosen = sorted(range(len(catalog)), key=lambda k: hashlib.sha256(catalog.ids[k].encode()).digest())[:count]
    return catalog.take(np.array(sorted(chosen)))
