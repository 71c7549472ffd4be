"""What a training run can be told."""

import math
from dataclasses import dataclass, field
from typing import Any

from storage.objects import Location
from training.kept import GIB, KEPT_BYTES


@dataclass(frozen=True)
class Allowed:
    """The values that a key may have."""

    least: float = -math.inf
    above: float = -math.inf
    below: float = math.inf
    among: tuple[object, ...] = ()

    def find_fault(self, value: object) -> str:
        """What is wrong with a value of the right type; "" where nothing is."""
        if self.among and value not in self.among:
            return f"use {' or '.join(map(str, self.among))}"
        if not isinstance(value, int | float):
            return ""
        if not value > self.above:
            return f"must be greater than {self.above:g}"
        if not value >= self.least:
            return f"must be {self.least:g} or greater"
        if self.below == math.inf:
            return "" if value < math.inf else "must be finite"
        return "" if value < self.below else f"must be less than {self.below:g}"


def key(default: Any, **allowed: Any) -> Any:
    return field(default=default, metadata={"allowed": Allowed(**allowed)})


@dataclass(frozen=True)
class TrainingConfig:
    """What every training can be told. What the data are (spacing, scale) comes from the store, never from here."""

    store: tuple[Location, ...] = ()  # one or several; a path in the file is relative to the file
    batch: int = key(2, above=0)  # samples in one step, of all processes together
    window: int = key(64, above=0)  # shards within which samples are mixed
    workers: int = key(2, least=0)  # threads that read ahead, in each process
    steps: int = key(3000, least=0)  # 0: what is there before the first
    learning_rate: float = key(1e-3, above=0)  # the largest
    optimiser: str = key("adam", among=("adam", "adamw"))
    weight_decay: float = key(0.0, least=0)  # adamw's
    warm_up: float = key(0.05, least=0, below=1)  # of all steps
    clip: float = key(1.0, least=0)  # longest gradient; longer ones are shortened to it; 0 = any
    averaging: float = key(0.999, least=0, below=1)  # of the averaged weights, what stays at each step
    precision: str = key("float32", among=("float32", "bfloat16"))  # of the steps; validation is in float32
    compile: bool = False
    checkpoint_steps: int = key(300, above=0)  # steps between checkpoints, each with a validation
    validation_samples: int = key(0, least=0)  # of the validation split, chosen by a hash; 0 = all
    molecules: int = key(0, least=0)  # of the training split, with all their conformers, by a hash; 0 = all
    start: str = ""  # a run, or a model that comes with the package, whose weights training begins with
    patience: int = key(0, least=0)  # checkpoints without a better validation before it stops early; 0 = never
    seed: int = key(1, least=0)
    device: str = "auto"  # auto | cpu | cuda | cuda:N


@dataclass(frozen=True)
class SuperresConfig(TrainingConfig):
    """What the training of a super-resolution model can be told."""

    input: str = "guess"  # the density that the network starts from
    target: str = "target"  # the density that it learns
    voxels: str = key("stored", among=("stored", "device"))  # device: made from the kept wavefunctions
    spacing_range: float = key(0.0, least=0, below=0.5)  # device: cells up to this share narrower or wider than stored
    kept_gib: float = key(
        KEPT_BYTES / GIB, least=0
    )  # of decoded boxes, of training and validation each; the rest is decoded anew
    crop: int = key(24, least=0)  # cells along an edge of a crop; 0 = whole boxes
    turn: bool = True  # samples are turned at random
    factor: int = key(2, among=(2, 4))  # fine cells along an edge of the coarse cells that the network works on
    model: str = key("unet", among=("unet", "published"))
    width: int = key(32, above=0)  # features per coarse cell
    depth: int = key(4, above=0)  # residual blocks; of the U-Net, on the way down and up again at each level
    levels: int = key(1, above=0)  # of the U-Net: coarse cells, cells twice as wide, …
    fine_inputs: bool = False  # the published network sees what ours sees
    loss: str = key("nmae", among=("nmae", "mae", "mse", "smooth"))
    charges: float = key(0.0, least=0)  # what `charge_loss` counts beside it: dipoles, for a little of the NMAE


@dataclass(frozen=True)
class FieldConfig(TrainingConfig):
    """What the training of a molecular neural field can be told."""

    batch: int = key(4, above=0)  # molecules in one step
    checkpoint_steps: int = key(500, above=0)
    channels: tuple[str, ...] = ("H", "C", "N", "O")  # of atoms (pipeline/fields.py), density:NAME or gradient:NAME
    beta: float = key(0.5, above=0)  # of atoms' Gaussians exp(−β d²/r²)
    radii: tuple[str, ...] = ()  # r in ångström where it is not the property over carbon's, as in ["H=0.7", "C=1.0"]
    box_angstrom: float = key(0.0, least=0)  # edge of the cube that a field fills; 0 = the largest stored box
    cells: int = key(32, above=0)  # along an edge of the training grid
    positions: str = key("anywhere", among=("anywhere", "grid"))  # at which it is trained: on the grid only, or not
    crop: int = key(16, above=0)  # positions along an edge of what a step sees of a molecule
    near: float = key(0.5, least=0, below=1)  # anywhere: share of steps that look at half as wide a place, at an atom
    turn: bool = False  # molecules are turned at random: for encoders
    paths: float = key(0.0, least=0, below=1)  # share seen on straight ways to other geometries, neighbours' left out
    coder: str = key("learned", among=("learned", "encoder"))  # of latents: one set per molecule, or a network's
    latent_cells: int = key(16, above=0)  # along an edge of the latents' grid; 1 = one vector for the whole box
    latent_features: int = key(16, above=0)  # of each
    refinements: int = key(0, least=0)  # convolutions that double the latents' grid before it is interpolated
    width: int = key(64, above=0)  # features of a layer
    depth: int = key(3, above=0)  # layers
    first_frequency: float = key(30.0, above=0)  # of the periodic activations of the first layer
    frequency: float = key(1.0, above=0)  # of those of the others
    modulation: str = key("residual", among=("residual", "published"))
    loss: str = key("mse", among=("mse", "mae"))  # of fields scaled to 1


@dataclass(frozen=True)
class PropertyConfig(TrainingConfig):
    """What the training of a property model can be told."""

    batch: int = key(16, above=0)
    representation: tuple[str, ...] = ("density",)  # channels, stacked: names in the store, or atoms, density, gradient
    targets: tuple[str, ...] = ()  # labels of the store; where one is missing, a sample is judged by the others
    model: str = key("cnn", among=("cnn", "schnet", "ridge", "forest"))
    scaling: str = key("log", among=("none", "root", "log"))  # of densities and gradients, before the network
    turn: bool = True  # by one of the 24 rotations of the cube, drawn anew for every turn of a sample
    cells: int = key(0, least=0)  # along an edge of the network's cube; 0 = the largest that training stores
    width: int = key(16, above=0)  # features of the first level; each level has twice those of the one before
    depth: int = key(1, above=0)  # residual blocks of a level
    levels: int = key(3, above=0)  # each on cells twice as wide as the one before
    loss: str = key("mae", among=("mae", "mse"))  # of standardised targets
