"""How far a stored PBE density is from what it stands for, cause by cause, over ten molecules."""

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import csv
from pathlib import Path

import numpy as np

from pipeline.collocation import integrate_density
from pipeline.conformers import conform
from pipeline.engines.dft import DftEngine
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import place_tight_grid, round_to_step, sample_density
from storage.schema import Conformer, FloatArray, Molecule

MOLECULES = Path(__file__).parents[2] / "flows/demo/molecules.csv"
NAMES = (
    "propane", "ethanol", "dimethylamine", "acetonitrile", "nitroethane", "acetic_acid", "acetamide", "pyrrole",
    "imidazole", "1,1-difluoroethane",
)  # fmt: skip
SPACING, MARGIN = 0.2 * BOHR_PER_ANGSTROM, 3.0 * BOHR_PER_ANGSTROM
ROUND_TO = 1e-6  # the recipe's default
DEFAULT = DftEngine()
# What is compared, with what: the second is the better one.
PAIRS = {
    "basis gth-dzvp, against gth-qzv3p": (DftEngine(basis_set="gth-dzvp"), DftEngine(basis_set="gth-qzv3p")),
    "basis gth-tzv2p, against gth-qzv3p": (DEFAULT, DftEngine(basis_set="gth-qzv3p")),
    "basis gth-qzv3p, against gth-aug-qzv3p": (
        DftEngine(basis_set="gth-qzv3p"),
        DftEngine(basis_set="gth-aug-qzv3p"),
    ),
    "Coulomb fitting, against none": (DEFAULT, DftEngine(density_fitting=False)),
    "quadrature level 1, against level 5": (DEFAULT, DftEngine(quadrature_level=5)),
    "cycles to 1e-8 hartree, against 1e-11": (DEFAULT, DftEngine(convergence=1e-11)),
}


def embed(name: str) -> Conformer:
    """A molecule of the demo at its MMFF geometry."""
    with MOLECULES.open() as file:
        smiles = {row["name"]: row["smiles"] for row in csv.DictReader(file)}
    return conform(Molecule(0, name, smiles[name]), keep=False, count=1, optimise="mmff", seed=7)[0]


def nmae(values: FloatArray, better: FloatArray) -> float:
    return float(np.abs(values - better).sum() / better.sum())


def measure(name: str) -> dict[str, float]:
    """NMAE by cause, on cells of 0.2 Å with 3 Å around the atoms; of the box, the share of the electrons outside."""
    conformer = embed(name)
    grid = place_tight_grid(conformer.positions, SPACING, MARGIN, 2)
    engines = list(dict.fromkeys(engine for pair in PAIRS.values() for engine in pair))
    states = {engine: engine.solve(conformer) for engine in engines}
    densities = {engine: sample_density(state, grid, "cell") for engine, state in states.items()}
    errors = {cause: nmae(densities[one], densities[other]) for cause, (one, other) in PAIRS.items()}
    inside = integrate_density(states[DEFAULT], (grid.edges(0), grid.edges(1), grid.edges(2)))
    errors["box with a margin of 3 Å: electrons outside"] = 1 - inside / states[DEFAULT].electrons
    rounded = round_to_step(densities[DEFAULT], ROUND_TO).astype(np.float64)
    errors["values rounded to 1e-6 electrons/bohr³"] = nmae(rounded, densities[DEFAULT])
    return errors


def main() -> None:
    measured = []
    for name in NAMES:
        measured.append(measure(name))
        print(name, {cause: f"{error:.1e}" for cause, error in measured[-1].items()}, flush=True)
    print(f"\n| PBE density, NMAE over {len(NAMES)} molecules | mean | largest |\n|---|---|---|")
    for cause in measured[0]:
        errors = [errors[cause] for errors in measured]
        print(f"| {cause} | {100 * np.mean(errors):.3g} % | {100 * max(errors):.3g} % |")


if __name__ == "__main__":
    main()
