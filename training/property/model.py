"""A trained property model: its network, what it was trained on, and what its numbers mean."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from storage.errors import RequestError
from storage.objects import has_object
from training.models.fitted import ForestArchitecture, ForestNetwork, RidgeArchitecture, RidgeNetwork
from training.models.schnet import SchNetArchitecture, SchNetNetwork
from training.models.voxel_cnn import VoxelArchitecture, VoxelNetwork
from training.property.channel_boxes import Channel
from training.tensor_files import read_tensors, write_tensors
from training.trained import BEST, Origin

Architecture = VoxelArchitecture | SchNetArchitecture | RidgeArchitecture | ForestArchitecture
KINDS: Mapping[str, tuple[type[Architecture], type[nn.Module]]] = {
    "cnn": (VoxelArchitecture, VoxelNetwork),
    "schnet": (SchNetArchitecture, SchNetNetwork),
    "ridge": (RidgeArchitecture, RidgeNetwork),
    "forest": (ForestArchitecture, ForestNetwork),
}


@dataclass(frozen=True)
class Standard:
    """The labels of the training split, one number for each target: what a network learns is (label − mean)/spread."""

    targets: tuple[str, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]  # standard deviations

    def standardise(self, labels: Tensor) -> Tensor:
        return (labels - labels.new_tensor(self.means)) / labels.new_tensor(self.spreads)

    def restore(self, outputs: Tensor) -> Tensor:
        """In the labels' own units."""
        return outputs * outputs.new_tensor(self.spreads) + outputs.new_tensor(self.means)


@dataclass(frozen=True)
class PropertyModel:
    """Ready to predict."""

    kind: str  # cnn, schnet, ridge or forest
    network: nn.Module
    channels: tuple[Channel, ...]  # of the network's input, where that is voxels
    standard: Standard
    origin: Origin
    step: int

    @property
    def cells(self) -> int:
        """Along an edge of the cube of voxels; 0 where the input is something else."""
        architecture = self.network.architecture
        return architecture.cells if isinstance(architecture, VoxelArchitecture) else 0


def build_property_network(kind: str, architecture: Architecture) -> nn.Module:
    """With fresh weights, drawn from PyTorch's generator."""
    return KINDS[kind][1](architecture)


def save_property_model(run: Path, model: PropertyModel) -> None:
    content = {
        "architecture": {"kind": model.kind, **asdict(model.network.architecture)},  # type: ignore[call-overload]
        "weights": model.network.state_dict(),
        "channels": [asdict(channel) for channel in model.channels],
        "standard": asdict(model.standard),
        "origin": asdict(model.origin),
        "step": model.step,
    }
    write_tensors(run, BEST, content)


def load_property_model(run: Path) -> PropertyModel:
    """The best model of a run, on the CPU. Raises RequestError where there is none yet, or another version's."""
    if not has_object(run, BEST):
        raise RequestError(
            f"{run} holds no trained model ({BEST}): train it with `rhoflow train property CONFIG {run}`"
        )
    content = read_tensors(run, BEST)
    try:
        return _read_model(content)
    except (KeyError, TypeError, RuntimeError) as error:
        raise RequestError(
            f"{run}/{BEST} was written by another version of rhoflow ({error}): train again in a new folder"
        ) from error


def _read_model(content: Mapping[str, Any]) -> PropertyModel:
    values = dict(content["architecture"])
    kind = values.pop("kind")
    network = build_property_network(kind, _read_values(KINDS[kind][0], values))
    network.load_state_dict(content["weights"])
    channels = tuple(_read_values(Channel, channel) for channel in content["channels"])
    standard, origin = (_read_values(kind, content[key]) for kind, key in ((Standard, "standard"), (Origin, "origin")))
    return PropertyModel(kind, network.eval(), channels, standard, origin, content["step"])


def _read_values(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """The frozen value that `asdict` took apart; its sequences are tuples where that is what the field says."""
    tuples = {field.name for field in fields(kind) if str(field.type).startswith("tuple")}
    return kind(**{name: tuple(value) if name in tuples else value for name, value in values.items()})


def holds_property_model(run: Path) -> bool:
    """Whether the run's model predicts properties: False where there is none yet."""
    return has_object(run, BEST) and read_tensors(run, BEST)["architecture"]["kind"] in KINDS
