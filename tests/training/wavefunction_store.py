"""Small datasets with their wavefunctions, built in this process: by default of two xTB densities."""

from collections.abc import Mapping
from pathlib import Path

from storage.reader import Dataset, open_dataset
from tests.flows.small_build import build_here

SMILES = {"methanol": "CO", "formaldehyde": "C=O", "fluoromethane": "CF", "water": "O"}

RECIPE = """
[source]
path = "molecules.csv"
id = "name"
[densities.guess]
engine = "gfn1"
[densities.target]
engine = "gfn2"
[grid]
spacing_angstrom = 0.3
margin_angstrom = {margin}
sampling = "{sampling}"
classes = [20, 24, 28, 32, 36, 40]
[splits]
train = 1.0
validation = 0.0
test = 0.0
[store]
shard_samples = 2
round_to = 0
wavefunctions = {wavefunctions}
"""


def build_store(folder: Path, sampling: str = "cell", margin: float = 2.0, wavefunctions: bool = True) -> Dataset:
    text = RECIPE.format(sampling=sampling, margin=margin, wavefunctions=str(wavefunctions).lower())
    return build_recipe(folder, SMILES, text)


def build_recipe(folder: Path, smiles: Mapping[str, str], text: str) -> Dataset:
    """The store that a recipe of `molecules.csv` makes of these molecules."""
    return build_table(folder, "name,smiles\n" + "".join(f"{name},{it}\n" for name, it in smiles.items()), text)


def build_table(folder: Path, table: str, text: str) -> Dataset:
    """The store that a recipe of `molecules.csv` makes of that table."""
    folder.mkdir(parents=True)
    (folder / "molecules.csv").write_text(table)
    (folder / "recipe.toml").write_text(text)
    return open_dataset(build_here(folder / "recipe.toml", folder / "store.zarr"))
