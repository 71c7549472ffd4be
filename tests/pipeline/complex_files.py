"""Small proteins and ligands, written to files."""

from pathlib import Path

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from storage.schema import FloatArray

RESIDUE = {
    "N": (0.0, 0.0, 0.0),
    "CA": (1.46, 0.0, 0.0),
    "C": (2.0, 1.4, 0.0),
    "O": (1.3, 2.4, 0.0),
    "H": (-0.5, -0.85, 0),
}


def write_protein(path: Path, places: tuple[tuple[float, float, float], ...] = ((4, 0, 0), (0, 5, 0))) -> None:
    """A glycine at each of these places (Å)."""
    lines = [
        f"ATOM  {1:5d} {name:<4} GLY A{number:4d}    "
        + "".join(f"{value:8.3f}" for value in np.add(place, offset))
        + f"{1:6.2f}{10:6.2f}          {name[0]:>2}\n"
        for number, place in enumerate(places, start=1)
        for name, offset in RESIDUE.items()
    ]
    path.write_text("".join([*lines, "END\n"]))


def pose(smiles: str, place: tuple[float, float, float] = (0, 0, 0)) -> Chem.Mol:
    """With all hydrogens, centred on a place (Å)."""
    model = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(model, randomSeed=7) == 0
    positions: FloatArray = model.GetConformer().GetPositions()
    model.GetConformer().SetPositions(positions - positions.mean(axis=0) + np.array(place))
    return model


def mol_block(smiles: str, place: tuple[float, float, float] = (0, 0, 0), title: str = "") -> str:
    model = pose(smiles, place)
    model.SetProp("_Name", title)
    return str(Chem.MolToMolBlock(model))


def write_ligand(path: Path, smiles: str = "CO", place: tuple[float, float, float] = (0, 0, 0)) -> None:
    path.write_text(mol_block(smiles, place) + "$$$$\n")


MOL2 = """@<TRIPOS>MOLECULE
water
3 2 1 0 0
SMALL
NO_CHARGES

@<TRIPOS>ATOM
1 O 0.000 0.000 0.117 O.3 1 WAT 0.0
2 H1 0.000 0.757 -0.471 H 1 WAT 0.0
3 H2 0.000 -0.757 -0.471 H 1 WAT 0.0
@<TRIPOS>BOND
1 1 2 1
2 1 3 1
"""

PENTAVALENT = """bad
     made by hand

  6  5  0  0  0  0            999 V2000
    0.0000    0.0000    0.0000 C   0  0
    1.0000    1.0000    0.0000 F   0  0
   -1.0000    1.0000    0.0000 F   0  0
    1.0000   -1.0000    0.0000 F   0  0
   -1.0000   -1.0000    0.0000 F   0  0
    0.0000    0.0000    1.4000 F   0  0
  1  2  1  0
  1  3  1  0
  1  4  1  0
  1  5  1  0
  1  6  1  0
M  END
"""
