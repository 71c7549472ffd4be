"""A small dataset of chains of C, N and O, with every channel and a label that atoms add up to."""

from itertools import product
from pathlib import Path

from storage.reader import Dataset
from tests.training.wavefunction_store import build_table

WORTH = {"C": 1.0, "N": 2.5, "O": 5.0}  # kcal/mol
RECIPE = """
[source]
path = "molecules.csv"
id = "name"
labels = ["worth_kcal", "rare_D", "word"]
[conformers]
optimise = "none"
[densities.rho]
engine = "gaussian"
[grid]
spacing_angstrom = 0.6
margin_angstrom = 1.5
classes = [12, 14, 16, 18, 20]
[channels]
gradient_magnitude = ["rho"]
atom_types = true
atom_type_elements = ["H", "C", "N", "O"]
shape = true
shape_radius_angstrom = 1.7
[splits]
train = 0.7
validation = 0.1
test = 0.2
[store]
shard_samples = 8
"""


def build_chains(folder: Path, recipe: str = RECIPE) -> Dataset:
    """Forty-odd molecules; `rare_D` is known of every third only."""
    chains = [chain for length in (1, 2, 3, 4) for chain in product("CNO", repeat=length)]
    chosen = [chain for chain in chains if chain <= chain[::-1]]
    rows = [
        f"{''.join(chain)},{''.join(chain)},{sum(WORTH[atom] for atom in chain)},{len(chain) if not k % 3 else ''},a"
        for k, chain in enumerate(chosen)
    ]
    return build_table(folder, "\n".join(["name,smiles,worth_kcal,rare_D,word", *rows]) + "\n", recipe)
