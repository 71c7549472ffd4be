"""Densities expanded from the wavefunctions that stores keep, those last used in memory.

Kept because expanding, which runs on the CPU whatever the device, costs about as much as voxelizing a small crop there.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from pipeline.collocation import Expansion, expand_density
from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import StoreError
from storage.reader import Dataset
from storage.schema import FloatArray, Sampling

EPSILON = 3e-7  # electrons/bohr³, of what is dropped: voxels come within 1e-6 (NMAE) of the exact ones
KEPT_BYTES = 2 * 2**30  # beyond it the sample unused for longest is dropped, and read again when due


@dataclass(frozen=True)
class Molecule:
    """A sample's two densities, ready for any grid."""

    positions: FloatArray  # (atoms, 3), bohr
    margin: float  # of the store's boxes, bohr
    densities: tuple[Expansion, Expansion]

    @property
    def nbytes(self) -> int:
        return self.positions.nbytes + sum(density.nbytes for density in self.densities)


class Molecules:
    """Those last used stay in memory; threads may read at once."""

    def __init__(self, densities: tuple[str, str]) -> None:
        self._densities = densities
        self._kept: OrderedDict[tuple[str, str], Molecule] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def read(self, dataset: Dataset, id: str) -> Molecule:
        with self._lock:
            key = (str(dataset.store), id)
            if key not in self._kept:
                self._kept[key] = self._expand(dataset, id)
                self._bytes += self._kept[key].nbytes
            self._kept.move_to_end(key)
            while self._bytes > KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
            return self._kept[key]

    def _expand(self, dataset: Dataset, id: str) -> Molecule:
        sample = dataset[id]
        guess, target = (sample.states[name] for name in self._densities)
        for name, state in zip(self._densities, (guess, target), strict=True):
            if state.cell is not None:
                raise StoreError(
                    f"{dataset.store}: density {name!r} of {id} is periodic, in a box of {state.cell} bohr, which "
                    'cannot be turned: train on its voxels, with voxels = "stored"'
                )
        margin = dataset.attributes["recipe"]["grid"]["margin_angstrom"] * BOHR_PER_ANGSTROM
        return Molecule(sample.positions, margin, (expand_density(guess, EPSILON), expand_density(target, EPSILON)))


def check_wavefunctions(dataset: Dataset, densities: tuple[str, str]) -> None:
    """Raises StoreError where a density's wavefunctions are not kept."""
    kept = dataset.densities if dataset.attributes["wavefunctions"] else []
    for name in densities:
        if name not in kept:
            raise StoreError(
                f"{dataset.store} keeps no wavefunctions of {name!r}, only of: {', '.join(kept) or 'none'}: train on "
                'its voxels, with voxels = "stored", or build it with wavefunctions = true in [store] of its recipe'
            )


def agree_on_sampling(datasets: Sequence[Dataset]) -> Sampling:
    """How all of the stores sample. Raises StoreError naming them where they differ."""
    said = {str(dataset.store): dataset.attributes["recipe"]["grid"]["sampling"] for dataset in datasets}
    if len(set(said.values())) > 1:
        raise StoreError(
            f"{', '.join(f'{store} samples by {kind}' for store, kind in said.items())}: train on stores of one kind, "
            "or bring one to the other's with `rhoflow voxelize --sampling`"
        )
    return next(iter(said.values()))
