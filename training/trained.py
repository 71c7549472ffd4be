"""A trained network, with what it was trained on."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import RequestError
from storage.objects import checksum_object, has_object
from training.catalog import SAME_SPACING, Catalog
from training.models.build import Network, architecture_values, build_network, read_architecture
from training.subsets import list_groups
from training.superres.calibration import read_calibration
from training.tensor_files import read_tensors, write_tensors

BEST = "best.pt"  # the averaged weights with the lowest validation NMAE
EVALUATION = "evaluation.json"
PRETRAINED = Path(__file__).parent / "pretrained"  # models that come with the package, each in a folder of its name


@dataclass(frozen=True)
class Origin:
    """The data a model was made from: what another store must have in common with it, and what it must not."""

    stores: list[str]
    input: str
    target: str
    spacing: tuple[float, float, float]  # bohr
    groups: list[str]  # molecules seen in training or in choosing the checkpoint
    elements: list[int] = field(default_factory=list)  # atomic numbers seen in training
    recipe: dict[str, Any] = field(default_factory=dict)  # of the first store: how a guess is made, and on which grid
    charges: list[int] = field(default_factory=lambda: [0])  # of molecules seen in training
    unpaired: list[int] = field(default_factory=lambda: [0])  # how many electrons of theirs were
    distances: dict[str, list[int]] | None = None  # between their atoms (`collect_distances`); None: not known
    spacing_range: float = 0.0  # cells up to this share narrower and wider were seen, too
    chosen_by: list[str] = field(default_factory=list)  # those of `groups` that only chose the checkpoint, if known

    @property
    def trained(self) -> set[str]:
        """Molecules seen in training; all, where a run of an earlier version does not tell them apart."""
        return {*self.groups} - {*self.chosen_by}

    def knows_cells(self, spacing: tuple[float, float, float]) -> bool:
        """Whether cells like these (bohr) were seen in training."""
        ratios = np.array(spacing) / self.spacing
        return bool(np.ptp(ratios) <= SAME_SPACING and np.abs(ratios - 1).max() <= self.spacing_range + SAME_SPACING)


def describe_origin(input: str, target: str, training: Catalog, validation: Catalog) -> Origin:
    groups, chosen_by = list_groups(training) | list_groups(validation), list_groups(validation)
    stores = [str(dataset.store) for dataset in training.datasets]
    recipe = training.datasets[0].attributes["recipe"]
    charges, unpaired = (sorted({*map(int, training.table[key])}) for key in ("charge", "unpaired"))
    return Origin(
        stores, input, target, training.spacing, sorted(groups), training.elements, recipe, charges, unpaired,
        chosen_by=sorted(chosen_by),
    )  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A trained network, ready to predict."""

    network: Network
    origin: Origin
    step: int


def save_model(run: Path, model: Model) -> None:
    content = {
        "architecture": architecture_values(model.network.architecture),
        "weights": model.network.state_dict(),
        "origin": asdict(model.origin),
        "step": model.step,
    }
    write_tensors(run, BEST, content)


def locate_run(name: str) -> Path:
    """A run's folder, or the model of that name that comes with the package. Raises RequestError."""
    run = Path(name)
    if run.is_dir():
        return run
    if has_object(PRETRAINED / name, BEST):
        return PRETRAINED / name
    shipped = ", ".join(sorted(file.parent.name for file in PRETRAINED.glob(f"*/{BEST}"))) or "none"
    raise RequestError(
        f"{name}: neither the folder of a training run nor a model that comes with rhoflow ({shipped}): "
        f"check the path, or train with `rhoflow train superres CONFIG {name}`"
    )


def checksum_model(run: Path) -> str:
    """sha256 of what predictions and their expected errors depend on: not of how these fared in an evaluation."""
    known = read_calibration(run)
    foreseen = [known.step, known.scale, known.power] if known else []
    return hashlib.sha256(json.dumps([checksum_object(run, BEST), *foreseen]).encode()).hexdigest()


def load_model(run: Path) -> Model:
    """The best model of a run, on the CPU. Raises RequestError where there is none yet."""
    if not has_object(run, BEST):
        raise RequestError(
            f"{run} holds no trained model ({BEST}): train it with `rhoflow train superres CONFIG {run}`"
        )
    content = read_tensors(run, BEST)
    if "standard" in content:
        raise RequestError(f"{run} predicts properties, no densities: judge it with `rhoflow evaluate {run} STORE`")
    network = build_network(read_architecture(content["architecture"]))
    network.load_state_dict(content["weights"])
    origin = {**content["origin"], "spacing": tuple(content["origin"]["spacing"])}
    return Model(network.eval(), Origin(**origin), content["step"])
