"""Trains the super-resolution network on a store, stopping and going on wherever it was killed."""

import copy
import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from storage.errors import RequestError, RhoflowError, StoreError
from storage.objects import Json, Location, has_object, read_record, write_record
from storage.reader import Dataset
from training.batch import Batch, Draw
from training.catalog import Catalog, read_catalog
from training.checkpoint import (
    CONFIG,
    LAST,
    Model,
    Origin,
    read_state,
    save_model,
    write_history,
    write_state,
)
from training.config import SuperresConfig, config_values, read_config
from training.evaluation import evaluate_superres
from training.metrics import nmae, nmae_loss
from training.network import Architecture, SuperResolver, choose_device, predict_density
from training.progress import Meter
from training.stored import Cutting, StoredBoxes
from training.stream import Stream, StreamSettings

__all__ = ["evaluate_superres", "read_config", "train_superres"]

WARM_UP = 0.05  # of all steps
LARGEST_GRADIENT = 1.0  # norm; steeper ones are shortened to it
MOMENTA = (0.9, 0.95)  # Adam's; the usual 0.999 outlasts a short run
AVERAGING = 0.99  # how much of the averaged weights stays at each step, once there are enough steps to average
WINDOW = 64  # shards within which samples are mixed
FREE_KEYS = ("store", "device")  # may differ when a run goes on


@dataclass
class State:
    """A training under way."""

    network: SuperResolver
    averaged: SuperResolver  # running mean of the weights: what is validated and kept
    optimiser: torch.optim.Adam
    step: int = 0
    lowest: float = math.inf  # validation NMAE
    history: list[dict[str, Json]] = field(default_factory=list)


def train_superres(config: SuperresConfig, store: Location, run: Path, *, resume: bool = False) -> None:
    """Train, or with `resume` go on; `run` then holds config, last state, best model and history.

    Raises RequestError where `run` holds another training, StoreError where the store lacks what is needed.
    """
    channels = (config.input, config.target)
    training, validation = (read_catalog([store], split, channels) for split in ("train", "validation"))
    dataset = training.datasets[0]
    origin = describe_origin(training, validation, config)
    device = choose_device(config.device)
    _claim(run, config, resume)
    state = _start(config, find_peak(dataset, config.input), device)
    if has_object(run, LAST):
        _restore(state, run, origin)
    whole = StoredBoxes(validation, *channels, Cutting())
    if not state.history:
        _finish_stretch(state, run, origin, whole, _Stretch())
    stream = _open_stream(training, config, device)
    with Meter(state.step, config.steps, config.batch) as meter, closing(stream.batches(state.step)) as batches:
        stretch = _Stretch()
        while state.step < config.steps:
            stretch.losses.append(take_step(state, next(batches), config))
            if state.step % config.checkpoint_steps == 0 or state.step == config.steps:
                _finish_stretch(state, run, origin, whole, stretch)
                stretch = _Stretch()
            meter.advance(f"validation NMAE {100 * state.lowest:.2f} %")


def take_step(state: State, batch: Batch, config: SuperresConfig) -> float:
    """One step down the gradient; returns the loss before it. Raises RhoflowError where that is no number."""
    density = cast(Tensor, state.network(batch.guess))
    loss = nmae_loss(density[batch.judged], batch.target[batch.judged])
    if not torch.isfinite(loss):
        raise RhoflowError(
            f"training diverged at step {state.step}: start again with a learning_rate below {config.learning_rate}"
        )
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(config, state.step)
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), LARGEST_GRADIENT)
    state.optimiser.step()
    state.step += 1
    _average(state)
    return float(loss.detach())


def learning_rate(config: SuperresConfig, step: int) -> float:
    """A straight line up during the warm-up, then half a cosine down to zero."""
    warm_up = max(1, round(WARM_UP * config.steps))
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, config.steps - warm_up)))


def validate(network: SuperResolver, boxes: StoredBoxes) -> float:
    """Mean NMAE over whole boxes."""
    pairs = (boxes.read([Draw(sample, 0)]) for sample in range(len(boxes.catalog)))
    scores = [nmae(predict_density(network, pair.guess[0].numpy()), pair.target[0].numpy()) for pair in pairs]
    return float(np.mean(scores))


def describe_origin(training: Catalog, validation: Catalog, config: SuperresConfig) -> Origin:
    groups = sorted({str(group) for catalog in (training, validation) for group in catalog.table["group"]})
    store = str(training.datasets[0].store)
    return Origin(store, config.input, config.target, training.spacing, groups)


def find_peak(dataset: Dataset, input: str) -> float:
    """The input's largest value in the training split, electrons/bohr³: the scale of the network's features."""
    peak = float(dataset.attributes["statistics"][input]["maximum"])
    if not peak > 0:
        raise StoreError(
            f"{dataset.store}: channel {input!r} is empty in the training split (its largest value is {peak})"
        )
    return peak


@dataclass
class _Stretch:
    """The steps since the last checkpoint."""

    losses: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)


def _open_stream(training: Catalog, config: SuperresConfig, device: torch.device) -> Stream:
    cutting = Cutting(config.crop, config.factor, turn=True, seed=config.seed)
    boxes = StoredBoxes(training, config.input, config.target, cutting, pinned=device.type == "cuda")
    settings = StreamSettings(config.batch, WINDOW, config.seed, by_class=False, workers=1, device=device)
    return Stream(boxes, training, settings)


def _claim(run: Path, config: SuperresConfig, resume: bool) -> None:
    """Write the config of a new run, or check that the one to go on with was begun with the same."""
    values = config_values(config)
    if not has_object(run, CONFIG):
        write_record(run, CONFIG, values)
        return
    if not resume:
        raise RequestError(f"{run} holds a training already: add --resume to go on with it, or name a new folder")
    begun = read_record(run, CONFIG)
    for key in sorted({*begun, *values} - set(FREE_KEYS)):
        if begun.get(key) != values.get(key):
            raise RequestError(
                f"{run} was begun with {key} = {begun.get(key)!r}, not {values.get(key)!r}: "
                "restore the config, or train in a new folder"
            )


def _start(config: SuperresConfig, peak: float, device: torch.device) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = SuperResolver(Architecture(config.factor, config.width, config.depth, peak)).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=MOMENTA)
    return State(network, copy.deepcopy(network), optimiser)


def _restore(state: State, run: Path, origin: Origin) -> None:
    stored = read_state(run, LAST)
    same_data = {**stored["origin"], "store": origin.store} == asdict(origin)
    if not same_data or stored["architecture"] != asdict(state.network.architecture):
        raise RequestError(
            f"{run} was begun on other training or validation molecules than those of {origin.store}: "
            "name the store it was begun on, or train in a new folder"
        )
    state.network.load_state_dict(stored["network"])
    state.averaged.load_state_dict(stored["averaged"])
    state.optimiser.load_state_dict(stored["optimiser"])
    state.step, state.lowest, state.history = stored["step"], stored["lowest"], stored["history"]


def _finish_stretch(state: State, run: Path, origin: Origin, validation: StoredBoxes, stretch: _Stretch) -> None:
    """Validate, keep the model where it is the best so far, then put the state that a resumed run starts from."""
    score = validate(state.averaged, validation)
    seconds = sum(float(str(row["seconds"])) for row in state.history[-1:]) + time.monotonic() - stretch.started
    loss = float(np.mean(stretch.losses)) if stretch.losses else None
    row = {"step": state.step, "loss": loss, "validation_nmae": score, "seconds": round(seconds, 3)}
    state.history.append(dict(row))
    if score < state.lowest:
        state.lowest = score
        save_model(run, Model(state.averaged, origin, state.step))
    write_state(
        run,
        LAST,
        {
            "origin": asdict(origin),
            "architecture": asdict(state.network.architecture),
            "network": state.network.state_dict(),
            "averaged": state.averaged.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "step": state.step,
            "lowest": state.lowest,
            "history": state.history,
        },
    )
    write_history(run, state.history)


@torch.no_grad()
def _average(state: State) -> None:
    kept = min(AVERAGING, state.step / (state.step + 9))
    for averaged, current in zip(state.averaged.parameters(), state.network.parameters(), strict=True):
        averaged.lerp_(current, 1 - kept)
