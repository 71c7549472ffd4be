"""The network of voxels: fields in a cube become properties, by convolutions on wider and wider cells.

After the published baselines for voxels (3-D residual networks: convolutions of 3³, steps of 2, pooling over the cube),
the same for every stack of fields but for the layers that meet the fields. No convolution has a bias and there is no
normalisation, so that vacuum stays zero. Of each feature f of each level, and of each field itself, the cube is pooled
to Σf, |Σ f r|, Σ f r² and max f, with r from the centre of the fields: numbers that change neither with a quarter-turn
nor with the molecule's place in the cube, and that say where in the molecule a feature is, the finer the level the
better. A linear layer makes the properties of them, beside one with a hidden layer; both start at zero.

What they make is added to a guess: a linear model of the fields' bands of lengths, fitted before the first step and
kept as it is. An untrained network predicts that guess; in training mode it gives what it adds to the guess alone.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.bands import BANDS, LinearGuess, split_bands
from training.models.unet import ResidualBlock

SMALLEST = 1e-6  # spread of a pooled number
TINY = 1e-12  # below a root, whose slope at zero is none
POOLED = 4  # numbers that each feature is pooled to
RESOLVED = 1e-3  # of a field's largest value: where the logarithmic scalings go over to linear ones


@dataclass(frozen=True)
class VoxelArchitecture:
    """What the network is, beside its weights."""

    scalings: tuple[str, ...]  # of each field: none, root, log or depth
    peaks: tuple[float, ...]  # its largest value in the training split; 1 of a depth
    gains: tuple[float, ...]  # of the scaled field
    cells: int  # along an edge of the cube, in training
    width: int
    depth: int
    levels: int
    outputs: int


class VoxelNetwork(nn.Module):
    """Turns fields, (batch, fields, n, n, n) with n divisible by 2^levels, into (batch, outputs)."""

    def __init__(self, architecture: VoxelArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = [architecture.width * 2**level for level in range(architecture.levels)]
        self.enter = nn.Conv3d(len(architecture.peaks), widths[0], kernel_size=4, stride=2, padding=1, bias=False)
        self.levels = nn.ModuleList()
        for level, width in enumerate(widths):
            coarsening = [nn.SiLU(), nn.Conv3d(widths[level - 1], width, kernel_size=2, stride=2, bias=False)]
            blocks = [ResidualBlock(width) for _ in range(architecture.depth)]
            self.levels.append(nn.Sequential(*(coarsening if level else []), *blocks))
        self.centre: Tensor
        self.spread: Tensor
        pooled = POOLED * (sum(widths) + len(architecture.peaks))
        self.register_buffer("centre", torch.zeros(pooled))
        self.register_buffer("spread", torch.ones(pooled))
        last = nn.Linear(widths[-1], architecture.outputs)
        self.leave = nn.Sequential(nn.Linear(pooled, widths[-1]), nn.SiLU(), last)
        self.straight = nn.Linear(pooled, architecture.outputs, bias=False)
        nn.init.zeros_(self.straight.weight)
        for part in self.modules():
            if isinstance(part, nn.Conv3d) and part.weight.any():
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        scaled = sum(scaling != "none" for scaling in architecture.scalings)
        self.guess = LinearGuess(POOLED * BANDS * (len(architecture.peaks) + scaled), architecture.outputs)
        self.reach: Tensor
        self.register_buffer("reach", torch.ones(architecture.outputs))  # how far the guess is off

    def forward(self, fields: Tensor) -> Tensor:
        pooled = (self.pool(fields) - self.centre) / self.spread
        added: Tensor = (self.leave(pooled) + self.straight(pooled)) * self.reach
        return added if self.training else added + self.guess(self.describe(fields))

    @torch.no_grad()
    def describe(self, fields: Tensor) -> Tensor:
        """Pooled bands of the fields, and of the scaled ones where that is not the same: (batch, numbers)."""
        parts, edge = self._divide(fields), self.architecture.cells
        changed = [field for field, scaling in enumerate(self.architecture.scalings) if scaling != "none"]
        centre = find_centre(parts, edge)
        different = torch.cat([parts, self.scale(fields)[:, changed]], dim=1)
        pooled = [pool(split_bands(field[:, None]), edge, centre) for field in different.unbind(dim=1)]  # one in memory
        return torch.cat(pooled, dim=1)

    def pool(self, fields: Tensor) -> Tensor:
        """The fields, and what the convolutions make of them, (batch, 4 × (fields + features of all levels))."""
        parts, edge = self._divide(fields), self.architecture.cells
        gains = fields.new_tensor(self.architecture.gains)[:, None, None, None]
        centre = find_centre(parts, edge)
        pooled, features = [pool(parts, edge, centre)], self.enter(self.scale(fields) * gains)
        for number, level in enumerate(self.levels, start=1):
            features = level(features)
            pooled.append(pool(functional.silu(features), edge / 2**number, centre))
        return torch.cat(pooled, dim=1)

    @torch.no_grad()
    def standardise(self, samples: Iterable[Tensor]) -> None:
        """Lets each pooled number vary by about one from molecule to molecule, given the fields of some of them.

        One that is the same in all of them, as of an element that none has, stays as it is.
        """
        pooled = torch.cat([self.pool(fields) for fields in samples])
        spread = pooled.std(dim=0, correction=0)
        self.centre.copy_(pooled.mean(dim=0))
        self.spread.copy_(torch.where(spread > SMALLEST, spread, 1.0))

    def scale(self, fields: Tensor) -> Tensor:
        """Parts of their peaks u: u, √u, log(1 + u/ε)/log(1 + 1/ε) or log(1 − (1 − ε)u)/log(ε), with ε = 10⁻³.

        Each is 0 in vacuum and 1 at the peak, and −1 at minus the peak, as in maps. The last (depth) is nearly the sum
        over atoms of what a smooth union of them, 1 − Π(1 − o), is made from.
        """
        parts = self._divide(fields)
        scaled = (_scale(parts[:, field], scaling) for field, scaling in enumerate(self.architecture.scalings))
        return torch.stack(list(scaled), dim=1)

    def _divide(self, fields: Tensor) -> Tensor:
        return fields / fields.new_tensor(self.architecture.peaks)[:, None, None, None]


def find_centre(parts: Tensor, edge: float) -> Tensor:
    """The centre of the absolute values of fields, (batch, fields, n, n, n): (batch, 3), in halves of `edge` cells."""
    along = _lay_out(parts, edge)
    sums = parts.abs().sum(dim=1).flatten(1) @ torch.stack([torch.ones_like(along[0]), *along]).T
    return sums[:, 1:] / sums[:, :1].clamp(min=TINY)


def pool(features: Tensor, edge: float, centre: Tensor) -> Tensor:
    """(batch, features, n, n, n) to (batch, 4 × features); lengths from the centre, (batch, 3), in halves of `edge`."""
    x, y, z = _lay_out(features, edge)
    weights = torch.stack([torch.ones_like(x), x, y, z, x * x + y * y + z * z])
    sums = features.flatten(2) @ weights.T / edge**3
    whole, first, second, middle = sums[..., :1], sums[..., 1:4], sums[..., 4:], centre[:, None]
    vector = torch.sqrt((first - whole * middle).square().sum(dim=-1) + TINY)
    spread = second - 2 * (first * middle).sum(dim=-1, keepdim=True) + whole * middle.square().sum(dim=-1, keepdim=True)
    return torch.cat([whole[..., 0], vector, spread[..., 0], features.amax(dim=(2, 3, 4))], dim=1)


def _lay_out(fields: Tensor, edge: float) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and z of every cell from the middle of the cube, in halves of `edge` cells: (n³,) each."""
    along = [(torch.arange(n, device=fields.device) - (n - 1) / 2) / (edge / 2) for n in fields.shape[2:]]
    x, y, z = torch.meshgrid(*(one.to(fields.dtype) for one in along), indexing="ij")
    return x.flatten(), y.flatten(), z.flatten()


def _scale(parts: Tensor, scaling: str) -> Tensor:
    match scaling:
        case "none":
            return parts
        case "root":
            return parts.sign() * parts.abs().sqrt()
        case "log":
            return parts.sign() * torch.log1p(parts.abs() / RESOLVED) / math.log1p(1 / RESOLVED)
        case "depth":
            return torch.log1p((RESOLVED - 1) * parts.clamp(max=1)) / math.log(RESOLVED)
    raise ValueError(f"no scaling is called {scaling!r}")


def round_up(cells: int, levels: int) -> int:
    """To what the network's steps divide."""
    step = 1 << levels
    return -(-cells // step) * step
