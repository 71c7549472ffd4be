"""Our network: it learns what a guess of the density lacks, on the guess's own cells, in a box of any size.

It sees the guess twice, as means over coarse cells and folded cell by cell into features of them, so that all
convolutions run on coarse cells, and with more than one level on wider ones too, where the surroundings are cheap to
see; what comes out is unfolded to the fine cells, as the change from guess to target in parts of the guess, above −1.
Three properties follow:
* the last layer starts at zero, so an untrained network returns the guess;
* no layer has a bias and every feature of an empty cell is zero: vacuum looks like the padding at a box's faces, so
  that more of it beyond the network's reach changes nothing;
* a density of at least zero stays one.
The price: where the guess has no density there is none. GFN2-xTB's valence functions end some 3 Å from the nuclei;
`rhoflow evaluate` says what that costs by distance (of the model that comes along: 0.7 % of its error).
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.folding import fold, unfold

RESOLVED = (1e-3, 1e-1)  # densities, as parts of the peak, at which the features go over from linear to logarithmic
GAIN = 4.0  # a feature's value at the peak; with the initial weights below it makes what the layers see of order one
# The most that a prediction takes for a fine cell, and for a coarse cell's feature, on a CPU, where one box is two.
CELL_BYTES, FEATURE_BYTES = 128, 48


@dataclass(frozen=True)
class UNetArchitecture:
    """What our network is, beside its weights."""

    factor: int  # fine cells along an edge of a coarse one
    width: int  # features of a coarse cell; cells twice as wide have twice as many
    depth: int  # residual blocks on the way down and up again, at each width of cells
    peak: float  # the input's largest value in the training split, electrons/bohr³
    levels: int  # widths of cells: coarse ones, twice as wide, …


class UNet(nn.Module):
    """Turns guesses, shape (batch, nx, ny, nz) with n divisible by `multiple`, into densities of the same shape."""

    def __init__(self, architecture: UNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.multiple = architecture.factor * 2 ** (architecture.levels - 1)
        self.reach = _round_up(architecture.factor * (_find_reach(architecture) + 2), self.multiple)
        self.cell_bytes = CELL_BYTES + FEATURE_BYTES * architecture.width / architecture.factor**3
        folded, width = architecture.factor**3, architecture.width
        self.enter = _convolution(len(RESOLVED) * (1 + folded), width)
        self.levels = Level(width, architecture.depth, architecture.levels)
        self.leave = _convolution(width, folded)
        nn.init.zeros_(self.leave.weight)

    def forward(self, guess: Tensor) -> Tensor:
        if len(guess) == 1 and guess.device.type == "cpu":  # PyTorch's convolutions of one box are 5 times slower
            return self.correct(guess.expand(2, -1, -1, -1))[:1]
        return self.correct(guess)

    def correct(self, guess: Tensor) -> Tensor:
        folded = fold(guess, self.architecture.factor)
        densities = torch.cat([folded.mean(dim=1, keepdim=True), folded], dim=1)
        features = self.levels(self.enter(self.scale(densities)))
        change = unfold(self.leave(functional.silu(features)), self.architecture.factor)
        return guess + guess * functional.elu(change)

    def scale(self, densities: Tensor) -> Tensor:
        """Logarithmic features, 0 in vacuum and `GAIN` at the peak; one set for each resolved density."""
        parts = densities / self.architecture.peak
        return torch.cat([torch.log1p(parts / small) * (GAIN / math.log1p(1 / small)) for small in RESOLVED], dim=1)


class Level(nn.Module):
    """Blocks on cells of one width, with all wider cells between them."""

    def __init__(self, width: int, depth: int, levels: int) -> None:
        super().__init__()
        self.before = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
        if levels == 1:
            self.wider = None
            return
        self.down = _convolution(width, 2 * width, kernel=2, stride=2)
        self.wider = Level(2 * width, depth, levels - 1)
        self.up = nn.ConvTranspose3d(2 * width, width, kernel_size=2, stride=2, bias=False)
        nn.init.zeros_(self.up.weight)
        self.after = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))

    def forward(self, features: Tensor) -> Tensor:
        features = self.before(features)
        if self.wider is None:
            return features
        return cast(Tensor, self.after(features + self.up(self.wider(self.down(features)))))


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


def _find_reach(architecture: UNetArchitecture) -> int:
    """Coarse cells that the levels see beyond a cell, along each axis."""
    reach, blocks = 0, 2 * architecture.depth  # of two convolutions each, on a level's way down, and again up
    for level in range(architecture.levels):
        reach = blocks if level == 0 else blocks + (2 * reach + 1) + blocks
    return reach


def _round_up(cells: int, multiple: int) -> int:
    return -(-cells // multiple) * multiple


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv3d:
    """Without bias; its initial weights (He) hold the variance, as there is no normalisation."""
    padding = kernel // 2 if stride == 1 else 0
    convolution = nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution
