"""What a model may be judged on: molecules it never saw, on cells as wide as those it learnt on."""

from pathlib import Path

import numpy as np

from storage.errors import RequestError, StoreError
from training.catalog import Catalog
from training.trained import Origin


def check_spacing(origin: Origin, spacing: tuple[float, float, float], where: str) -> None:
    """Raises StoreError where cells differ from those the model was trained on."""
    if not np.allclose(spacing, origin.spacing, rtol=1e-6, atol=0):
        raise StoreError(
            f"{where} has cells of {spacing} bohr, the model was trained on cells of {origin.spacing}: "
            "bring the store to that spacing with `rhoflow voxelize`"
        )


def check_unseen(catalog: Catalog, origin: Origin, split: str) -> None:
    """Raises StoreError where samples are of molecules that were trained on."""
    known = set(origin.groups)
    seen = [id for id, group in zip(catalog.ids, catalog.table["group"], strict=True) if group in known]
    if seen:
        raise StoreError(
            f"{catalog.datasets[0].store}: {len(seen)} {split} samples are molecules that the model was trained on "
            f"({', '.join(seen[:5])}): evaluate on the test split of {origin.stores[0]}, or on a store with the same "
            "[splits]"
        )


def check_target(origin: Origin, first: Origin, run: Path) -> None:
    """Raises RequestError where a run learnt another density than the first one."""
    if origin.target != first.target:
        raise RequestError(
            f"{run} learnt to predict {origin.target!r}, not {first.target!r}: name runs beside each other that have "
            "the same target"
        )


def check_turnable(catalog: Catalog, density: str) -> None:
    """Raises StoreError where molecules cannot be turned: no wavefunctions are kept, or their density is periodic."""
    dataset = catalog.datasets[0]
    if not dataset.attributes["wavefunctions"] or density not in dataset.densities:
        raise StoreError(
            f"{dataset.store} keeps no wavefunctions of {density!r}, from which turned molecules are made: leave out "
            "--rotations, or build the store with wavefunctions = true in [store] of its recipe"
        )
    name = f"{density}_cell_x_bohr"
    if name in catalog.table and catalog.table[name].notna().any():
        raise StoreError(
            f"{dataset.store}: density {density!r} is periodic, and a molecule in a periodic box cannot be turned: "
            "leave out --rotations"
        )
