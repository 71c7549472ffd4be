"""The engine that computes nothing: each molecule's density is what its own cube or npz file holds."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.failures import InvalidInput
from pipeline.formats import (
    FormatError,
    Scene,
    find_volume_file,
    is_volume_file,
    list_volume_files,
    name_density,
    read_scene,
    read_volume,
    select_density,
)
from storage.schema import Conformer, FloatArray, Grid, Sampling

MOVED = 1e-6  # bohr: atoms of a file that was written again may differ by its digits

# Electrons/bohr³. Densities that programs fit or interpolate do fall below zero: a fit of HF water by 1e-4, a twofold
# Fourier interpolation of valence densities by 2e-3. Orbitals and potentials fall by 1e-1 (water's by 7e-1 and 8e-2).
LOWEST = -1e-2

# Times the molecule's electrons. Electrons/Å³ taken for electrons/bohr³ give 6.7 times too many; of a valence density
# of light elements, that is still beyond twice all electrons. Sums over points miscount cores a hundredfold, but only
# by the point nearest to each nucleus: the others never sum to more than the two electrons of a 1s shell.
MOST = 2.0


@dataclass(frozen=True)
class FileEngine:
    """Raises ValueError where there are no such files, or the first holds values of another kind than is asked for."""

    source: Path  # a file, or a folder of them
    key: str | None  # which field; None: the only density there is
    sampling: Sampling

    def __post_init__(self) -> None:
        if not (self.source.is_dir() or is_volume_file(self.source)):
            raise ValueError(f"{self.source} is no cube or npz file, nor a folder of them: correct [source] path")
        for path in list_volume_files(self.source)[:1]:
            with contextlib.suppress(FormatError):  # an unreadable file is its own molecule's failure
                if fault := self._find_sampling_fault(read_scene(path), path):
                    raise ValueError(fault)

    def grid(self, conformer: Conformer) -> Grid:
        path = self._find(conformer)
        try:
            return self._check(read_scene(path), conformer, path).grid
        except FormatError as error:
            raise InvalidInput(str(error)) from error

    def sample(self, conformer: Conformer, grid: Grid) -> FloatArray:
        path = self._find(conformer)
        try:
            volume = read_volume(path)
            if self._check(volume.scene, conformer, path).grid != grid:
                raise InvalidInput(f"{path.name}: its grid is not the one that was planned: build into a new store")
            density = select_density(volume, self.key, path)
            if fault := _find_density_fault(density, conformer, grid):
                raise InvalidInput(f"{path.name}: field {name_density(volume, self.key, path)!r} {fault}")
            return density
        except FormatError as error:
            raise InvalidInput(str(error)) from error

    def _find(self, conformer: Conformer) -> Path:
        return find_volume_file(self.source, conformer.id.rsplit("#", 1)[0])

    def _check(self, scene: Scene, conformer: Conformer, path: Path) -> Scene:
        """Raises InvalidInput where the file holds other atoms than the molecule, or values of the other kind."""
        if fault := self._find_sampling_fault(scene, path):
            raise InvalidInput(fault)
        same = np.array_equal(scene.numbers, conformer.numbers)
        if not (same and np.abs(scene.positions - conformer.positions).max(initial=0) <= MOVED):
            raise InvalidInput(
                f"{path.name}: its {len(scene.numbers)} atoms are not the molecule's {len(conformer.numbers)}, or lie "
                "elsewhere: put the file back as it was, or build into a new store"
            )
        return scene

    def _find_sampling_fault(self, scene: Scene, path: Path) -> str | None:
        """Files that do not say hold values at points, as those of quantum-chemistry programs do."""
        held = scene.sampling or "point"
        if held == self.sampling:
            return None
        kinds = {"point": "values at points", "cell": "averages over cells"}
        return (
            f"{path.name} holds {kinds[held]}, which are stored as they are, but [grid] sampling is {self.sampling!r}: "
            f"set it to {held!r}, and give files of the other kind a recipe of their own"
        )


def _find_density_fault(density: FloatArray, conformer: Conformer, grid: Grid) -> str | None:
    """Why these values, electrons/bohr³, cannot be the density of the molecule."""
    if density.min() < LOWEST:
        return (
            f"falls to {density.min():.3g} electrons/bohr³: orbitals, potentials and differences do, densities do not; "
            "write the density, or name its field in the density's `key`"
        )
    electrons = int(conformer.numbers.sum()) - conformer.charge
    summed = _sum_between_nuclei(density, conformer, grid)
    if summed > MOST * electrons:
        return (
            f"sums to {summed:.4g} electrons without the points at the nuclei, but the molecule has {electrons}: if it "
            "is in electrons/Å³, write it in electrons/bohr³, or to an npz in a field whose name ends in "
            "_electrons_per_angstrom3"
        )
    return None


def _sum_between_nuclei(density: FloatArray, conformer: Conformer, grid: Grid) -> float:
    """Electrons in all cells but the one around each nucleus, where one value may count for many times too much."""
    places = np.rint((conformer.positions - grid.origin) / grid.spacing)
    inside = np.unique(places[((places >= 0) & (places < grid.shape)).all(axis=1)].astype(np.int64), axis=0)
    return float(density.sum() - density[tuple(inside.T)].sum()) * grid.cell_volume
