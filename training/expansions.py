"""Densities expanded from the wavefunctions that stores keep, in memory while there is room for them.

Kept because expanding, which runs on the CPU whatever the device, costs about as much as voxelizing a small crop there.
"""

import numpy as np

from pipeline.collocation import Expansion, expand_density
from storage.errors import StoreError
from storage.layout import class_key
from storage.reader import Dataset
from storage.schema import ElectronicState
from training.catalog import Catalog
from training.kept import Kept

EPSILON = 3e-7  # electrons/bohr³, of what is dropped: voxels come within 1e-6 (NMAE) of the exact ones


class Expansions:
    """Two densities of every sample of a catalogue; threads may read at once."""

    def __init__(self, catalog: Catalog, densities: tuple[str, str], kept_bytes: int) -> None:
        """`kept_bytes`: what finds no room in it is read again when due."""
        self._catalog, self._densities = catalog, densities
        self.kept = Kept[int, tuple[Expansion, ...]](kept_bytes)

    def read(self, sample: int) -> tuple[Expansion, ...]:
        """Raises StoreError for a periodic state, and where the sample is damaged."""
        known = self.kept.find(sample)
        if known:
            return known
        expanded = self._expand(sample)
        self.kept.add(sample, sum(expansion.nbytes for expansion in expanded), lambda: expanded)
        return expanded

    def _expand(self, sample: int) -> tuple[Expansion, ...]:
        dataset, id = self._catalog.datasets[self._catalog.stores[sample]], self._catalog.ids[sample]
        for name, state in (found := self._read_states(dataset, id)).items():
            if state.cell is not None:
                raise StoreError(
                    f"{dataset.store}: density {name!r} of {id} is periodic, in a box of {state.cell} bohr, which "
                    'cannot be turned: train on its voxels, with voxels = "stored"'
                )
        return tuple(expand_density(state, EPSILON) for state in found.values())

    def _read_states(self, dataset: Dataset, id: str) -> dict[str, ElectronicState]:
        try:
            states = dataset[id].states
            found = {name: states[name] for name in self._densities}
        except (ValueError, RuntimeError) as error:  # checksums; and what cannot be decompressed
            raise _explain(dataset, id, f"are damaged ({error})") from error
        for name, state in found.items():
            if not np.isfinite(state.orbitals).all():  # zarr-python's answer where nothing is stored
                raise _explain(dataset, id, f"are missing ({name})")
        return found


def _explain(dataset: Dataset, id: str, fault: str) -> StoreError:
    cells, sample = (int(dataset.table[key][id]) for key in ("cells", "sample"))
    place = f"{dataset.store}/{class_key(cells)}, shard {sample // dataset.shard_samples(cells)}"
    remedy = f"`rhoflow verify {dataset.store} --repair` computes them again"
    return StoreError(f"{place}: wavefunctions of sample {id!r} {fault}: {remedy}")


def check_wavefunctions(dataset: Dataset, densities: tuple[str, str]) -> None:
    """Raises StoreError where a density's wavefunctions are not kept."""
    kept = dataset.densities if dataset.attributes["wavefunctions"] else []
    for name in densities:
        if name not in kept:
            raise StoreError(
                f"{dataset.store} keeps no wavefunctions of {name!r}, only of: {', '.join(kept) or 'none'}: train on "
                'its voxels, with voxels = "stored", or build it with wavefunctions = true in [store] of its recipe'
            )
