"""What a network says of one box, of whatever shape and size."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.failures import TooLarge
from training.models.build import Network
from training.models.electrons import conserve_electrons
from training.models.tiles import GIB, cut_tiles
from training.symmetries import turn, turn_back

WHOLE_BYTES = 60  # of each cell of a box, however it is cut: guess, what is said of it, mean, electrons (measured)
TURNS = (0, 12, 22, 35)  # of the 48 symmetries: what a network says of a turned box ought to be the same


@dataclass(frozen=True)
class Prediction:
    """The mean of what a network says of a box that is turned, and how far it contradicts itself."""

    density: NDArray[np.float32]  # (nx, ny, nz), electrons/bohr³
    spread: float  # mean over the turns of Σ|ρ_turn − ρ| / Σρ


def predict_density(
    network: Network, guess: NDArray[np.float32], electrons: float, volume: float
) -> NDArray[np.float32]:
    """The density of a box, shape (nx, ny, nz), electrons/bohr³, that holds `electrons` on cells of `volume` bohr³."""
    return conserve_electrons(predict_uncorrected(network, guess), guess, electrons, volume)


def predict_turned(
    network: Network, guess: NDArray[np.float32], electrons: float, volume: float, memory: float = math.inf
) -> Prediction:
    """The same, as a mean over `TURNS`, which is nearer to the truth than either of them.

    In tiles where more than `memory` bytes were needed. Raises TooLarge where even tiles need more.
    """
    left = memory - WHOLE_BYTES * guess.size
    if left <= 0:
        cells, needed = " x ".join(map(str, guess.shape)), WHOLE_BYTES * guess.size / GIB
        raise TooLarge(f"the densities alone of a box of {cells} cells need {needed:.1f} GiB: give --memory-gib")
    said = [turn_back(predict_uncorrected(network, turn(guess, symmetry), left), symmetry) for symmetry in TURNS]
    mean = np.mean(said, axis=0)
    spread = np.mean([np.abs(one - mean).sum(dtype=np.float64) for one in said])
    density = conserve_electrons(mean, guess, electrons, volume)
    return Prediction(density, volume * float(spread) / electrons)


@torch.no_grad()
def predict_uncorrected(network: Network, guess: NDArray[np.float32], memory: float = math.inf) -> NDArray[np.float32]:
    """What the network says before its electrons are counted, in tiles where the box needs more bytes than `memory`.

    Vacuum fills the box up to the network's multiple. Raises TooLarge where even tiles need more.
    """
    filled = np.pad(guess, [(0, -n % network.multiple) for n in guess.shape])
    tiles = cut_tiles(network, filled.shape, memory)
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    density = np.zeros_like(filled)
    for tile in tiles:
        shown = np.ascontiguousarray(filled[tile.shown])
        if shown.any():
            density[tile.wanted] = network(torch.from_numpy(shown).to(device)[None])[0].cpu().numpy()[tile.kept]
    network.train(training)
    return density[tuple(slice(n) for n in guess.shape)]
