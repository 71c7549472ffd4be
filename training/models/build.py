"""Which networks there are: from an architecture to a network, and from a few plain values to an architecture."""

from collections.abc import Mapping
from dataclasses import asdict

from storage.errors import RequestError
from storage.objects import Json
from training.models.published import PublishedArchitecture, PublishedNetwork
from training.models.unet import UNet, UNetArchitecture

Architecture = PublishedArchitecture | UNetArchitecture
Network = PublishedNetwork | UNet

KINDS: dict[str, type[PublishedArchitecture] | type[UNetArchitecture]] = {
    "published": PublishedArchitecture,
    "unet": UNetArchitecture,
}


def build_network(architecture: Architecture) -> Network:
    """With fresh weights, drawn from PyTorch's generator."""
    if isinstance(architecture, PublishedArchitecture):
        return PublishedNetwork(architecture)
    return UNet(architecture)


def describe_network(
    model: str, *, factor: int, width: int, depth: int, levels: int, peak: float, fine_inputs: bool
) -> Architecture:
    """The architecture that a config asks for. Raises RequestError where there is no such model."""
    if model == "published":
        return PublishedArchitecture(factor, width, depth, fine_inputs)
    if model == "unet":
        return UNetArchitecture(factor, width, depth, peak, levels)
    raise RequestError(f'model = "{model}": there is no such network; use {" or ".join(KINDS)}')


def architecture_values(architecture: Architecture) -> dict[str, Json]:
    """All of an architecture as plain values; the inverse of `read_architecture`."""
    kind = next(name for name, type_ in KINDS.items() if isinstance(architecture, type_))
    return {"kind": kind, **asdict(architecture)}


def read_architecture(values: Mapping[str, Json]) -> Architecture:
    """The architecture that a checkpoint names. Raises RequestError where it is of a kind unknown here."""
    kind = values["kind"]
    if kind not in KINDS:
        raise RequestError(f"the model is of kind {kind!r}, known here are {', '.join(KINDS)}: install a newer rhoflow")
    return KINDS[str(kind)](**{name: value for name, value in values.items() if name != "kind"})  # type: ignore[arg-type]
