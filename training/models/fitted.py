"""The baselines of fingerprints, as networks whose weights were fitted: ridge regression and random forests."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RidgeArchitecture:
    bits: int
    outputs: int


@dataclass(frozen=True)
class ForestArchitecture:
    trees: int
    nodes: int  # of the largest tree
    outputs: int


class RidgeNetwork(nn.Module):
    """Turns fingerprints (batch, bits) into (batch, outputs)."""

    def __init__(self, architecture: RidgeArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.linear = nn.Linear(architecture.bits, architecture.outputs)

    def forward(self, fingerprints: Tensor) -> Tensor:
        return cast(Tensor, self.linear(fingerprints))


class ForestNetwork(nn.Module):
    """Turns fingerprints (batch, bits) into (batch, outputs), the mean over a property's trees."""

    def __init__(self, architecture: ForestArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        shape = (architecture.outputs, architecture.trees, architecture.nodes)
        self.register_buffer("lower", torch.zeros((*shape, 2), dtype=torch.int64))  # a leaf is its own child
        self.register_buffer("bit", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(shape))
        self.register_buffer("value", torch.zeros(shape))

    def forward(self, fingerprints: Tensor) -> Tensor:
        """All trees and molecules go down together, until every one has come to a leaf."""
        children, bit, threshold, value = (
            cast(Tensor, getattr(self, name)).flatten(0, 1) for name in ("lower", "bit", "threshold", "value")
        )
        tree = torch.arange(len(children), device=fingerprints.device)
        node = torch.zeros((len(fingerprints), len(children)), dtype=torch.int64, device=fingerprints.device)
        while True:
            right = fingerprints.gather(1, bit[tree, node]) > threshold[tree, node]
            below = children[tree, node, right.long()]
            if torch.equal(below, node):
                return value[tree, node].reshape(len(fingerprints), self.architecture.outputs, -1).mean(dim=2)
            node = below
