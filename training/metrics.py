"""How far one density is from another."""

import numpy as np
from numpy.typing import NDArray


def nmae(density: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Σ|ρ − ρ_reference| / Σρ_reference of one box, summed in float64."""
    difference = np.abs(density.astype(np.float64) - reference).sum()
    return float(difference / reference.sum(dtype=np.float64))
