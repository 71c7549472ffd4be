"""Small datasets with their wavefunctions, built in this process: by default of two xTB densities."""

from collections.abc import Mapping
from pathlib import Path

from flows.conform import conform_part
from flows.plan import plan_dataset
from flows.recipe import read_recipe, recipe_values
from flows.shard import compute_shard
from flows.source import read_source
from storage.generations import count_parts
from storage.header import Header, begin_store
from storage.reader import Dataset, open_dataset
from storage.seal import seal

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
    recipe, store = read_recipe(folder / "recipe.toml"), folder / "store.zarr"
    begin_store(store, Header(recipe_values(recipe), text))
    read_source(store, recipe)
    for part in range(count_parts(store)):
        conform_part(store, part)
    for shard in plan_dataset(store).shards():
        compute_shard(store, shard.number)
    seal(store)
    return open_dataset(store)
