"""What the training of a super-resolution model is made of: its stores, its network, its loss, its validation."""

import hashlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from storage.errors import RequestError, StoreError
from storage.identity import fingerprint
from storage.reader import Dataset, open_dataset
from training.batch import Batch
from training.checkpoint import Stores, claim_run
from training.config import SuperresConfig
from training.loop import train
from training.losses import Share, density_loss
from training.metrics import nmae
from training.network import Architecture, SuperResolver, predict_density
from training.pairs import Pairs, split_ids
from training.parallel import Team, assemble_team
from training.stream import Stream
from training.trained import Model, Origin, save_model

LEFT_OUT = 1  # coarse cells along a crop's faces whose surroundings were cut away: seen, not judged


def train_superres(config: SuperresConfig, run: Path, *, resume: bool = False) -> None:
    """Train, or with `resume` go on; `run` then holds config, last state, best model and history.

    Raises RequestError where `run` holds another training, StoreError where a store lacks what is needed.
    """
    with assemble_team(config.device) as team:
        task = SuperresTask(config, run, team)
        if team.leads:
            claim_run(run, config, resume)
        team.wait()
        train(task, config, run, team)


class SuperresTask:
    """A guess in, the target out."""

    def __init__(self, config: SuperresConfig, run: Path, team: Team) -> None:
        if not config.store:
            raise RequestError(f'{run}: no store is named: add store = "PATH" to the config, or give --store PATH')
        self.config, self.run, self.team = config, run, team
        dataset = open_dataset(config.store[0])
        self.pairs = Pairs(dataset, config.input, config.target)
        self.training, validation = split_ids(dataset, "train"), split_ids(dataset, "validation")
        self.origin = describe_origin(dataset, config, self.training + validation)
        self.validation = choose_samples(validation, config.validation_samples)
        self.stores: Stores = [(str(store), fingerprint(store)) for store in config.store]
        torch.manual_seed(config.seed)
        peak = find_peak(dataset, config.input)
        self.network: nn.Module = SuperResolver(Architecture(config.factor, config.width, config.depth, peak))

    def batches(self, step: int) -> Iterator[Batch]:
        config = self.config
        stream = Stream(self.pairs, self.training, config.batch, config.crop, config.factor, config.seed)
        inner = slice(LEFT_OUT * config.factor, config.crop - LEFT_OUT * config.factor)
        for k in count(step):
            crops = stream.read(k)
            mine = slice(self.team.rank, None, self.team.world)
            guess, target = (torch.from_numpy(values[mine]) for values in (crops.guess, crops.target))
            judged = torch.zeros_like(guess, dtype=torch.bool)
            judged[:, inner, inner, inner] = True
            yield Batch(("",) * len(guess), guess, target, judged, 1.0)

    def measure(self, network: nn.Module, batch: Batch) -> Share:
        guess, target, judged = (
            values.to(self.team.device, non_blocking=True) for values in (batch.guess, batch.target, batch.judged)
        )
        density = cast(Tensor, network(guess))
        return density_loss(self.config.loss, density, target, judged)

    def validate(self, network: nn.Module) -> float:
        """Mean NMAE over whole boxes."""
        boxes = (self.pairs[id] for id in self.team.share_out(self.validation))
        scores = [nmae(predict_density(cast(SuperResolver, network), box.guess), box.target) for box in boxes]
        return float(np.mean(self.team.collect(scores)))

    def describe(self, score: float) -> str:
        return f"lowest validation NMAE {100 * score:.3f} %"

    def keep(self, network: nn.Module, step: int) -> None:
        save_model(self.run, Model(cast(SuperResolver, network), self.origin, step))


def choose_samples(ids: list[str], count: int) -> list[str]:
    """So many, by a hash of their names: the same ones again from a store that has grown, but for few. 0 = all."""
    chosen = sorted(ids, key=lambda id: hashlib.sha256(id.encode()).digest())[: count or None]
    return [id for id in ids if id in set(chosen)]


def describe_origin(dataset: Dataset, config: SuperresConfig, ids: list[str]) -> Origin:
    groups = sorted({str(group) for group in dataset.table.loc[ids, "group"]})
    return Origin([str(dataset.store)], config.input, config.target, find_spacing(dataset), groups)


def find_spacing(dataset: Dataset) -> tuple[float, float, float]:
    """The width of every sample's cells, bohr. Raises StoreError where samples differ, or cells are no cubes."""
    widths = dataset.table[["spacing_x_bohr", "spacing_y_bohr", "spacing_z_bohr"]].to_numpy()
    low, high = float(widths.min()), float(widths.max())
    if high > low * (1 + 1e-6):
        raise StoreError(
            f"{dataset.store} has cells from {low:.4g} to {high:.4g} bohr wide, but a model learns one width, the same "
            "along each axis: train on a store whose samples have it"
        )
    return low, low, low


def find_peak(dataset: Dataset, input: str) -> float:
    """The input's largest value in the training split, electrons/bohr³: the scale of the network's features."""
    peak = float(dataset.attributes["statistics"][input]["maximum"])
    if not peak > 0:
        raise StoreError(
            f"{dataset.store}: channel {input!r} is empty in the training split (its largest value is {peak})"
        )
    return peak
