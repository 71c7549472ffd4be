"""Morgan fingerprints: which surroundings of atoms a molecular graph has."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator

from storage.errors import RequestError

RADIUS, BITS = 2, 2048


def morgan_fingerprints(smiles: Sequence[str]) -> NDArray[np.float32]:
    """How often each hashed surrounding of up to two bonds occurs, shape (molecules, 2048).

    Raises RequestError where there is no graph, or RDKit cannot read it.
    """
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    return np.array([generator.GetCountFingerprintAsNumPy(_read_graph(one)) for one in smiles], dtype=np.float32)


def _read_graph(smiles: str) -> Chem.Mol:
    with rdBase.BlockLogs():
        graph = Chem.MolFromSmiles(smiles) if smiles else None
    if graph is None:
        raise RequestError(
            f"SMILES {smiles!r} cannot be read, so it has no fingerprint: give the source's molecules as graphs"
        )
    return graph
