"""What a network learns in place of a field's values: values near 1 at most, and of densities the square root.

A density spans six powers of ten between a nucleus and the vacuum, where nearly all positions lie; an error of the root
counts for as little there as the root does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scaling:
    """Of each field of a network."""

    scales: Tensor  # (fields,), what values are divided by
    roots: Tensor  # (fields,) bool: whether the root is learned

    def to(self, device: torch.device) -> "Scaling":
        return Scaling(self.scales.to(device), self.roots.to(device))

    def encode(self, values: Tensor) -> Tensor:
        """What is learned, from values (fields, nx, ny, nz)."""
        scaled = values / self.scales[:, None, None, None]
        return torch.where(self.roots[:, None, None, None], scaled.clamp(min=0).sqrt(), scaled)

    def decode(self, learned: Tensor) -> Tensor:
        """Values (fields, nx, ny, nz), from what a network says."""
        scaled = torch.where(self.roots[:, None, None, None], learned.square(), learned)
        return scaled * self.scales[:, None, None, None]


def make_scaling(labels: tuple[str, ...], scales: list[float]) -> Scaling:
    roots = [label.startswith("density:") for label in labels]
    return Scaling(torch.tensor(scales), torch.tensor(roots))
