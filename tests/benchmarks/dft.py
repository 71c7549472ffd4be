"""DFT labels beside PySCF's defaults, and where a sample's time goes."""

import statistics

import numpy as np
from pyscf import dft

from pipeline.conformers import conform
from pipeline.engines.dft import DftEngine, read_state
from pipeline.engines.pyscf_molecule import build_mol
from pipeline.engines.xtb import XtbEngine
from pipeline.sources import read_molecules
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import place_tight_grid, sample_density
from storage.schema import Conformer
from tests.benchmarks.molecules import QM9, has_qm9
from tests.benchmarks.timing import cpu_seconds

SPACING, MARGIN = 0.2 * BOHR_PER_ANGSTROM, 3.0 * BOHR_PER_ANGSTROM
CHOSEN = (22, 24, 44, 60, 80, 120, 250, 400, 1000, 1900)  # rows of the reference file, 6 to 9 heavy atoms


def read_qm9() -> list[Conformer]:
    molecules = [molecule for row, molecule in enumerate(read_molecules(QM9)) if row in CHOSEN]
    return [conform(molecule, keep=True, count=1, optimise="none", seed=7)[0] for molecule in molecules]


def bench(conformer: Conformer) -> tuple[float, float, float]:
    """Our share of the CPU time of PySCF's defaults, NMAE to them, and the voxels' share of our sample."""
    engine, guess = DftEngine(), XtbEngine("gfn2")
    grid = place_tight_grid(conformer.positions, SPACING, MARGIN, 2)
    ours, theirs = [], []
    seconds = cpu_seconds(lambda: ours.append(engine.solve(conformer)))
    mol = build_mol(conformer, engine.basis_set, engine.pseudopotential)
    peer_seconds = cpu_seconds(lambda: theirs.append(dft.RKS(mol, xc=engine.functional).run()))
    expected = sample_density(read_state(theirs[0], conformer, ours[0].basis), grid, "cell")
    error = float(np.abs(sample_density(ours[0], grid, "cell") - expected).sum() / expected.sum())
    guessing = cpu_seconds(lambda: ours.append(guess.solve(conformer)))
    voxels = cpu_seconds(lambda: [sample_density(state, grid, "cell") for state in ours])
    heavy = int((conformer.numbers > 1).sum())
    share = voxels / (voxels + seconds + guessing)
    print(
        f"  {conformer.smiles:<22} {heavy} heavy atoms: {seconds / peer_seconds:.2f} of {peer_seconds:.1f} s, "
        f"NMAE {error:.1e}; voxels are {100 * share:.1f} % of the sample",
        flush=True,
    )
    return seconds / peer_seconds, error, share


def main() -> None:
    """PBE/gth-tzv2p as the recipe's defaults make it, against stock RKS: no fitting, grid level 3, minao."""
    if not has_qm9():
        return
    ratios, errors, shares = zip(*map(bench, read_qm9()), strict=True)
    print(f"  CPU time {statistics.mean(ratios):.2f} of PySCF's defaults (worst {max(ratios):.2f})")
    print(
        f"  density NMAE to them {max(errors):.1e} at worst; voxels {100 * statistics.mean(shares):.1f} % of a sample"
    )
