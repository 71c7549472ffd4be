"""A predicted density gets its right number of electrons back, where they are most likely amiss.

This costs no accuracy, which `rhoflow evaluate` tells of any model: of the one that comes along, on its 131 test
samples, the mean NMAE is 0.8578 % before and 0.8566 % after, where each lacked or had too much 0.028 electrons.
Weights of ρ, √ρ, |Δρ|, √(ρ|Δρ|) or ρ/(ρ + 0.01) did as well within 0.5 % for a smaller model; with √ρ and ρ/(ρ + c)
its errors of dipoles were 4 to 8 %, and of quadrupoles 10 to 13 % larger, on 17 validation molecules.
"""

import numpy as np
from numpy.typing import NDArray

UNCHANGED = 1e-3  # of its density, what a cell that the network left alone takes part with


def conserve_electrons(
    density: NDArray[np.float32], guess: NDArray[np.float32], electrons: float, volume: float
) -> NDArray[np.float32]:
    """`density`, electrons/bohr³ on cells of `volume` bohr³, with what it lacks of `electrons` added in proportion to
    the change from `guess`, but never so much taken that a cell becomes negative. Sums are taken in float64.
    """
    change = electrons - volume * float(density.sum(dtype=np.float64))
    for weights in (_weigh_changes(density, guess), np.maximum(density, 0).astype(np.float64)):
        held = volume * float(weights.sum())
        if held > 0 and change > -held:  # the weights are no larger than the density
            return (density + weights * (change / held)).astype(np.float32)
    return density


def _weigh_changes(density: NDArray[np.float32], guess: NDArray[np.float32]) -> NDArray[np.float64]:
    present, before = np.maximum(density, 0).astype(np.float64), np.maximum(guess, 0).astype(np.float64)
    parts = np.abs(present - before) / np.maximum(present + before, np.finfo(np.float64).tiny)
    return present * (parts + UNCHANGED) / (1 + UNCHANGED)
