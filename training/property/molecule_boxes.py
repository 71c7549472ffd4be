"""What the controls see instead of voxels: a molecule's atoms, or the fingerprint of its graph."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.units import ANGSTROM_PER_BOHR
from storage.errors import RequestError
from storage.schema import FloatArray
from training.batch import Batch, Draw
from training.catalog import Catalog
from training.property.channel_boxes import label_batch


class AtomBoxes:
    """Atoms with labels: (batch, atoms, 4) atomic number and x, y, z in Å; rows of 0 fill up smaller molecules."""

    def __init__(self, catalog: Catalog, labels: FloatArray) -> None:
        self.catalog, self.labels = catalog, labels

    def read(self, draws: Sequence[Draw]) -> Batch:
        samples = [draw.sample for draw in draws]
        atoms = np.zeros((len(draws), int(self.catalog.atoms[samples].max()), 4), dtype=np.float32)
        for place, sample in zip(atoms, samples, strict=True):
            count = int(self.catalog.atoms[sample])
            place[:count, 0] = self.catalog.numbers_of(sample)
            place[:count, 1:] = self.catalog.positions_of(sample) * ANGSTROM_PER_BOHR
        return label_batch(self.catalog, self.labels, draws, torch.from_numpy(atoms))


class FingerprintBoxes:
    """Fingerprints with labels, (batch, bits)."""

    def __init__(self, catalog: Catalog, labels: FloatArray) -> None:
        """Raises RequestError where RDKit is not installed, or cannot read a molecule's SMILES."""
        self.catalog, self.labels = catalog, labels
        self.fingerprints = make_fingerprints([str(smiles) for smiles in catalog.table["smiles"]])

    def read(self, draws: Sequence[Draw]) -> Batch:
        values = self.fingerprints[[draw.sample for draw in draws]]
        return label_batch(self.catalog, self.labels, draws, torch.from_numpy(values))


def make_fingerprints(smiles: Sequence[str]) -> NDArray[np.float32]:
    try:
        from pipeline.fingerprints import morgan_fingerprints
    except ImportError as error:
        raise RequestError(
            "models of fingerprints need RDKit, which `rhoflow train` does without otherwise: "
            "run `pip install 'rhoflow[chemistry]'`"
        ) from error
    return morgan_fingerprints(smiles)
