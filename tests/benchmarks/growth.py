"""Cost from 5 to 60 heavy atoms, beside volume × occupied orbitals."""

import numpy as np

from pipeline.engines.xtb import XtbEngine
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import place_tight_grid, sample_density
from tests.benchmarks.molecules import embed
from tests.benchmarks.timing import cpu_seconds

HEAVY_ATOMS = (5, 10, 20, 40, 60)
SPACING, MARGIN = 0.2 * BOHR_PER_ANGSTROM, 3.0 * BOHR_PER_ANGSTROM


def main() -> None:
    """Alkanes, GFN2 densities, exact averages over cells of 0.2 Å; relative to ten heavy atoms."""
    costs = {}
    for count in HEAVY_ATOMS:
        state = XtbEngine("gfn2").solve(embed(f"alkane {count}", "C" * count))
        grid = place_tight_grid(state.positions, SPACING, MARGIN, 2)
        seconds = min(cpu_seconds(lambda: sample_density(state, grid, "cell")) for _ in range(3))  # noqa: B023
        costs[count] = (seconds, float(np.prod(grid.shape)) * len(state.occupations))
    seconds_of_ten, product_of_ten = costs[10]
    for count, (seconds, product) in costs.items():
        print(
            f"  C{count}: {seconds:.2f} s, {seconds / seconds_of_ten:.1f} times C10's; "
            f"volume × orbitals {product / product_of_ten:.1f} times"
        )
