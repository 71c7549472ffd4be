"""What a network says of one box, of whatever shape."""

import numpy as np
import torch
from numpy.typing import NDArray

from training.models.build import Network
from training.models.electrons import conserve_electrons


def predict_density(
    network: Network, guess: NDArray[np.float32], electrons: float, volume: float
) -> NDArray[np.float32]:
    """The density of a box, shape (nx, ny, nz), electrons/bohr³, that holds `electrons` on cells of `volume` bohr³."""
    return conserve_electrons(predict_uncorrected(network, guess), guess, electrons, volume)


@torch.no_grad()
def predict_uncorrected(network: Network, guess: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network says before its electrons are counted. Vacuum fills the box up to the network's multiple."""
    filled = np.pad(guess, [(0, -n % network.multiple) for n in guess.shape])
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    density: NDArray[np.float32] = network(torch.from_numpy(filled).to(device)[None])[0].cpu().numpy()
    network.train(training)
    return density[tuple(slice(n) for n in guess.shape)]
