"""A small store with GFN2 guesses, and a model that was trained on it in seconds."""

from dataclasses import replace
from pathlib import Path

import torch

from flows.prediction.predict import Wanted
from tests.flows.small_build import build_here
from training.config import SuperresConfig
from training.superres.task import train_superres

RECIPE = """
[source]
path = "molecules.csv"
id = "name"
[densities.guess]
engine = "gfn2"
[densities.target]
engine = "gaussian"
exponent = 0.5
[grid]
spacing_angstrom = 0.4
margin_angstrom = 2.0
classes = [16, 20]
[splits]
train = 0.4
validation = 0.3
test = 0.3
"""
SMILES = {
    "methane": "C",
    "water": "O",
    "ammonia": "N",
    "methanol": "CO",
    "ethene": "C=C",
    "cyanide": "C#N",
    "ethane": "CC",
}
CONFIG = SuperresConfig(
    learning_rate=2e-3, steps=120, batch=2, crop=16, width=4, depth=1, levels=2, checkpoint_steps=40, device="cpu"
)


def build_store(folder: Path) -> Path:
    """Of seven molecules; the targets are analytic."""
    rows = "".join(f"{name},{smiles}\n" for name, smiles in SMILES.items())
    (folder / "molecules.csv").write_text("name,smiles\n" + rows)
    (folder / "recipe.toml").write_text(RECIPE)
    return build_here(folder / "recipe.toml", folder / "store.zarr")


def train_model(folder: Path, store: Path) -> Path:
    torch.set_num_threads(1)
    train_superres(replace(CONFIG, store=(store,)), folder / "run")
    return folder / "run"


def want(run: Path | str, input: Path | str, out: Path, **more: object) -> Wanted:
    settings = {"format": None, "smiles": "smiles", "id": None, "memory_gib": 8.0, **more}
    return Wanted(str(run), str(input), out, **settings)  # type: ignore[arg-type]
