"""QM9 is read from its package as it was published."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.qm9 import PRINCIPAL, PROPERTIES, read_qm9
from pipeline.sources import read_molecules
from pipeline.units import ANGSTROM_PER_BOHR
from storage.errors import RequestError
from storage.schema import FloatArray, Molecule

MASSES = {1: 1.00782503, 6: 12.0, 7: 14.0030740, 8: 15.9949146, 9: 18.9984032}  # of the isotopes that QM9 has
GHZ_AMU_SQUARE_ANGSTROM = 505.379005  # h/8π²


def heavy_atoms(molecule: Molecule) -> int:
    assert molecule.numbers is not None
    return int((molecule.numbers > 1).sum())


def moments_of_inertia(molecule: Molecule) -> FloatArray:
    """Three, ascending, amu·Å²."""
    assert molecule.numbers is not None
    assert molecule.positions is not None
    masses = np.array([MASSES[int(number)] for number in molecule.numbers])
    places = (molecule.positions - masses @ molecule.positions / masses.sum()) * ANGSTROM_PER_BOHR
    spread = np.einsum("a,ai,aj->ij", masses, places, places)
    return np.linalg.eigvalsh(np.trace(spread) * np.eye(3) - spread)


@pytest.fixture(scope="module")
def molecules() -> list[Molecule]:
    """All of them, with all their labels."""
    return list(read_qm9((*PROPERTIES, *PRINCIPAL)))


def test_qm9_has_as_many_molecules_as_were_published(molecules: list[Molecule]) -> None:
    assert len(molecules) == 133_885 - 3_054  # all but those that fell apart
    assert [molecule.row for molecule in molecules] == list(range(len(molecules)))
    assert molecules[0].id == "qm9_000001"
    assert molecules[-1].id == "qm9_133885"
    assert max(map(heavy_atoms, molecules)) == 9


def test_the_geometry_has_the_rotational_constants_of_its_row() -> None:
    for molecule in read_qm9(["rotB_GHz", "rotC_GHz"], heavy_atoms=7, count=300):
        _, middle, largest = moments_of_inertia(molecule)
        assert molecule.labels["rotB_GHz"] == pytest.approx(GHZ_AMU_SQUARE_ANGSTROM / middle, rel=2e-4)
        assert molecule.labels["rotC_GHz"] == pytest.approx(GHZ_AMU_SQUARE_ANGSTROM / largest, rel=2e-4)


def test_labels_of_a_molecule_agree_with_each_other() -> None:
    names = ["homo_Ha", "lumo_Ha", "gap_Ha", "alpha_bohr3", *PRINCIPAL, "U0_Ha", "U298_Ha", "H298_Ha"]
    for molecule in read_qm9(names, count=300):
        homo, lumo, gap, alpha, least, middle, largest, u0, u298, h298 = (
            float(molecule.labels[name]) for name in names
        )
        assert 0 < least <= middle <= largest
        assert lumo - homo == pytest.approx(gap, abs=1.1e-4)
        assert (least + middle + largest) / 3 == pytest.approx(alpha, abs=0.01)
        assert u0 < u298 < h298
        assert h298 - u298 == pytest.approx(0.000944, abs=2e-6)  # RT, hartree


def test_polarizabilities_are_the_same_however_a_molecule_lies(molecules: list[Molecule]) -> None:
    acetylene = molecules[3]
    assert acetylene.smiles == "C#C"
    assert [acetylene.labels[name] for name in PRINCIPAL] == pytest.approx([10.491, 10.491, 27.863])


def test_a_smaller_count_is_part_of_a_larger_one_in_qm9s_order() -> None:
    few, many = ([one.id for one in read_qm9(heavy_atoms=7, count=count)] for count in (40, 90))
    assert (len(few), len(many)) == (40, 90)
    assert set(few) < set(many)
    assert few == sorted(few)
    assert many == sorted(many)


def test_heavy_atoms_bounds_the_molecules_and_leaves_none_out() -> None:
    small = list(read_qm9(heavy_atoms=4))
    assert [one.id for one in small] == [one.id for one in read_qm9(heavy_atoms=5) if heavy_atoms(one) <= 4]
    assert max(map(heavy_atoms, small)) == 4


def test_what_qm9_has_not_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"QM9 has no 'U0'.*U0_Ha"):
        read_qm9(["U0"])
    with pytest.raises(RequestError, match=r"count = 90, but QM9 has 48 such molecules"):
        read_qm9(heavy_atoms=4, count=90)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qm9pack", None)  # no such package can be found
    with pytest.raises(RequestError, match=r"pip install 'rhoflow\[qm9\]'"):
        read_qm9()


@pytest.mark.reference
def test_positions_and_labels_are_those_of_the_published_files(molecules: list[Molecule], reference: Path) -> None:
    with (reference / "qm9" / "qm9_2000.csv").open(newline="") as file:
        rows = {int(row["index"]): row for row in csv.DictReader(file)}
    published = read_molecules(reference / "qm9" / "qm9_2000.extxyz.gz", id="index")
    ours = {int(one.id.removeprefix("qm9_")): one for one in molecules}
    for molecule in published:
        number = int(molecule.id)
        one = ours[number]
        np.testing.assert_array_equal(one.numbers, molecule.numbers)
        np.testing.assert_allclose(one.positions, molecule.positions, rtol=0, atol=1e-6)  # bohr
        assert one.smiles == rows[number]["smiles"]
        assert {name: one.labels[name] for name in PROPERTIES} == {
            name: float(rows[number][name]) for name in PROPERTIES
        }
