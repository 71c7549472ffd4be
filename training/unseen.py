"""What is new to a model: it may be judged on that alone, and of what is too new it foresees no error."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.elements import SYMBOLS
from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError, StoreError
from storage.objects import locate
from storage.reader import Dataset, open_dataset
from storage.schema import FloatArray, IntArray
from training.catalog import SAME_SPACING, Catalog, check_meaning, read_catalog
from training.distances import find_strange
from training.trained import Origin

State = tuple[int, int]  # charge, unpaired electrons
Spacing = tuple[float, float, float]

FEW = 3  # distances that are told of a geometry
SAME_GEOMETRY = 0.01  # bohr: two conformers whose distances between atoms all differ by less are one


def explain_doubt(origin: Origin, numbers: IntArray, positions: FloatArray, state: State, spacing: Spacing) -> str:
    """Why no error can be foreseen for a molecule: what training or calibration did not see of it. "" where it can.

    Of atomic numbers (atoms,) and positions (atoms, 3), bohr; its charge and unpaired electrons; edges of a cell, bohr.
    """
    charge, unpaired = state
    unseen = [SYMBOLS[number] for number in sorted({*numbers.tolist()} - {*origin.elements})]
    if charge not in origin.charges:
        unseen.append(f"charge {charge:+d}")
    if unpaired not in origin.unpaired:
        unseen.append(f"{unpaired} unpaired electron" + "s" * (unpaired > 1))
    if origin.distances is not None and not unseen:
        unseen = find_strange(numbers, positions, origin.distances)[:FEW]
    doubts = [f"trained without {', '.join(unseen)}"] if unseen else []
    if not np.allclose(spacing, origin.spacing, rtol=SAME_SPACING, atol=0):  # the validation split's
        doubts.append(f"calibrated on cells of {origin.spacing[0] / BOHR_PER_ANGSTROM:.3g} Å only")
    return "; ".join(doubts)


def check_spacing(origin: Origin, spacing: tuple[float, float, float], where: str) -> None:
    """Raises StoreError where cells differ from those the model was trained on."""
    if not origin.knows_cells(spacing):
        varied = f", up to {100 * origin.spacing_range:g} % narrower or wider" if origin.spacing_range else ""
        raise StoreError(
            f"{where} has cells of {spacing} bohr, the model was trained on cells of {origin.spacing}{varied}: "
            "bring the store to that spacing with `rhoflow voxelize`"
        )


def check_densities(origin: Origin, dataset: Dataset) -> None:
    """Raises StoreError where a store's guess or target is another density than the model's."""
    if origin.recipe:  # runs of earlier versions lack it
        check_meaning(dataset, " + ".join(origin.stores), origin.recipe, (origin.input, origin.target))


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


def check_conformers(catalog: Catalog, origin: Origin, split: str) -> None:
    """Raises StoreError where samples are no conformers of molecules trained on, or the very geometries of these."""
    groups, store = [str(group) for group in catalog.table["group"]], catalog.datasets[0].store
    others = [id for id, group in zip(catalog.ids, groups, strict=True) if group not in set(origin.groups)]
    if others:
        raise StoreError(
            f"{store}: {len(others)} {split} samples are of molecules that the model was not trained on "
            f"({', '.join(others[:5])}): leave out conformers_of_training"
        )
    known = _read_shapes(origin)
    same = [id for k, id in enumerate(catalog.ids) if _is_among(_find_shape(catalog, k), known.get(groups[k], []))]
    if same:
        raise StoreError(
            f"{store}: {len(same)} {split} samples have the very geometries that the model was trained on "
            f"({', '.join(same[:5])}): judge other conformers of these molecules"
        )


def _read_shapes(origin: Origin) -> dict[str, list[FloatArray]]:
    """Of every geometry in the splits that were trained on, by molecule."""
    shapes: dict[str, list[FloatArray]] = {}
    for store in origin.stores:
        for split in open_dataset(locate(store)).table["split"].drop_duplicates():
            if split != "test":
                catalog = read_catalog([locate(store)], split, ())
                for k, group in enumerate(catalog.table["group"]):
                    shapes.setdefault(str(group), []).append(_find_shape(catalog, k))
    return shapes


def _find_shape(catalog: Catalog, sample: int) -> FloatArray:
    """Distances between atoms in ascending order, bohr: the same wherever it lies, however it is turned."""
    positions = catalog.positions_of(sample)
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    return np.sort(distances[np.triu_indices(len(positions), 1)])


def _is_among(shape: FloatArray, known: Sequence[FloatArray]) -> bool:
    return any(len(one) == len(shape) and np.allclose(one, shape, rtol=0, atol=SAME_GEOMETRY) for one in known)


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
