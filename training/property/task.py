"""What the training of a property model is made of: its samples, its network, its loss, its validation."""

import math
from collections.abc import Generator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from storage.errors import RequestError, StoreError
from storage.objects import has_object
from storage.schema import FloatArray
from training.batch import Batch, Boxes, Draw
from training.catalog import Catalog, read_catalog
from training.checkpoint import Stores, claim_run
from training.config import PropertyConfig
from training.curves import write_history
from training.loop import train
from training.losses import Share
from training.models.schnet import SchNetArchitecture
from training.models.voxel_cnn import VoxelArchitecture, VoxelNetwork, round_up
from training.parallel import Team, assemble_team
from training.property.channel_boxes import Channel, ChannelBoxes, find_channels, measure_gains
from training.property.fit import fit_forest, fit_guess, fit_ridge
from training.property.labels import read_labels
from training.property.model import PropertyModel, Standard, build_property_network, save_property_model
from training.property.molecule_boxes import AtomBoxes, FingerprintBoxes
from training.stream import Stream, StreamSettings
from training.subsets import choose_molecules, choose_samples, leave_out, list_groups
from training.symmetries import ROTATIONS
from training.tensor_files import read_tensors, write_tensors
from training.trained import BEST, describe_origin

FITTED = {"ridge": fit_ridge, "forest": fit_forest}
OCCUPANCIES = {"atom_types": "none", "shape": "depth"}  # how what is no density is scaled
GUESS = "guess.pt"
MEASURED = 64  # samples of the training split on which the sizes of fields and features are measured


def train_property(config: PropertyConfig, run: Path, *, resume: bool = False) -> None:
    """Train, or with `resume` go on; `run` then holds config, last state, best model and history.

    Models of fingerprints are fitted in one go. Raises RequestError where `run` holds another training, StoreError
    where a store lacks a channel or a label.
    """
    if not config.store:
        raise RequestError(f'{run}: no store is named: add store = "PATH" to the config, or give --store PATH')
    with assemble_team(config.device) as team:
        task = PropertyTask(config, run, team)
        claim_run(run, config, resume, team)  # before the network, which takes a look at every sample
        if config.model not in FITTED:
            train(task, config, run, team)
        elif not has_object(run, BEST):
            task.fit()


class PropertyTask:
    """Voxels, atoms or fingerprints in, standardised labels out."""

    def __init__(self, config: PropertyConfig, run: Path, team: Team) -> None:
        self.config, self.run, self.team = config, run, team
        training, validation = (read_catalog(config.store, split, ()) for split in ("train", "validation"))
        validation = leave_out(validation, list_groups(training))
        training = choose_molecules(training, config.molecules)
        self.training, self.validation = training, choose_samples(validation, config.validation_samples)
        self.standard = measure_labels(training, config.targets)
        check_labels(self.validation, config.targets)
        is_cnn = config.model == "cnn"
        self.channels = tuple(find_channels(training.datasets[0], config.representation if is_cnn else ()))
        self.cells = round_up(config.cells or int(training.shapes.max()), config.levels) if is_cnn else 0
        self.judged = open_inputs(config.model, self.validation, self.channels, config.targets, self.cells)
        self.learnt = open_inputs(
            config.model, training, self.channels, config.targets, self.cells, turn=config.turn, seed=config.seed
        )
        input = " + ".join(channel.name for channel in self.channels) if is_cnn else config.model
        self.origin = describe_origin(input, ", ".join(config.targets), training, validation)
        self.stores: Stores = list(zip(map(str, config.store), training.fingerprints, strict=True))

    def fit(self) -> None:
        """A model of fingerprints, in one go; validation chooses what is not fitted. The history is its one score."""
        learnt, judged = (_read_all(boxes, self.standard) for boxes in (self.learnt, self.judged))
        network = FITTED[self.config.model](learnt, judged, self.config.seed)
        score = self.validate(network)
        if self.team.leads:
            write_history(self.run, [{"step": 0, "validation": score}])
            self.keep(network, 0)
        self.team.wait()

    def batches(self, step: int) -> Generator[Batch]:
        config, team = self.config, self.team
        settings = StreamSettings(
            batch=config.batch,
            window=config.window,
            seed=config.seed,
            by_class=False,
            rank=team.rank,
            world=team.world,
            workers=config.workers,
            device=team.device,
        )
        return Stream(self.learnt, self.training, settings).batches(step)

    def measure(self, network: nn.Module, batch: Batch) -> Share:
        """Mean over the known labels of a batch, of errors in standard deviations."""
        errors = (network(batch.guess).float() - self.standard.standardise(batch.target)) * batch.judged
        powered = errors.abs() if self.config.loss == "mae" else errors.square()
        return Share(powered.sum(), batch.judged.sum().float().clamp(min=1e-6))

    def validate(self, network: nn.Module) -> float:
        """Mean over the targets of the mean absolute error, in standard deviations of the training split."""
        samples = self.team.share_out(list(range(len(self.validation))))
        outputs = predict_samples(network, self.judged, samples, self.config.batch, self.team.device)
        outputs = outputs.reshape(len(samples), len(self.config.targets))  # a process may have none
        known = self.standard.standardise(torch.from_numpy(read_labels(self.validation, self.config.targets)[samples]))
        errors = self.team.collect((outputs - known).abs().tolist())
        return float(np.mean(np.nanmean(np.array(errors), axis=0)))

    def describe(self, score: float) -> str:
        return f"lowest validation error {score:.3f} standard deviations"

    def keep(self, network: nn.Module, step: int) -> None:
        channels = self.channels if self.config.model == "cnn" else ()
        save_property_model(
            self.run, PropertyModel(self.config.model, network, channels, self.standard, self.origin, step)
        )

    @cached_property
    def network(self) -> nn.Module:
        """As it is before the first step."""
        config, outputs = self.config, len(self.config.targets)
        torch.manual_seed(config.seed)
        if config.model == "schnet":
            return build_property_network("schnet", SchNetArchitecture(outputs))
        assert isinstance(self.learnt, ChannelBoxes)
        chosen = range(0, len(self.training), math.ceil(len(self.training) / MEASURED))
        network = VoxelNetwork(describe_voxels(config, self.learnt, chosen, outputs))
        network.standardise(self.learnt.read_turned(sample, ROTATIONS[0]) for sample in chosen)
        self._guess(network, self.learnt)
        return network

    def _guess(self, network: VoxelNetwork, learnt: ChannelBoxes) -> None:
        """Gives the network its guess, fitted once for a run: what is learned is what that leaves of the labels."""
        stores = self.training.fingerprints  # a run that was killed before its first checkpoint may find others
        is_new = not has_object(self.run, GUESS) or read_tensors(self.run, GUESS)["stores"] != stores
        self.team.wait()
        if is_new and self.team.leads:
            described = describe_all(network, learnt)
            network.guess.measure(described)
            labels = self.standard.standardise(torch.tensor(learnt.labels)).numpy()
            numbers = network.guess.standardise(described).double().numpy()
            weights, bias, guesses = fit_guess((numbers, labels), self.training.table["group"].tolist())
            network.guess.weights.copy_(torch.from_numpy(weights))
            network.guess.bias.copy_(torch.from_numpy(bias))
            fitted = {"model": network.guess.state_dict(), "training": torch.from_numpy(guesses), "stores": stores}
            write_tensors(self.run, GUESS, fitted)
        self.team.wait()
        content = read_tensors(self.run, GUESS)
        network.guess.load_state_dict(content["model"])
        learnt.labels = learnt.labels - content["training"].numpy() * np.array(self.standard.spreads)
        network.reach.copy_(torch.from_numpy(np.nanstd(learnt.labels, axis=0) / np.array(self.standard.spreads)))


def describe_all(network: VoxelNetwork, boxes: ChannelBoxes) -> Tensor:
    """Of every sample as it is stored, (samples, numbers)."""
    return torch.cat(
        [network.describe(boxes.read_turned(sample, ROTATIONS[0])) for sample in range(len(boxes.catalog))]
    )


def describe_voxels(
    config: PropertyConfig, boxes: ChannelBoxes, chosen: Sequence[int], outputs: int
) -> VoxelArchitecture:
    """The architecture that a config asks for, with the sizes of the fields as training has them."""
    stacked = [channel for channel in boxes.channels for _ in range(channel.fields)]
    scalings = [OCCUPANCIES.get(channel.name, config.scaling) for channel in stacked]
    peaks = [find_peak(boxes.catalog, channel) for channel in stacked]
    peaks = [1.0 if scaling == "depth" else peak for scaling, peak in zip(scalings, peaks, strict=True)]
    plain = VoxelArchitecture(
        scalings=tuple(scalings),
        peaks=tuple(peaks),
        gains=(1.0,) * len(peaks),
        cells=boxes.cells,
        width=config.width,
        depth=config.depth,
        levels=config.levels,
        outputs=outputs,
    )
    gains = measure_gains(boxes, chosen, VoxelNetwork(plain).scale)
    return VoxelArchitecture(**{**vars(plain), "gains": tuple(gains)})


def find_peak(catalog: Catalog, channel: Channel) -> float:
    """The channel's largest value in the training split. Raises StoreError where it is empty."""
    peak = max(float(dataset.attributes["statistics"][channel.name]["maximum"]) for dataset in catalog.datasets)
    if not peak > 0:
        raise StoreError(f"{catalog.datasets[0].store}: channel {channel.name!r} is empty in the training split")
    return peak


def open_inputs(
    model: str,
    catalog: Catalog,
    channels: Sequence[Channel],
    targets: Sequence[str],
    cells: int,
    *,
    turn: bool = False,
    seed: int = 0,
) -> Boxes:
    """What a kind of model sees of a catalogue's samples, with their labels."""
    labels = read_labels(catalog, targets)
    if model == "cnn":
        return ChannelBoxes(catalog, channels, labels, cells, turn=turn, seed=seed)
    return AtomBoxes(catalog, labels) if model == "schnet" else FingerprintBoxes(catalog, labels)


def measure_labels(training: Catalog, targets: Sequence[str]) -> Standard:
    """Raises StoreError where a label is missing everywhere, or always the same."""
    labels = read_labels(training, targets)
    for target, values in zip(targets, labels.T, strict=True):
        known = values[~np.isnan(values)]
        if not len(known) or not known.std() > 0:
            raise StoreError(
                f"{training.datasets[0].store}: label {target!r} has "
                f"{'one value only' if len(known) else 'no value'} in the training split: leave it out of targets"
            )
    return Standard(
        tuple(targets), tuple(np.nanmean(labels, axis=0).tolist()), tuple(np.nanstd(labels, axis=0).tolist())
    )


def check_labels(validation: Catalog, targets: Sequence[str]) -> None:
    """Raises StoreError for a label that no molecule of the validation split has: nothing could be chosen by it."""
    for target, values in zip(targets, read_labels(validation, targets).T, strict=True):
        if np.isnan(values).all():
            raise StoreError(
                f"{validation.datasets[0].store}: label {target!r} has no value in the validation split: "
                "leave it out of targets, or build a store with more molecules"
            )


@torch.no_grad()
def predict_samples(
    network: nn.Module, boxes: Boxes, samples: Sequence[int], batch: int, device: torch.device
) -> Tensor:
    """Standardised outputs on the CPU, (samples, targets), float64."""
    network.eval()
    found = [torch.zeros((0, 0), dtype=torch.float64)] if not samples else []
    for start in range(0, len(samples), batch):
        inputs = boxes.read([Draw(sample, 0) for sample in samples[start : start + batch]]).guess
        found.append(network(inputs.to(device)).double().cpu())
    return torch.cat(found)


def _read_all(boxes: Boxes, standard: Standard) -> tuple[FloatArray, FloatArray]:
    """Fingerprints (samples, bits), and standardised labels (samples, targets), NaN where unknown."""
    assert isinstance(boxes, FingerprintBoxes)
    labels = standard.standardise(torch.tensor(boxes.labels)).numpy()
    return boxes.fingerprints.astype(np.float64), labels
