"""What a step of the super-resolution training makes smaller."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

KINK = 1e-3  # electrons/bohr³: below it the smooth loss is a parabola


class Share(NamedTuple):
    """One process's part of a loss, which is the sum over processes of `total` over the sum of `weight`."""

    total: Tensor  # scalar
    weight: Tensor  # scalar, without gradient


def density_loss(name: str, density: Tensor, target: Tensor, judged: Tensor) -> Share:
    """Over the judged cells of a batch, shape (batch, nx, ny, nz), taken as one box.

    nmae: Σ|ρ − ρ_target| / Σρ_target; smooth: the same without its kink at 0; mae, electrons/bohr³, and mse,
    (electrons/bohr³)²: means over cells.
    """
    difference = (density.float() - target) * judged
    match name:
        case "nmae":
            return Share(difference.abs().sum(), (target * judged).sum())
        case "smooth":
            curved = functional.huber_loss(difference, difference.new_zeros(()).expand_as(difference), "sum", KINK)
            return Share(curved / KINK, (target * judged).sum())
        case "mae":
            return Share(difference.abs().sum(), judged.sum().float())
        case "mse":
            return Share(difference.square().sum(), judged.sum().float())
    raise ValueError(f"no loss is called {name!r}")
