"""Reads QM9, 130,831 small organic molecules at their B3LYP geometries, from the package qm9pack."""

import csv
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.elements import NUMBERS
from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError
from storage.schema import Molecule

# Labels with their units, and the package's names for them.
PROPERTIES = {
    "rotA_GHz": "RotA_GHz",
    "rotB_GHz": "RotB_GHz",
    "rotC_GHz": "RotC_GHz",
    "mu_D": "Dipole_debye",
    "alpha_bohr3": "Polarizability_bohr3",
    "homo_Ha": "HOMO_au",
    "lumo_Ha": "LUMO_au",
    "gap_Ha": "HOMO_LUMO_gap_au",
    "r2_bohr2": "R2_bohr2",
    "zpve_Ha": "ZPVE_au",
    "U0_Ha": "InternalEnergy_0K_au",
    "U298_Ha": "InternalEnergy_298K_au",
    "H298_Ha": "Enthalphy_298K_au",
    "G298_Ha": "GibbsFreeEnergy_298K_au",
    "Cv_cal_molK": "Heatcapacity_Cv_cal_mol_K",
}
ATOMISATION = "U0_atom_Ha"  # U0 less that of the free atoms: negative where the molecule is bound
# Of the free atoms, hartree, at the level of U0: the data set's own reference values (Ramakrishnan et al., Sci. Data 1,
# 140022 (2014), file atomref).
FREE_ATOMS = {"H": -0.500273, "C": -37.846772, "N": -54.583861, "O": -75.064579, "F": -99.718730}
# Principal polarizabilities, ascending. The package has the tensor's components in another frame than the positions
# (acetylene lies along x, and its largest component is zz), so that no component would be of use beside these.
PRINCIPAL = ("alpha_1_bohr3", "alpha_2_bohr3", "alpha_3_bohr3")
TENSOR = (("A_xx", "A_xy", "A_xz"), ("A_xy", "A_yy", "A_yz"), ("A_xz", "A_yz", "A_zz"))  # in a file of their own

LABELS = (*PROPERTIES, ATOMISATION, *PRINCIPAL)

_TABLES = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
_POLARIZABILITIES = "qm9_polarizability.csv"
# A row's beginning: file name, number, SMILES, InChI, atoms, and how many of H, C, N, O, F.
_HEAD = re.compile(r'"dsgdb9nsd_\d+\.xyz",(\d+),.*?,"\[\d+,(\d+),(\d+),(\d+),(\d+)\]"')


def locate_qm9() -> Path:
    """The folder of the package's tables. Raises RequestError where the package is not installed."""
    package = importlib.util.find_spec("qm9pack")  # not imported: that takes setuptools
    if package is None or package.origin is None:
        raise RequestError("[source] package = \"qm9\" needs qm9pack: run `pip install 'rhoflow[qm9]'`")
    return Path(package.origin).parent / "data"


def list_qm9_files() -> list[Path]:
    """All that is read of the package."""
    return [locate_qm9() / name for name in (*_TABLES, _POLARIZABILITIES)]


def read_qm9(
    labels: Sequence[str] = (), heavy_atoms: int | None = None, count: int | None = None
) -> Iterator[Molecule]:
    """Molecules in the order of their QM9 numbers, ids `qm9_000001` and so on; positions in bohr.

    With `heavy_atoms`, those of at most so many. With `count`, so many of these: the ones whose number's hash is least,
    so that a smaller count is part of a larger one. Raises RequestError at once: a label that QM9 has not, more
    molecules than there are, no package.
    """
    folder = locate_qm9()
    if unknown := [label for label in labels if label not in LABELS]:
        raise RequestError(f"QM9 has no {unknown[0]!r}: [source] labels may name {', '.join(LABELS)}")
    chosen = _choose_numbers(folder, heavy_atoms, count)
    tensors = _read_polarizabilities(folder, chosen) if {*labels} & {*PRINCIPAL} else {}
    return _read_molecules(folder, chosen, labels, tensors)


def _choose_numbers(folder: Path, heavy_atoms: int | None, count: int | None) -> set[int]:
    small = [number for _, number, heavy, _ in _scan(folder) if heavy_atoms is None or heavy <= heavy_atoms]
    if count is not None and count > len(small):
        raise RequestError(
            f"[source] count = {count}, but QM9 has {len(small)} such molecules: lower it, or raise heavy_atoms"
        )
    return set(sorted(small, key=lambda number: hashlib.sha256(b"%d" % number).digest())[:count])


def _scan(folder: Path) -> Iterator[tuple[str, int, int, str]]:
    """The header of each row's table, its number, its heavy atoms, and its text."""
    for name in _TABLES:
        with (folder / name).open(encoding="utf-8") as file:
            header = next(file)
            for line in file:
                head = _HEAD.match(line)
                if head is None:
                    raise RequestError(f"{folder / name}: {line[:40]!r} begins no row of QM9: install qm9pack again")
                number, *composition = map(int, head.groups())
                yield header, number, sum(composition), line


def _read_polarizabilities(folder: Path, chosen: set[int]) -> dict[int, Mapping[str, str]]:
    with (folder / _POLARIZABILITIES).open(encoding="utf-8", newline="") as file:
        rows = ((int(row["XYZ_file"].removeprefix("dsgdb9nsd_")[:6]), row) for row in csv.DictReader(file))
        return {number: row for number, row in rows if number in chosen}


def _read_molecules(
    folder: Path, chosen: set[int], labels: Sequence[str], tensors: Mapping[int, Mapping[str, str]]
) -> Iterator[Molecule]:
    row = 0
    for header, number, _, line in _scan(folder):
        if number not in chosen:
            continue
        (fields,) = csv.DictReader([header, line])
        values = {**fields, **tensors.get(number, {})}
        symbols = re.findall(r"[A-Z][a-z]?", fields["Elements"])
        positions = np.array(re.sub(r"[\[\]]", "", fields["XYZ_Ang"]).split(","), dtype=float).reshape(-1, 3)
        yield Molecule(
            row,
            f"qm9_{number:06d}",
            fields["SMILES"],
            np.array([NUMBERS[symbol] for symbol in symbols], dtype=np.int64),
            positions * BOHR_PER_ANGSTROM,
            labels={label: _read_label(label, values, symbols) for label in labels},
        )
        row += 1


def _read_label(label: str, values: Mapping[str, str], symbols: Sequence[str]) -> float:
    if label == ATOMISATION:
        return float(values[PROPERTIES["U0_Ha"]]) - sum(FREE_ATOMS[symbol] for symbol in symbols)
    if label in PRINCIPAL:
        tensor = np.array([[float(values[name]) for name in names] for names in TENSOR])
        return float(np.linalg.eigvalsh(tensor)[PRINCIPAL.index(label)])
    return float(values[PROPERTIES[label]])
