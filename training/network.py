"""The super-resolution network: a guess of the density in, the target density out, on the guess's own cells.

It sees the guess twice, as means over coarse cells and folded cell by cell into features of them, so that all
convolutions run on the coarse grid; what comes out is unfolded to the fine one, as the logarithm of target / guess.
Three properties follow:
* the last layer starts at zero, so an untrained network returns the guess;
* no layer has a bias and every feature of an empty cell is zero: vacuum looks like the padding at a box's faces, so
  that more of it beyond the network's reach changes nothing;
* a density of at least zero stays one.
"""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

RESOLVED = (1e-3, 1e-1)  # densities, as parts of the peak, at which the features go over from linear to logarithmic
GAIN = 4.0  # a feature's value at the peak; with the initial weights below it makes what the layers see of order one
LARGEST_LOG_RATIO = 5.0  # a correction multiplies or divides the guess by at most e⁵


@dataclass(frozen=True)
class Architecture:
    """What a network is, beside its weights."""

    factor: int  # fine cells along an edge of a coarse one
    width: int  # features per coarse cell
    depth: int  # residual blocks
    peak: float  # the input's largest value in the training split, electrons/bohr³


class SuperResolver(nn.Module):
    """Turns guesses, shape (batch, nx, ny, nz) with n divisible by the factor, into densities of the same shape."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        folded, width = architecture.factor**3, architecture.width
        self.enter = _convolution(len(RESOLVED) * (1 + folded), width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(architecture.depth))
        self.leave = _convolution(width, folded)
        nn.init.zeros_(self.leave.weight)

    def forward(self, guess: Tensor) -> Tensor:
        folded = fold(guess, self.architecture.factor)
        densities = torch.cat([folded.mean(dim=1, keepdim=True), folded], dim=1)
        features = self.enter(self.scale(densities))
        for block in self.blocks:
            features = block(features)
        log_ratio = unfold(self.leave(functional.silu(features)), self.architecture.factor)
        return guess * torch.exp(LARGEST_LOG_RATIO * torch.tanh(log_ratio / LARGEST_LOG_RATIO))

    def scale(self, densities: Tensor) -> Tensor:
        """Logarithmic features, 0 in vacuum and `GAIN` at the peak; one set for each resolved density."""
        parts = densities / self.architecture.peak
        return torch.cat([torch.log1p(parts / small) * (GAIN / math.log1p(1 / small)) for small in RESOLVED], dim=1)


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity, which it starts as."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = _convolution(width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, features: Tensor) -> Tensor:
        inner = self.first(functional.silu(features))
        return features + cast(Tensor, self.second(functional.silu(inner)))


def fold(values: Tensor, factor: int) -> Tensor:
    """Fine cells as features of coarse ones: (batch, nx, ny, nz) to (batch, factor³, nx/factor, …)."""
    batch, *shape = values.shape
    x, y, z = (n // factor for n in shape)
    cut = values.reshape(batch, x, factor, y, factor, z, factor)
    return cut.permute(0, 2, 4, 6, 1, 3, 5).reshape(batch, factor**3, x, y, z)


def unfold(features: Tensor, factor: int) -> Tensor:
    """The inverse of `fold`."""
    batch, _, x, y, z = features.shape
    cut = features.reshape(batch, factor, factor, factor, x, y, z)
    return cut.permute(0, 4, 1, 5, 2, 6, 3).reshape(batch, factor * x, factor * y, factor * z)


def predict_density(network: SuperResolver, guess: NDArray[np.float32]) -> NDArray[np.float32]:
    """The density of one box of any shape (nx, ny, nz), holding exactly as many electrons as the guess does there."""
    return conserve_electrons(predict_unscaled(network, guess), guess)


def conserve_electrons(density: NDArray[np.float32], guess: NDArray[np.float32]) -> NDArray[np.float32]:
    """`density` scaled to the sum of `guess`; sums are taken in float64."""
    wanted, summed = guess.sum(dtype=np.float64), density.sum(dtype=np.float64)
    return (density * (wanted / summed if summed else 1.0)).astype(np.float32)


@torch.no_grad()
def predict_unscaled(network: SuperResolver, guess: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network says before its electrons are counted. Vacuum fills the box up to whole coarse cells."""
    factor = network.architecture.factor
    filled = np.pad(guess, [(0, -n % factor) for n in guess.shape])
    device = next(network.parameters()).device
    density = cast(Tensor, network(torch.from_numpy(filled).to(device)[None]))[0]
    return density.cpu().numpy()[tuple(slice(n) for n in guess.shape)]


def _convolution(inputs: int, outputs: int) -> nn.Conv3d:
    """Three cells wide, without bias; its initial weights (He) hold the variance, as there is no normalisation."""
    convolution = nn.Conv3d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution
