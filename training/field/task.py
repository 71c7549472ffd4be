"""What the training of a molecular neural field is made of: its molecules, its network, its loss, its validation."""

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError
from training.batch import Draw
from training.catalog import read_catalog
from training.checkpoint import Stores, claim_run
from training.config import FieldConfig
from training.field.boxes import FieldBatch, FieldBoxes, measure_scales
from training.field.model import FieldModel, FieldOrigin, save_field_model
from training.field.read import FieldReader
from training.field.scaling import make_scaling
from training.field.scenes import Scenes, StoredScenes, read_fields
from training.loop import train
from training.losses import Share
from training.models.field import FieldArchitecture, FieldNetwork
from training.order import Order
from training.parallel import Team, assemble_team
from training.subsets import choose_molecules, choose_samples, leave_out, list_groups

SCALED_BY = 64  # molecules whose largest values scale a field


def train_field(config: FieldConfig, run: Path, *, resume: bool = False) -> None:
    """Train, or with `resume` go on; `run` then holds config, last state, best model and history.

    Raises RequestError where `run` holds another training, StoreError where a store lacks what is needed.
    """
    train_material(config, run, read_material(config, run), resume=resume)


@dataclass(frozen=True)
class Material:
    """What a field is trained on."""

    training: Scenes
    judged: Scenes  # by which the checkpoint is chosen: the same, or for an encoder others
    edge: float  # of the box that each fills, bohr
    stores: Stores


def read_material(config: FieldConfig, run: Path) -> Material:
    """The molecules of a config's stores."""
    if not config.store:
        raise RequestError(f'{run}: no store is named: add store = "PATH" to the config, or give --store PATH')
    fields = read_fields(config.channels, config.beta, config.radii)
    known = read_catalog(config.store, "train", ())
    catalog = choose_molecules(known, config.molecules)
    training = judged = StoredScenes(catalog, fields)
    if config.coder == "encoder":
        validation = leave_out(read_catalog(config.store, "validation", ()), list_groups(known))
        validation = choose_samples(validation, config.validation_samples)
        judged = StoredScenes(validation, fields)
    edge = config.box_angstrom * BOHR_PER_ANGSTROM or max(training.edge, judged.edge)
    return Material(training, judged, edge, list(zip(map(str, config.store), catalog.fingerprints, strict=True)))


def train_material(config: FieldConfig, run: Path, material: Material, *, resume: bool = False) -> None:
    """The same, of molecules from anywhere."""
    with assemble_team(config.device) as team:
        task = FieldTask(config, run, team, material)
        claim_run(run, config, resume, team)
        train(task, config, run, team)


class FieldTask:
    """Positions in, values there out."""

    def __init__(self, config: FieldConfig, run: Path, team: Team, material: Material) -> None:
        self.config, self.run, self.team, self.stores = config, run, team, material.stores
        training, judged, edge = material.training, material.judged, material.edge
        labels, device = training.fields.labels, team.device
        unscaled = FieldBoxes(training, config, edge, make_scaling(labels, [1.0] * len(labels)), device)
        scales = measure_scales(unscaled, range(0, len(training), math.ceil(len(training) / SCALED_BY)))
        self.scaling = make_scaling(labels, scales)
        self.training = FieldBoxes(training, config, edge, self.scaling, device)
        self.judged = FieldBoxes(judged, config, edge, self.scaling, device)
        self.origin = FieldOrigin(
            stores=[name for name, _ in material.stores],
            fields=list(training.fields.names),
            beta=config.beta,
            radii=dict(training.fields.radii),
            scales=scales,
            edge=edge,
            cells=config.cells,
            ids=training.ids,
            groups=sorted({*training.groups, *judged.groups}),
        )
        torch.manual_seed(config.seed)
        self.network: nn.Module = FieldNetwork(describe_network(config, training))

    def batches(self, step: int) -> Generator[FieldBatch]:
        count, config, team = len(self.training.scenes), self.config, self.team
        same = np.zeros(count, dtype=np.int64)
        order = Order(np.arange(count), same, min(config.batch, count), max(config.window, count), config.seed)
        for epoch, samples in order.batches(step):
            draws = [Draw(sample, epoch) for sample in samples.tolist()]
            own = team.share_out(draws)
            yield replace(self.training.draw(own or draws[:1]), counts=bool(own))

    def measure(self, network: nn.Module, batch: FieldBatch) -> Share:
        """Mean over positions and fields."""
        difference = cast(Tensor, network(batch.source, batch.axes)).float() - batch.target
        powered = difference.abs() if self.config.loss == "mae" else difference.square()
        return Share(powered.sum() * batch.counts, difference.new_tensor(difference.numel() * batch.counts))

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float:
        """Root mean square error on training grids: of held-out molecules for an encoder, else of those it learns."""
        count = self.config.validation_samples or len(self.judged.scenes)
        numbers = self.team.share_out(list(range(min(count, len(self.judged.scenes)))))
        squares = self.team.collect([self._score(cast(FieldNetwork, network), number) for number in numbers])
        return math.sqrt(float(np.mean(squares)))

    def describe(self, score: float) -> str:
        return f"best PSNR {measure_psnr(score):.2f} dB"

    def keep(self, network: nn.Module, step: int) -> None:
        save_field_model(self.run, FieldModel(cast(FieldNetwork, network), self.origin, step))

    def _score(self, network: FieldNetwork, number: int) -> float:
        """Mean squared error of scaled values."""
        reader = FieldReader(FieldModel(network, self.origin, 0), self.judged)
        difference = reader.predict(number, self.config.cells) - reader.truth(number, self.config.cells)
        scales = np.array(self.origin.scales, dtype=np.float32)[:, None, None, None]
        return float(np.mean((difference / scales) ** 2))


def measure_psnr(error: float) -> float:
    """Of a root mean square error of fields whose largest value is 1, in dB."""
    return -20 * math.log10(max(error, 1e-12))


def describe_network(config: FieldConfig, training: Scenes) -> FieldArchitecture:
    """The architecture that a config asks for."""
    return FieldArchitecture(
        fields=training.fields.size,
        molecules=len(training) if config.coder == "learned" else 0,
        cells=config.cells,
        **{
            key: getattr(config, key)
            for key in (
                "latent_cells",
                "latent_features",
                "refinements",
                "width",
                "depth",
                "first_frequency",
                "frequency",
                "modulation",
            )
        },
    )
