"""A trained neural field, with what it was trained on."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from storage.errors import RequestError
from storage.objects import has_object
from training.field.boxes import grid_axis
from training.field.scaling import Scaling, make_scaling
from training.field.scenes import Axes, Fields
from training.models.field import FieldArchitecture, FieldNetwork
from training.tensor_files import read_tensors, write_tensors
from training.trained import BEST

SLAB = 2**17  # positions whose values are computed at once


@dataclass(frozen=True)
class FieldOrigin:
    """What a field stands for."""

    stores: list[str]
    fields: list[str]
    beta: float
    radii: dict[int, float]  # ångström, by atomic number
    scales: list[float]  # what each value was divided by
    edge: float  # of the box, bohr
    cells: int  # along an edge of the training grid
    ids: list[str]  # whose latents were learned, or whose fields an encoder was trained on
    groups: list[str]  # molecules of training and of choosing the checkpoint

    @property
    def described(self) -> Fields:
        return Fields(tuple(self.fields), self.beta, self.radii)

    @property
    def scaling(self) -> Scaling:
        return make_scaling(self.described.labels, self.scales)


@dataclass(frozen=True)
class FieldModel:
    """A trained network, ready to be asked."""

    network: FieldNetwork
    origin: FieldOrigin
    step: int

    @torch.no_grad()
    def encode(self, source: Tensor) -> Tensor:
        """Latents (1, features, n, n, n) of a molecule, from its number or its grid."""
        return self.network.encode(source[None])

    @torch.no_grad()
    def sample(self, latents: Tensor, axes: Axes) -> Tensor:
        """Values (fields, nx, ny, nz) on axes in [−1, 1], in the units of the fields."""
        parts = [self.network.decode(latents, slab)[0] for slab in cut_slabs(axes)]
        return self.origin.scaling.to(latents.device).decode(torch.cat(parts, dim=1))

    def sample_grid(self, latents: Tensor, cells: int) -> Tensor:
        """Values (fields, cells, cells, cells) at the centres of the cells of a grid that fills the box."""
        axis = grid_axis(cells, latents.device)
        return self.sample(latents, (axis, axis, axis))


def cut_slabs(axes: Axes) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Axes of few enough positions at once, as a network takes them."""
    x, y, z = (axis.float()[None] for axis in axes)
    for part in torch.split(x, max(1, SLAB // (y.shape[1] * z.shape[1])), dim=1):
        yield part, y, z


def save_field_model(run: Path, model: FieldModel) -> None:
    content = {
        "field": asdict(model.network.architecture),
        "weights": model.network.state_dict(),
        "origin": asdict(model.origin),
        "step": model.step,
    }
    write_tensors(run, BEST, content)


def holds_field_model(run: Path) -> bool:
    return has_object(run, BEST) and "field" in read_tensors(run, BEST)


def load_field_model(run: Path) -> FieldModel:
    """The best model of a run, on the CPU. Raises RequestError where there is none yet."""
    if not holds_field_model(run):
        raise RequestError(f"{run} holds no neural field ({BEST}): train it with `rhoflow train field CONFIG {run}`")
    content = read_tensors(run, BEST)
    network = FieldNetwork(FieldArchitecture(**content["field"]))
    network.load_state_dict(content["weights"])
    return FieldModel(network.eval(), FieldOrigin(**content["origin"]), content["step"])


def count_bytes(model: FieldModel) -> tuple[int, int]:
    """Of the weights that all molecules share, and of the latents of one, as float32."""
    architecture = model.network.architecture
    parameters = model.network.named_parameters()
    shared = sum(parameter.numel() for name, parameter in parameters if not name.startswith("latents."))
    return 4 * shared, 4 * architecture.latent_features * int(np.power(architecture.latent_cells, 3))
