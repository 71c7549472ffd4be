"""What the training of a super-resolution model is made of: its stores, its network, its loss, its validation."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from storage.errors import RequestError, StoreError
from storage.objects import checksum_object
from storage.reader import Dataset
from training.batch import Batch, Boxes, Draw, find_electrons
from training.catalog import Catalog, read_catalog
from training.checkpoint import Stores, claim_run
from training.config import SuperresConfig
from training.distances import collect_distances
from training.kept import GIB
from training.loop import train
from training.losses import Share, charge_loss, density_loss
from training.metrics import nmae
from training.models.build import Network, build_network, describe_network
from training.models.prediction import predict_density
from training.parallel import Team, assemble_team
from training.stored import Cutting, StoredBoxes
from training.stream import Stream, StreamSettings
from training.subsets import choose_molecules, choose_samples, leave_out, list_groups
from training.superres.calibration import CALIBRATED, find_calibration
from training.superres.spreads import calibrate
from training.superres.start import add_origins, check_start
from training.trained import BEST, Model, Origin, describe_origin, load_model, locate_run, save_model
from training.wavefunctions import WavefunctionBoxes


def train_superres(config: SuperresConfig, run: Path, *, resume: bool = False) -> None:
    """Train, or with `resume` go on; `run` then holds config, last state, best model, its calibration and history.

    Raises RequestError where `run` holds another training, StoreError where a store lacks what is needed.
    """
    if not config.store:
        raise RequestError(f'{run}: no store is named: add store = "PATH" to the config, or give --store PATH')
    with assemble_team(config.device) as team:
        task = run_training(config, run, team, resume=resume)
        if team.leads:
            model = load_model(run)
            model.network.to(team.device)
            if find_calibration(run, model.step) is None:
                calibrate(run, model, *task.open_calibration())


def run_training(config: SuperresConfig, run: Path, team: Team, *, resume: bool) -> "SuperresTask":
    """The training alone: what it makes is not calibrated."""
    task = SuperresTask(config, run, team)
    claim_run(run, config, resume, team)
    train(task, config, run, team)
    return task


class SuperresTask:
    """A guess in, the target out."""

    def __init__(self, config: SuperresConfig, run: Path, team: Team) -> None:
        self.config, self.run, self.team = config, run, team
        channels = (config.input, config.target) if config.voxels == "stored" else ()
        training, validation = (read_catalog(config.store, split, channels) for split in ("train", "validation"))
        begun = load_model(locate_run(config.start)) if config.start else None
        validation = leave_out(validation, list_groups(training) | (begun.origin.trained if begun else set()))
        training = choose_molecules(training, config.molecules)
        self.training, self._unseen = training, validation
        self.validation = choose_samples(validation, config.validation_samples)
        self.whole, self.electrons = self._open_whole(self.validation)
        origin = describe_origin(config.input, config.target, training, validation)
        self._origin, self._begun = replace(origin, spacing_range=config.spacing_range), begun
        self.stores: Stores = list(zip(map(str, config.store), training.fingerprints, strict=True))
        torch.manual_seed(config.seed)
        network = _build(config, find_peak(training.datasets, config.input))
        if begun:
            check_start(config.start, begun, network, origin)
            network = begun.network.train()
            self.stores = [*self.stores, ("start", checksum_object(locate_run(config.start), BEST))]
        if team.device.type == "cpu":  # a cell's features side by side: steps are a tenth to a third faster there
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.network: nn.Module = network

    @cached_property
    def origin(self) -> Origin:
        """What the model is made from; for those who save it alone, as the distances of many molecules take a while."""
        training = self.training
        distances = collect_distances((training.numbers_of(k), training.positions_of(k)) for k in range(len(training)))
        origin = replace(self._origin, distances=distances)
        return add_origins(origin, self._begun.origin) if self._begun else origin

    def batches(self, step: int) -> Generator[Batch]:
        config, team = self.config, self.team
        multiple = config.factor if config.crop else cast(Network, self.network).multiple
        cutting = Cutting(config.crop, multiple, config.turn, config.seed)
        boxes = self._open_boxes(self.training, cutting, config.spacing_range)
        settings = StreamSettings(
            batch=config.batch,
            window=config.window,
            seed=config.seed,
            by_class=not config.crop,
            rank=team.rank,
            world=team.world,
            workers=config.workers,
            device=team.device,
        )
        return Stream(boxes, self.training, settings).batches(step)

    def measure(self, network: nn.Module, batch: Batch) -> Share:
        batch = batch if batch.ids else make_vacuum(batch)
        density = cast(Tensor, network(batch.guess))
        weights = batch.judged if not self.config.spacing_range else weigh_cells(batch)
        share = density_loss(self.config.loss, density, batch.target, weights)
        if not self.config.charges:
            return share
        charges = charge_loss(density, batch.target, weights)
        return Share(share.total + self.config.charges * charges.total, share.weight)

    def validate(self, network: nn.Module) -> float:
        """Mean NMAE over whole boxes."""
        samples = self.team.share_out(list(range(len(self.validation))))
        return float(np.mean(self.team.collect([self._score(network, sample) for sample in samples])))

    def describe(self, score: float) -> str:
        return f"lowest validation NMAE {100 * score:.3f} %"

    def keep(self, network: nn.Module, step: int) -> None:
        save_model(self.run, Model(cast(Network, network), self.origin, step))

    def open_calibration(self) -> tuple[Boxes, list[float]]:
        """Whole boxes of molecules that no step saw, and the electrons of their guesses."""
        return self._open_whole(choose_samples(self._unseen, CALIBRATED))

    def _open_whole(self, catalog: Catalog) -> tuple[Boxes, list[float]]:
        known = catalog.electrons(self.config.input)  # in the stored boxes; others have those of their own cells
        electrons = (known if self.config.voxels == "stored" else np.full_like(known, np.nan)).tolist()
        return self._open_boxes(catalog, Cutting(seed=self.config.seed)), electrons

    def _score(self, network: nn.Module, sample: int) -> float:
        box = self.whole.read([Draw(sample, 0)])
        electrons = find_electrons(box, self.electrons[sample])
        density = predict_density(cast(Network, network), box.guess[0].cpu().numpy(), electrons, box.volumes[0])
        return nmae(density, box.target[0].cpu().numpy())

    def _open_boxes(self, catalog: Catalog, cutting: Cutting, spacing_range: float = 0.0) -> Boxes:
        config, device, kept = self.config, self.team.device, int(self.config.kept_gib * GIB)
        if config.voxels == "device":
            return WavefunctionBoxes(
                catalog, config.input, config.target, cutting, device, spacing_range=spacing_range, kept_bytes=kept
            )
        pinned = device.type == "cuda"
        return StoredBoxes(catalog, config.input, config.target, cutting, pinned=pinned, kept_bytes=kept)


def make_vacuum(batch: Batch) -> Batch:
    """One empty box, judged nowhere, for a process whose part of a batch is none: it has to take the step too."""
    empty = batch.guess.new_zeros((1, *batch.guess.shape[1:]))
    return Batch((), empty, empty, empty.bool(), (0.0,))


def weigh_cells(batch: Batch) -> Tensor:
    """The volume of each cell that is judged, (batch, nx, ny, nz), bohr³; 0 of the others."""
    return batch.judged * torch.tensor(batch.volumes, device=batch.judged.device)[:, None, None, None]


def find_peak(datasets: Sequence[Dataset], input: str) -> float:
    """The input's largest value in the training split, electrons/bohr³: the scale of the network's features.

    Raises StoreError where that is not known, or 0.
    """
    for dataset in datasets:
        if input not in dataset.channels:
            raise StoreError(
                f"{dataset.store} has no voxels of {input!r}, by which a training is judged: "
                f"`rhoflow voxelize {dataset.store} NEW --densities ...` makes them from kept wavefunctions"
            )
    peak = max(float(dataset.attributes["statistics"][input]["maximum"]) for dataset in datasets)
    if not peak > 0:
        raise StoreError(
            f"{datasets[0].store}: channel {input!r} is empty in the training split (its largest value is {peak})"
        )
    return peak


def _build(config: SuperresConfig, peak: float) -> Network:
    """Raises RequestError where crops of the config do not suit the network."""
    architecture = describe_network(
        config.model,
        factor=config.factor,
        width=config.width,
        depth=config.depth,
        levels=config.levels,
        peak=peak,
        fine_inputs=config.fine_inputs,
    )
    network = build_network(architecture)
    if config.crop % network.multiple:
        near = config.crop - config.crop % network.multiple + network.multiple
        raise RequestError(
            f"crop = {config.crop}: model = {config.model!r} needs a multiple of {network.multiple}; use {near}"
        )
    return network
