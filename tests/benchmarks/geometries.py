"""The share of geometries that the model which comes along takes for strange, and so foresees no error of."""

import random
from collections.abc import Callable
from functools import partial

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds
from rdkit.Chem.rdMolTransforms import GetBondLength, SetBondLength
from rdkit.Geometry import Point3D

from pipeline.molecule import smiles_group
from pipeline.qm9 import read_qm9
from pipeline.units import BOHR_PER_ANGSTROM
from storage.schema import FloatArray, IntArray, Molecule
from training.distances import collect_distances, find_strange
from training.trained import load_model, locate_run

MODEL = "qm9-gfn2"
HEAVY_ATOMS = 7
TRAINED, OTHERS, FEW = 1300, 400, 100  # the molecules of the model's store, more, and those of a small training

Geometry = tuple[IntArray, FloatArray]  # atomic numbers (atoms,), positions (atoms, 3), bohr


def main() -> None:
    """How many are strange as they are, and changed."""
    origin = load_model(locate_run(MODEL)).origin
    assert origin.distances
    molecules = list(read_qm9(heavy_atoms=HEAVY_ATOMS, count=TRAINED + OTHERS))
    groups = [smiles_group(molecule.smiles) for molecule in molecules]
    others = [molecule for molecule, group in zip(molecules, groups, strict=True) if group not in origin.groups]
    trained = [molecule for molecule, group in zip(molecules, groups, strict=True) if group in origin.trained]
    few = collect_distances(map(as_it_is, random.Random(1).sample(trained, FEW)))
    print(
        f"  {len(others)} QM9 molecules that {MODEL} was not trained on; in brackets with the distances of {FEW} only"
    )
    for change, make in CHANGES.items():
        changed = [geometry for geometry in map(make, others) if geometry]
        shares = [
            100 * np.mean([bool(find_strange(*geometry, known)) for geometry in changed])
            for known in (origin.distances, few)
        ]
        print(f"  {change:40} {shares[0]:5.1f} % strange ({shares[1]:5.1f} %), of {len(changed)}", flush=True)


def as_it_is(molecule: Molecule) -> Geometry:
    assert molecule.numbers is not None
    assert molecule.positions is not None
    return molecule.numbers, molecule.positions


def scale(factor: float, molecule: Molecule) -> Geometry:
    numbers, positions = as_it_is(molecule)
    return numbers, factor * positions


def shake(deviation: float, molecule: Molecule) -> Geometry:
    """By normal noise on each coordinate, bohr."""
    numbers, positions = as_it_is(molecule)
    return numbers, positions + np.random.default_rng(molecule.row).normal(0, deviation, positions.shape)


def stretch(angstrom: float, molecule: Molecule, *, hydrogen: bool) -> Geometry | None:
    """A bond that is in no ring, to a hydrogen or of two heavy atoms; None where there is none."""
    numbers, positions = as_it_is(molecule)
    drawn = Chem.RWMol()
    for number in numbers.tolist():
        drawn.AddAtom(Chem.Atom(number))
    shape = Chem.Conformer(len(numbers))
    for atom, place in enumerate((positions / BOHR_PER_ANGSTROM).tolist()):
        shape.SetAtomPosition(atom, Point3D(*place))
    drawn.AddConformer(shape)
    rdDetermineBonds.DetermineConnectivity(drawn)
    Chem.FastFindRings(drawn)
    ends = [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        for bond in drawn.GetBonds()
        if not bond.IsInRing()
        and (1 in {bond.GetBeginAtom().GetAtomicNum(), bond.GetEndAtom().GetAtomicNum()}) == hydrogen
    ]
    if not ends:
        return None
    bond, shape = random.Random(molecule.row).choice(ends), drawn.GetConformer()
    SetBondLength(shape, *bond, GetBondLength(shape, *bond) + angstrom)
    return numbers, shape.GetPositions() * BOHR_PER_ANGSTROM


CHANGES: dict[str, Callable[[Molecule], Geometry | None]] = {
    "as they are": as_it_is,
    **{f"a bond to hydrogen {by:+g} Å": partial(stretch, by, hydrogen=True) for by in (-0.2, 0.2, 0.3)},
    **{f"a bond of heavy atoms {by:+g} Å": partial(stretch, by, hydrogen=False) for by in (-0.2, 0.2, 0.3, 0.5, 1.0)},
    **{f"all lengths times {by:g}": partial(scale, by) for by in (0.9, 0.95, 1.05, 1.1)},
    **{f"noise of {by:g} bohr on each coordinate": partial(shake, by) for by in (0.05, 0.1, 0.2)},
}
