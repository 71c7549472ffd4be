"""The published super-resolution network: Li, Sharir, Yuan and Chan, arXiv 2402.12335 (Nature Communications 2025).

It is told the density on coarse cells, and says all of the density on fine ones. Every convolution wraps around the
box, every normalisation is over the box, and the output is scaled to the electrons of the input: it is made for whole
boxes, not for crops of them. The coarse input, for which the authors took every second point, is here the mean over
factor³ cells, so that its sum, to which the output is scaled by their rule, is that of the guess.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from training.models.folding import fold

SMALLEST = 1e-12  # of an output's sum, electrons/bohr³: an output of zeros stays one
KERNEL = 5  # cells along an edge, of every convolution
LIVE_BYTES = 24  # for each feature of the fine cells, the most that a prediction has in memory at once
STRETCH = 2  # of each axis, by one pixel shuffle


@dataclass(frozen=True)
class PublishedArchitecture:
    """The defaults are the published setting."""

    factor: int = 2  # fine cells along an edge of a coarse one: a power of two
    width: int = 32  # features
    blocks: int = 32  # residual ones
    fine_inputs: bool = False  # also told the guess on the fine cells, as factor³ features of the coarse ones


class PublishedNetwork(nn.Module):
    """Turns guesses, shape (batch, nx, ny, nz) with n divisible by `multiple`, into densities of the same shape."""

    def __init__(self, architecture: PublishedArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.multiple = architecture.factor
        self.reach = None  # it sees all of a box
        self.cell_bytes = LIVE_BYTES * architecture.width
        width, inputs = architecture.width, 1 + architecture.fine_inputs * architecture.factor**3
        shuffles = (architecture.factor // STRETCH).bit_length()
        self.enter = nn.Sequential(_convolution(inputs, width), nn.PReLU())
        self.blocks = nn.Sequential(*(PublishedBlock(width) for _ in range(architecture.blocks)))
        self.gather = nn.Sequential(_convolution(width, width), nn.InstanceNorm3d(width))
        self.refine = nn.Sequential(*(_refinement(width) for _ in range(shuffles)))
        self.leave = nn.Sequential(_convolution(width, 1), nn.ReLU())

    def forward(self, guess: Tensor) -> Tensor:
        folded = fold(guess, self.architecture.factor)
        coarse = folded.mean(dim=1, keepdim=True)
        inputs = torch.cat([coarse, folded], dim=1) if self.architecture.fine_inputs else coarse
        entered = self.enter(inputs)
        features = entered + self.gather(self.blocks(entered))
        density = cast(Tensor, self.leave(self.refine(features)))[:, 0]
        return density * (_sum_boxes(guess) / _sum_boxes(density).clamp(min=SMALLEST))


class PublishedBlock(nn.Module):
    """Two normalised convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _convolution(width, width),
            nn.InstanceNorm3d(width),
            nn.PReLU(),
            _convolution(width, width),
            nn.InstanceNorm3d(width),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + cast(Tensor, self.inner(features))


class PixelShuffle(nn.Module):
    """Eight features of a cell become one of its eight parts: (batch, 8·c, x, y, z) to (batch, c, 2x, 2y, 2z)."""

    def forward(self, features: Tensor) -> Tensor:
        batch, folded, x, y, z = features.shape
        cut = features.reshape(batch, folded // STRETCH**3, STRETCH, STRETCH, STRETCH, x, y, z)
        return cut.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, -1, STRETCH * x, STRETCH * y, STRETCH * z)


def _refinement(width: int) -> nn.Sequential:
    """From cells to cells half as wide."""
    folded = width * STRETCH**3
    return nn.Sequential(_convolution(width, folded), nn.InstanceNorm3d(folded), PixelShuffle(), nn.PReLU())


def _convolution(inputs: int, outputs: int) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, KERNEL, padding="same", padding_mode="circular")


def _sum_boxes(values: Tensor) -> Tensor:
    return values.sum(dim=(1, 2, 3), keepdim=True)
