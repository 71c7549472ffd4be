"""Densities expanded from the wavefunctions that stores keep, those last used in memory.

Kept because expanding, which runs on the CPU whatever the device, costs about as much as voxelizing a small crop there.
"""

from collections import OrderedDict
from threading import Lock

from pipeline.collocation import Expansion, expand_density
from storage.errors import StoreError
from storage.reader import Dataset
from training.catalog import Catalog

EPSILON = 3e-7  # electrons/bohr³, of what is dropped: voxels come within 1e-6 (NMAE) of the exact ones


class KeptExpansions:
    """Two densities of every sample of a catalogue; threads may read at once."""

    def __init__(self, catalog: Catalog, densities: tuple[str, str], kept_bytes: int) -> None:
        """`kept_bytes`: beyond it the sample unused for longest is dropped, and read again when due."""
        self._catalog, self._densities, self._kept_bytes = catalog, densities, kept_bytes
        self._kept: OrderedDict[int, tuple[Expansion, ...]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def read(self, sample: int) -> tuple[Expansion, ...]:
        """Raises StoreError for a periodic state."""
        with self._lock:
            if sample not in self._kept:
                self._kept[sample] = self._expand(sample)
                self._bytes += _count_bytes(self._kept[sample])
            self._kept.move_to_end(sample)
            while self._bytes > self._kept_bytes and len(self._kept) > 1:
                self._bytes -= _count_bytes(self._kept.popitem(last=False)[1])
            return self._kept[sample]

    def _expand(self, sample: int) -> tuple[Expansion, ...]:
        dataset, id = self._catalog.datasets[self._catalog.stores[sample]], self._catalog.ids[sample]
        states = dataset[id].states
        found = {name: states[name] for name in self._densities}
        for name, state in found.items():
            if state.cell is not None:
                raise StoreError(
                    f"{dataset.store}: density {name!r} of {id} is periodic, in a box of {state.cell} bohr, which "
                    'cannot be turned: train on its voxels, with voxels = "stored"'
                )
        return tuple(expand_density(state, EPSILON) for state in found.values())


def _count_bytes(expansions: tuple[Expansion, ...]) -> int:
    return sum(expansion.nbytes for expansion in expansions)


def check_wavefunctions(dataset: Dataset, densities: tuple[str, str]) -> None:
    """Raises StoreError where a density's wavefunctions are not kept."""
    kept = dataset.densities if dataset.attributes["wavefunctions"] else []
    for name in densities:
        if name not in kept:
            raise StoreError(
                f"{dataset.store} keeps no wavefunctions of {name!r}, only of: {', '.join(kept) or 'none'}: train on "
                'its voxels, with voxels = "stored", or build it with wavefunctions = true in [store] of its recipe'
            )
