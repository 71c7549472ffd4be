"""What a run writes down: its state, put in place in one move, so that a kill leaves the old one or the new one."""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from storage.errors import RequestError
from storage.objects import Json, has_object, write_object
from training.network import Architecture, SuperResolver

LAST = "checkpoint.pt"  # everything that going on needs
BEST = "best.pt"  # the averaged weights with the lowest validation NMAE
CONFIG = "config.json"
HISTORY = "history.csv"
EVALUATION = "evaluation.json"

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Origin:
    """The data a model was made from: what another store must have in common with it, and what it must not."""

    store: str
    input: str
    target: str
    spacing: tuple[float, float, float]  # bohr
    groups: list[str]  # molecules seen in training or in choosing the checkpoint


@dataclass(frozen=True)
class Model:
    """A trained network, ready to predict."""

    network: SuperResolver
    origin: Origin
    step: int


def save_model(run: Path, model: Model) -> None:
    write_state(
        run,
        BEST,
        {
            "architecture": asdict(model.network.architecture),
            "weights": model.network.state_dict(),
            "origin": asdict(model.origin),
            "step": model.step,
        },
    )


def load_model(run: Path) -> Model:
    """The best model of a run, on the CPU. Raises RequestError where there is none yet."""
    if not has_object(run, BEST):
        raise RequestError(
            f"{run} holds no trained model ({BEST}): train it with `rhoflow train superres CONFIG {run}`"
        )
    state = read_state(run, BEST)
    network = SuperResolver(Architecture(**state["architecture"]))
    network.load_state_dict(state["weights"])
    origin = {**state["origin"], "spacing": tuple(state["origin"]["spacing"])}
    return Model(network.eval(), Origin(**origin), state["step"])


def write_state(run: Path, name: str, state: dict[str, Any]) -> None:
    """Tensors and plain values only, so that reading runs no code."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_object(run, name, buffer.getvalue())


def read_state(run: Path, name: str) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / name, map_location="cpu", weights_only=True)
    return state


def write_history(run: Path, rows: list[dict[str, Json]]) -> None:
    """One line per checkpoint, oldest first."""
    lines = [",".join(rows[0])]
    lines += [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
    write_object(run, HISTORY, ("\n".join(lines) + "\n").encode())
