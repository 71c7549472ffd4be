"""What may not cross the splits of a build."""

from pathlib import Path

import pytest

from pipeline.molecule import find_scaffold
from storage.reader import open_dataset
from tests.flows.small_build import build_here

RECIPE = """
[source]
path = "molecules.csv"
smiles = "smiles"
[densities.atoms]
engine = "gaussian"
exponent = 0.6
[grid]
spacing_angstrom = 1.0
margin_angstrom = 2.0
classes = [12, 16, 20]
[splits]
by = "scaffold"
train = 0.4
validation = 0.3
test = 0.3
"""


@pytest.mark.parametrize(
    ("smiles", "scaffold"),
    [("Cc1ccccc1CCC2CC2", "c1ccc(CCC2CC2)cc1"), ("C[C@H]1CCO1", "C1COC1"), ("CCO", ""), ("", "")],
)
def test_a_scaffold_is_rings_and_what_links_them(smiles: str, scaffold: str) -> None:
    assert find_scaffold(smiles) == scaffold


def test_molecules_of_one_scaffold_stay_in_one_split(tmp_path: Path) -> None:
    rings = ["c1ccccc1", "C1CC1", "C1COC1", "c1ccoc1"]
    (tmp_path / "molecules.csv").write_text(
        "\n".join(["smiles", *(side + ring for ring in rings for side in ("C", "CC", "O"))])
    )
    (tmp_path / "recipe.toml").write_text(RECIPE)
    table = open_dataset(build_here(tmp_path / "recipe.toml", tmp_path / "store.zarr")).table
    scaffolds = table.smiles.map(find_scaffold)
    assert table.groupby(scaffolds).split.nunique().tolist() == [1, 1, 1, 1]
    assert table.groupby(scaffolds).group.nunique().tolist() == [3, 3, 3, 3]
    assert table.split.nunique() > 1
