"""The periodic box of a molecule: a rule that knows its positions alone."""

from dataclasses import dataclass

from pipeline.units import ANGSTROM_PER_BOHR
from pipeline.voxels import place_tight_grid
from storage.schema import FloatArray

LEAST_VACUUM = 1.0  # bohr; with less, a molecule would bond to its images
WIDEST_SPACING = 0.2  # bohr; at 0.23 the energy of water is off by a millihartree, at 0.4 by 240


@dataclass(frozen=True)
class PeriodicBox:
    """How large a molecule's box is, and how finely the mesh of its plane waves divides it."""

    vacuum: float  # bohr; at least twice as much lies between the atoms and their images
    spacing: float  # bohr, of the mesh
    multiple: int  # mesh points along each edge are a multiple of it

    def __post_init__(self) -> None:
        if self.vacuum < LEAST_VACUUM:
            raise ValueError(
                f"a vacuum of {self.vacuum:.3g} bohr lets molecules bond to their images: give at least {LEAST_VACUUM} "
                f"({LEAST_VACUUM * ANGSTROM_PER_BOHR:.3f} Å)"
            )
        if self.spacing > WIDEST_SPACING:
            raise ValueError(
                f"a mesh of {self.spacing:.3g} bohr resolves no pseudopotential: give at most {WIDEST_SPACING} "
                f"({WIDEST_SPACING * ANGSTROM_PER_BOHR:.3f} Å)"
            )

    def mesh(self, positions: FloatArray) -> tuple[int, int, int]:
        """Mesh points along each edge."""
        return place_tight_grid(positions, self.spacing, self.vacuum, self.multiple).shape

    def edges(self, positions: FloatArray) -> tuple[float, float, float]:
        """Edges of the box, bohr."""
        x, y, z = (self.spacing * points for points in self.mesh(positions))
        return x, y, z
