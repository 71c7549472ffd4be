"""What a run was asked for, and the state it goes on from after an interruption."""

from collections.abc import Sequence
from pathlib import Path

import torch

from storage.errors import RequestError
from storage.objects import has_object, read_record, write_record
from training.config import TrainingConfig
from training.config_file import config_values
from training.descent import State
from training.parallel import Team
from training.tensor_files import read_tensors, write_tensors

LAST = "checkpoint.pt"  # everything that going on needs
CONFIG = "config.json"
# May differ when a run goes on; what lies at `store` and `start` has to be the same, by its checksums.
FREE_KEYS = ("store", "start", "workers", "compile", "device", "kept_gib")

Stores = Sequence[tuple[str, str]]  # name of each, and the fingerprint of what it holds


def claim_run(run: Path, config: TrainingConfig, resume: bool, team: Team) -> None:
    """Write the config of a new run, or check that the one to go on with was begun with the same.

    Raises RequestError where it was not, naming the key: on every process.
    """
    values, is_new = config_values(config), not has_object(run, CONFIG)
    team.wait()
    if is_new:
        if team.leads:
            write_record(run, CONFIG, values)
        return
    if not resume:
        raise RequestError(f"{run} holds a training already: add --resume to go on with it, or name a new folder")
    begun = {**config_values(type(config)()), **read_record(run, CONFIG)}  # keys that are younger than the run
    for key in sorted({*begun, *values} - set(FREE_KEYS)):
        if begun.get(key) != values.get(key):
            raise RequestError(
                f"{run} was begun with {key} = {begun.get(key)!r}, not {values.get(key)!r}: "
                "restore the config, or train in a new folder"
            )


def save_state(state: State, run: Path, stores: Stores, config: TrainingConfig) -> None:
    """The loader's position is the step: what it reads follows from that, the seed and the stores."""
    content = {
        "settings": config_values(config),
        "stores": [fingerprint for _, fingerprint in stores],
        "network": state.network.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "random": [generator.get_state() for generator in _generators()],
        "step": state.step,
        "losses": state.losses,
        "history": state.history,
        "seconds": state.seconds,
    }
    write_tensors(run, LAST, content)


def restore_state(state: State, run: Path, stores: Stores) -> None:
    """Where the run has a checkpoint. Raises RequestError where a store no longer holds what it did then."""
    if not has_object(run, LAST):
        return
    content = read_tensors(run, LAST)
    _check_stores(run, content["stores"], stores)
    for part in ("network", "averaged", "optimiser"):
        getattr(state, part).load_state_dict(content[part])
    for part in ("step", "losses", "history", "seconds"):
        setattr(state, part, content[part])
    for generator, numbers in zip(_generators(), content["random"], strict=False):  # a GPU may be here and not there
        generator.set_state(numbers)


def _check_stores(run: Path, begun: list[str], stores: Stores) -> None:
    if len(begun) != len(stores):
        raise RequestError(f"{run} was begun on {len(begun)} stores, not {len(stores)}: name the same, in their order")
    for before, (name, fingerprint) in zip(begun, stores, strict=True):
        if fingerprint != before:
            raise RequestError(
                f"{run} was begun on other data than {name} holds now: name the store it was begun on, "
                "or train in a new folder"
            )


def _generators() -> list[torch.Generator]:
    """Those that a network may draw from: the CPU's, and the GPU's where one is in use."""
    devices = [torch.cuda.default_generators[torch.cuda.current_device()]] if torch.cuda.is_available() else []
    return [torch.default_generator, *devices]
