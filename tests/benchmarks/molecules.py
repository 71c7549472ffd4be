"""The molecules that benchmarks use: a few by SMILES, and QM9's own where the reference data are."""

from pathlib import Path

from pipeline.conformers import conform
from storage.schema import Conformer, Molecule

QM9 = Path(__file__).parents[3] / "shared/reference/qm9/qm9_2000.extxyz.gz"


def embed(name: str, smiles: str) -> Conformer:
    """A molecule at its MMFF geometry."""
    return conform(Molecule(0, name, smiles), keep=False, count=1, optimise="mmff", seed=7)[0]


def has_qm9() -> bool:
    """Whether QM9 can be read; says so where it cannot."""
    if not QM9.exists():
        print(f"  left out: it needs {QM9}")
    return QM9.exists()
