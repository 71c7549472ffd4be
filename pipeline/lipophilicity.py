"""Octanol-water partition of molecular graphs: Wildman & Crippen, J. Chem. Inf. Comput. Sci. 39, 868 (1999)."""

from collections.abc import Sequence

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdMolDescriptors

from storage.schema import FloatArray


def crippen_logp(smiles: Sequence[str]) -> FloatArray:
    """Shape (molecules,); NaN where there is no graph, or RDKit cannot read it."""
    with rdBase.BlockLogs():
        graphs = [Chem.MolFromSmiles(one) if one else None for one in smiles]
    return np.array([np.nan if one is None else rdMolDescriptors.CalcCrippenDescriptors(one)[0] for one in graphs])
