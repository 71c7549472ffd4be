"""Fields split into bands of lengths, and what a linear model makes of them: the guess that a network starts from.

A field's differences of Gaussians tell apart what is narrow and what is wide. Their sizes and products, pooled over the
cube, are numbers that no quarter-turn changes, and of which properties are nearly linear functions, as of the wavelets'
in Eickenberg et al., J. Chem. Phys. 148, 241732 (2018).
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (1.0, 1.7, 2.6)  # of the Gaussians, in cells
NOISE = 1e-5  # of a number's largest value: below that it is the same in all molecules
BANDS = 1 + len(WIDTHS) + len(WIDTHS) * (len(WIDTHS) + 1) // 2  # fields that each field is turned into


def split_bands(fields: Tensor) -> Tensor:
    """(batch, fields, n, n, n) to (batch, 10 × fields, n, n, n): f, |b| of its bands, and products of each two bands.

    The bands are f − f₁, f₁ − f₂ and f₂ − f₃, where fₖ is f averaged with a Gaussian of the k-th width; vacuum is
    beyond the cube.
    """
    levels = [fields, *(blur(fields, width) for width in WIDTHS)]
    bands = [fine - coarse for fine, coarse in itertools.pairwise(levels)]
    products = [one * other for number, one in enumerate(bands) for other in bands[: number + 1]]
    return torch.cat([fields, *(band.abs() for band in bands), *products], dim=1)


def blur(fields: Tensor, width: float) -> Tensor:
    """Averages with a Gaussian whose standard deviation is `width` cells."""
    for _ in range(3):  # along the last axis, which then becomes the first of the three
        cells = torch.arange(fields.shape[-1], device=fields.device, dtype=fields.dtype)
        weights = torch.exp(-((cells[:, None] - cells) ** 2) / (2 * width**2)) / (width * math.sqrt(2 * math.pi))
        fields = (fields @ weights).movedim(-1, 2)
    return fields


class LinearGuess(nn.Module):
    """Turns the numbers that describe fields, (batch, numbers), into (batch, outputs); zero until it is fitted."""

    def __init__(self, numbers: int, outputs: int) -> None:
        super().__init__()
        self.centre: Tensor
        self.spread: Tensor
        self.weights: Tensor
        self.bias: Tensor
        self.register_buffer("centre", torch.zeros(numbers))
        self.register_buffer("spread", torch.ones(numbers))
        self.register_buffer("weights", torch.zeros(outputs, numbers))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, described: Tensor) -> Tensor:
        return functional.linear(self.standardise(described), self.weights, self.bias)

    def standardise(self, described: Tensor) -> Tensor:
        return (described - self.centre) / self.spread

    def measure(self, described: Tensor) -> None:
        """Lets each number vary by one from molecule to molecule; one that is the same in all stays as it is."""
        spread = described.std(dim=0, correction=0)
        self.centre.copy_(described.mean(dim=0))
        self.spread.copy_(torch.where(spread > NOISE * described.abs().amax(dim=0), spread, 1.0))
