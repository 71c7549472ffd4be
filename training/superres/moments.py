"""How far the dipole and the quadrupole of one density are from those of another, from voxels."""

from dataclasses import dataclass

import numpy as np

from pipeline.units import ANGSTROM_PER_BOHR, DEBYE_PER_EBOHR
from storage.schema import FloatArray, Grid


@dataclass(frozen=True)
class Moments:
    """Of a distribution of charge, about a point."""

    dipole: FloatArray  # (3,), debye
    quadrupole: FloatArray  # (3, 3), traceless, debye·Å

    @property
    def dipole_size(self) -> float:
        return float(np.linalg.norm(self.dipole))

    @property
    def quadrupole_size(self) -> float:
        """Frobenius norm."""
        return float(np.linalg.norm(self.quadrupole))


def moments_of_difference(difference: FloatArray, grid: Grid, centre: FloatArray) -> Moments:
    """Moments of a density minus another, shape (nx, ny, nz), electrons/bohr³, about `centre`, shape (3,), bohr.

    With r from the centre, V the volume of a cell and Δρ the difference,
        dipole     = −Σ V Δρ r
        quadrupole = −Σ V Δρ (3 r rᵀ − r² 1) / 2      (Buckingham's, traceless)
    are the errors of a molecule's moments: its nuclei are the same in both and cancel. Cells' averages give these
    exactly, but for aliasing, where cells are cubes: what the width of a cell adds to r rᵀ is isotropic. The centre
    matters where the two densities hold different numbers of electrons.
    """
    charges = -grid.cell_volume * difference
    x, y, z = (grid.centres(axis) - centre[axis] for axis in range(3))
    xy, xz, yz = (charges.sum(axis=axis) for axis in (2, 1, 0))
    along = xy.sum(axis=1), xy.sum(axis=0), xz.sum(axis=0)
    dipole = np.array([x @ along[0], y @ along[1], z @ along[2]])
    second = np.diag([x**2 @ along[0], y**2 @ along[1], z**2 @ along[2]])
    second[0, 1] = second[1, 0] = x @ xy @ y
    second[0, 2] = second[2, 0] = x @ xz @ z
    second[1, 2] = second[2, 1] = y @ yz @ z
    quadrupole = (3 * second - np.trace(second) * np.eye(3)) / 2
    return Moments(dipole * DEBYE_PER_EBOHR, quadrupole * DEBYE_PER_EBOHR * ANGSTROM_PER_BOHR)
