"""Neural fields: periodic layers of position, modulated by a second network of a molecule's latents.

Mehta et al., ICCV 2021 (arXiv 2104.03960): layers sin(ω(W x + b)) whose outputs are multiplied by those of a ReLU
network of the latent vector. That is `modulation = "published"` with one latent cell. Ours (`residual`) multiplies by
1 + s and shifts the phase by t, both linear in the latents, so that an untrained network already is a plain periodic
one; and latents may lie on a grid, interpolated by cubic B-splines: twice differentiable in position, and local.

Positions come as three axes for each molecule, in units in which its box reaches from −1 to 1.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from storage.errors import RequestError

Axes = tuple[Tensor, Tensor, Tensor]  # (batch, nx), (batch, ny), (batch, nz)


@dataclass(frozen=True)
class FieldArchitecture:
    """What fixes the shape of a field network."""

    fields: int  # values at a position
    molecules: int  # whose latents are learned; 0: an encoder makes them
    cells: int  # along an edge of the grids that the encoder sees
    latent_cells: int
    latent_features: int
    refinements: int
    width: int
    depth: int
    first_frequency: float
    frequency: float
    modulation: str

    @property
    def is_global(self) -> bool:
        """Whether the latents of a molecule are one vector."""
        return self.latent_cells << self.refinements == 1

    @property
    def features(self) -> int:
        """Of what the layers are modulated by."""
        return self.width if self.refinements else self.latent_features


class FieldNetwork(nn.Module):
    """Latents of molecules, and the fields that they stand for."""

    def __init__(self, architecture: FieldArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        n, features = architecture.latent_cells, architecture.latent_features
        if architecture.molecules:
            begun = 1e-2 * torch.randn(architecture.molecules, features, n, n, n)
            # Each its own, so that a step moves, and costs, those of its own molecules alone.
            self.latents = nn.ParameterList(latents.clone() for latents in begun)
        else:
            self.encoder = build_encoder(architecture)
        self.refinement = build_refinement(architecture)
        self.layers = build_layers(architecture)

    def forward(self, source: Tensor, axes: Axes) -> Tensor:
        """Fields (batch, fields, nx, ny, nz) of molecules; `source` as in `encode`."""
        return self.decode(self.encode(source), axes)

    def encode(self, source: Tensor) -> Tensor:
        """Latents (batch, features, n, n, n).

        Learned ones from (batch, 3): the numbers of two molecules, and how far from the first to the second; an
        encoder's from grids (batch, fields, n, n, n).
        """
        if self.architecture.molecules:
            numbers = source[:, :2].long().tolist()
            first, second = (torch.stack([self.latents[pair[side]] for pair in numbers]) for side in (0, 1))
            return torch.lerp(first, second, source[:, 2].reshape(-1, 1, 1, 1, 1))
        return cast(Tensor, self.encoder(source))

    def decode(self, latents: Tensor, axes: Axes) -> Tensor:
        """Fields (batch, fields, nx, ny, nz) that latents stand for."""
        grid = cast(Tensor, self.refinement(latents))
        modulating = grid.movedim(1, -1) if self.architecture.is_global else interpolate(grid, axes)
        return cast(Tensor, self.layers(span(axes), modulating)).movedim(-1, 1)


class PublishedLayers(nn.Module):
    """Layers whose outputs are multiplied by those of a ReLU network of the same shape."""

    def __init__(self, architecture: FieldArchitecture) -> None:
        super().__init__()
        width, features = architecture.width, architecture.features
        self.frequencies = list_frequencies(architecture)
        self.waves = build_waves(architecture)
        self.modulators = nn.ModuleList(
            nn.Linear(features + (width if layer else 0), width) for layer in range(architecture.depth)
        )
        self.last = nn.Linear(width, architecture.fields)

    def forward(self, positions: Tensor, latents: Tensor) -> Tensor:
        values, modulation = positions, latents
        for frequency, wave, modulator in zip(self.frequencies, self.waves, self.modulators, strict=True):
            modulation = torch.relu(modulator(modulation))
            values = modulation * torch.sin(frequency * wave(values))
            modulation = torch.cat((modulation, latents), dim=-1)
        return cast(Tensor, self.last(values))


class ResidualLayers(nn.Module):
    """Layers whose outputs are multiplied by 1 + s, and shifted in phase by t; both linear in the latents."""

    def __init__(self, architecture: FieldArchitecture) -> None:
        super().__init__()
        width, features = architecture.width, architecture.features
        self.frequencies = list_frequencies(architecture)
        self.waves = build_waves(architecture)
        self.modulators = nn.ModuleList(nn.Linear(features, 2 * width) for _ in range(architecture.depth))
        self.last = nn.Linear(width + features, architecture.fields)

    def forward(self, positions: Tensor, latents: Tensor) -> Tensor:
        values = positions
        for frequency, wave, modulator in zip(self.frequencies, self.waves, self.modulators, strict=True):
            scale, shift = modulator(latents).chunk(2, dim=-1)
            values = (1 + scale) * torch.sin(frequency * wave(values) + shift)
        latents = latents.expand(*values.shape[:-1], latents.shape[-1])
        return cast(Tensor, self.last(torch.cat((values, latents), dim=-1)))


def build_layers(architecture: FieldArchitecture) -> nn.Module:
    return {"published": PublishedLayers, "residual": ResidualLayers}[architecture.modulation](architecture)


def list_frequencies(architecture: FieldArchitecture) -> list[float]:
    return [architecture.first_frequency] + [architecture.frequency] * (architecture.depth - 1)


def build_waves(architecture: FieldArchitecture) -> nn.ModuleList:
    """Linear layers begun so that a sine of each has the same spread (Sitzmann et al. 2020)."""
    width = architecture.width
    waves = nn.ModuleList(nn.Linear(width if layer else 3, width) for layer in range(architecture.depth))
    for layer, wave in enumerate(waves):
        bound = math.sqrt(6 / width) / architecture.frequency if layer else 1 / 3
        nn.init.uniform_(cast(Tensor, wave.weight), -bound, bound)
    return waves


def build_encoder(architecture: FieldArchitecture) -> nn.Module:
    """Convolutions that halve the grid until it is the latents'. Raises RequestError where halving misses it."""
    halvings = math.log2(architecture.cells / architecture.latent_cells)
    if halvings != int(halvings) or halvings < 0:
        raise RequestError(
            f"latent_cells = {architecture.latent_cells}: halving cells = {architecture.cells} never gives it: "
            "let cells be latent_cells times a power of two"
        )
    inside = architecture.fields
    layers: list[nn.Module] = []
    for halving in range(int(halvings)):
        outside = min(architecture.width << halving, 256)
        layers += [nn.Conv3d(inside, outside, 3, padding=1), nn.GELU()]
        layers += [nn.Conv3d(outside, outside, 4, stride=2, padding=1), nn.GELU()]
        inside = outside
    layers += [nn.Conv3d(inside, inside, 1), nn.GELU(), nn.Conv3d(inside, architecture.latent_features, 1)]
    return nn.Sequential(*layers)


def build_refinement(architecture: FieldArchitecture) -> nn.Module:
    """Convolutions that double the latents' grid; none where it stays as it is."""
    width, inside = architecture.width, architecture.latent_features
    layers: list[nn.Module] = []
    for _ in range(architecture.refinements):
        layers += [nn.Conv3d(inside, width, 3, padding=1), nn.GELU()]
        layers += [nn.Conv3d(width, 8 * width, 1), FoldOut(), nn.GELU()]
        inside = width
    return nn.Sequential(*layers)


class FoldOut(nn.Module):
    """Features of a cell become those of its eight halves."""

    def forward(self, grid: Tensor) -> Tensor:
        batch, features, *n = grid.shape
        halves = grid.reshape(batch, features // 8, 2, 2, 2, *n).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return halves.reshape(batch, features // 8, *(2 * cells for cells in n))


def span(axes: Axes) -> Tensor:
    """The points that axes span, (batch, nx, ny, nz, 3)."""
    x, y, z = axes
    shape = (len(x), x.shape[1], y.shape[1], z.shape[1])
    parts = (x[:, :, None, None], y[:, None, :, None], z[:, None, None, :])
    return torch.stack([part.expand(shape) for part in parts], dim=-1)


def interpolate(grid: Tensor, axes: Axes) -> Tensor:
    """Values (batch, nx, ny, nz, features) on axes, of a grid (batch, features, n, n, n) that fills the box."""
    x, y, z = (spline_weights(axis, n) for axis, n in zip(axes, grid.shape[2:], strict=True))
    grid = torch.einsum("bcijk,bxi->bcxjk", grid, x)
    grid = torch.einsum("bcxjk,byj->bcxyk", grid, y)
    return torch.einsum("bcxyk,bzk->bxyzc", grid, z)


def spline_weights(axis: Tensor, n: int) -> Tensor:
    """What each of n cell centres between −1 and 1 counts at positions (batch, m), by cubic B-splines: (batch, m, n).

    They add up to 1, also near the ends, where splines that would lie beyond are missing.
    """
    distance = ((axis[:, :, None] + 1) * (n / 2) - 0.5 - torch.arange(n, device=axis.device)).abs()
    inner = (4 - 6 * distance**2 + 3 * distance**3) / 6
    outer = (2 - distance).clamp(min=0) ** 3 / 6
    weights = torch.where(distance < 1, inner, outer)
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-6)
