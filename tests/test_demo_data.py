"""The demo's molecules are real: their labels are those of the literature."""

import csv
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from rdkit import Chem

from pipeline.failures import InvalidInput
from pipeline.molecule import canonical_smiles, read_graph
from pipeline.sources import read_molecules
from storage.schema import Molecule

FREESOLV = Path(__file__).parents[2] / "shared" / "reference" / "freesolv" / "freesolv.csv"
LABEL = "dG_hyd_exp_kcal"


@pytest.fixture(scope="module")
def molecules() -> list[Molecule]:
    with as_file(files("flows.demo") / "molecules.csv") as path:
        return list(read_molecules(path, id="name", labels=[LABEL]))


def readable(molecules: list[Molecule]) -> dict[str, Molecule]:
    found = {}
    for molecule in molecules:
        try:
            found[canonical_smiles(read_graph(molecule.smiles))] = molecule
        except InvalidInput:
            assert molecule.id == "pentavalent_carbon"
    return found


def test_all_but_one_row_are_distinct_molecules(molecules):
    assert len(readable(molecules)) == len(molecules) - 1 >= 30


def test_molecules_are_small_and_organic(molecules):
    for smiles in readable(molecules):
        atoms = Chem.MolFromSmiles(smiles).GetAtoms()
        assert len(atoms) <= 5
        assert {atom.GetSymbol() for atom in atoms} <= {"C", "N", "O", "F"}


def test_names_are_unique_and_every_molecule_has_a_label(molecules):
    assert len({molecule.id for molecule in molecules}) == len(molecules)
    assert all(-15 < molecule.labels[LABEL] < 5 for molecule in readable(molecules).values())


@pytest.mark.reference
@pytest.mark.skipif(not FREESOLV.exists(), reason="the reference folder is absent")
def test_labels_are_those_of_freesolv(molecules):
    with FREESOLV.open(newline="") as file:
        measured = {Chem.CanonSmiles(row["smiles"]): float(row[LABEL]) for row in csv.DictReader(file)}
    for smiles, molecule in readable(molecules).items():
        assert molecule.labels[LABEL] == measured[smiles], molecule.id
