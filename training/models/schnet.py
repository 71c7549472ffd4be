"""The yardstick of atoms: SchNet (Schütt et al., J. Chem. Phys. 148, 241722 (2018)) as PyTorch Geometric has it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from storage.errors import RequestError

CUTOFF = 10.0  # Å; the library's


@dataclass(frozen=True)
class SchNetArchitecture:
    """The library's defaults, and how many properties are predicted together."""

    outputs: int


class SchNetNetwork(nn.Module):
    """Turns atoms, (batch, atoms, 4): atomic number (0: none), x, y, z in Å, into (batch, outputs)."""

    def __init__(self, architecture: SchNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        try:
            from torch_geometric.nn.models import SchNet
        except ImportError as error:
            raise RequestError(
                "model = \"schnet\" needs PyTorch Geometric: run `pip install 'rhoflow[train]'`"
            ) from error
        self.schnet = SchNet(cutoff=CUTOFF, interaction_graph=connect)
        self.schnet.lin2 = nn.Linear(self.schnet.lin2.in_features, architecture.outputs)
        nn.init.zeros_(self.schnet.lin2.weight)
        nn.init.zeros_(self.schnet.lin2.bias)

    def forward(self, atoms: Tensor) -> Tensor:
        there = atoms[..., 0] > 0
        molecule = there.nonzero()[:, 0]
        found: Tensor = self.schnet(atoms[there][:, 0].long(), atoms[there][:, 1:], molecule)
        return found


def connect(positions: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor]:
    """Every two atoms of a molecule within the cutoff: their indices, (2, edges), and distances, (edges,)."""
    distances = torch.linalg.vector_norm(positions[:, None] - positions, dim=-1)
    near = (molecule[:, None] == molecule) & (distances < CUTOFF)
    near.fill_diagonal_(False)
    edges = near.nonzero().T
    return edges, distances[edges[0], edges[1]]
