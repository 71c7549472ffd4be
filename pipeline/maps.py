"""Experimental maps: CCP4 and MRC files, and map coefficients in MTZ files, resampled to a grid.

X-ray maps have no F000 (their mean over the cell is about zero: they say by how much a density deviates from its mean),
and the programs that write them scale them as they please; the units of EM maps are arbitrary. A crystal's map repeats
from cell to cell and by its symmetry; an EM map ends at its edges. Axis order, first voxel and any cell are read by
gemmi; ORIGIN words, which it leaves alone, are honoured where one is not zero: they say where the first voxel is (Å).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import gemmi
import numpy as np
from numpy.typing import NDArray

from pipeline.units import ANGSTROM_PER_BOHR
from storage.schema import FloatArray, Grid, Sampling

Method: TypeAlias = Literal["xray", "em"]
FIRST_ORIGIN_WORD, FIRST_START_WORD = 50, 5  # of a CCP4 header, counted from 1; two more follow each
AMPLITUDES, PHASES = "FG", "P"  # types of MTZ columns
USUAL_COEFFICIENTS = (("FWT", "PHWT"), ("2FOFCWT", "PH2FOFCWT"))
SAMPLE_RATE = 4.0  # points per shortest wavelength of an MTZ's map; 3 is usual, tricubic interpolation wants more
ENDINGS = (".map", ".ccp4", ".mrc", ".mtz")  # also with .gz


@dataclass(frozen=True)
class Map:
    """A map on its own grid, by gemmi, its values as the file has them."""

    grid: gemmi.FloatGrid  # over the whole cell; NaN where the file holds nothing
    shift: FloatArray  # (3,), Å: where gemmi's coordinates have their origin, by the ORIGIN words
    ends: tuple[FloatArray, FloatArray] | None  # (3,), grid points: between them it is known; None: it repeats

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.grid.array, dtype=np.float64))

    @property
    def deviation(self) -> float:
        """Root of the mean square deviation from the mean."""
        return float(np.nanstd(self.grid.array, dtype=np.float64))


def is_map_file(path: Path) -> bool:
    """Whether the name's ending is one of a map."""
    return path.name.lower().removesuffix(".gz").endswith(ENDINGS)


def read_map(path: Path, method: Method, amplitudes: str | None = None, phases: str | None = None) -> Map:
    """`amplitudes` and `phases` name columns of an MTZ file. Raises ValueError, naming the file, where it is no map."""
    if not path.is_file():
        raise ValueError(f"there is no map {path.name}: put it there, or correct the path")
    try:
        if path.name.lower().removesuffix(".gz").endswith(".mtz"):
            return transform_coefficients(gemmi.read_mtz_file(str(path)), amplitudes, phases)
        return place_values(gemmi.read_ccp4_map(str(path)), method)
    except (RuntimeError, ValueError) as error:
        reason = str(error).replace(str(path), "it").splitlines()[0]
        raise ValueError(f"{path.name}: {reason}") from error


def transform_coefficients(mtz: gemmi.Mtz, amplitudes: str | None, phases: str | None) -> Map:
    """The map of one crystal's Fourier coefficients. Raises ValueError where there are no such columns."""
    types = {column.label: column.type for column in mtz.columns}
    f, phi = choose_columns(types, amplitudes, phases)
    return Map(mtz.transform_f_phi_to_map(f, phi, sample_rate=SAMPLE_RATE), np.zeros(3), None)


def choose_columns(types: dict[str, str], amplitudes: str | None, phases: str | None) -> tuple[str, str]:
    """The columns asked for, or the only usual ones. Raises ValueError, with those that are there."""
    held = {kind: [name for name, type in types.items() if type in kind] for kind in (AMPLITUDES, PHASES)}
    if not held[PHASES]:
        raise ValueError("it holds no phases, without which there is no map: refine, and give the map coefficients")
    usual = [pair for pair in USUAL_COEFFICIENTS if pair[0] in held[AMPLITUDES] and pair[1] in held[PHASES]]
    if not (amplitudes or phases) and usual:
        return usual[0]
    for asked, kind, key in ((amplitudes, AMPLITUDES, "amplitudes"), (phases, PHASES, "phases")):
        if asked not in held[kind]:
            raise ValueError(
                f"it has no {key} in a column {asked!r}: name one of {', '.join(held[kind]) or 'none'} as {key}"
            )
    return str(amplitudes), str(phases)


def place_values(read: gemmi.Ccp4Map, method: Method) -> Map:
    """The map of a file, its axes in order and, of a crystal, its symmetry mates in place."""
    origin = np.array([read.header_float(FIRST_ORIGIN_WORD + axis) for axis in range(3)], dtype=np.float64)
    order = [read.header_i32(word) - 1 for word in (17, 18, 19)]  # which axis columns, rows and sections run along
    start, count = np.zeros(3), np.zeros(3)
    start[order] = [read.header_i32(FIRST_START_WORD + rank) for rank in range(3)]
    count[order] = [read.header_i32(1 + rank) for rank in range(3)]
    if method == "em":
        read.grid.spacegroup = gemmi.SpaceGroup("P 1")
    read.setup(math.nan)
    shift = np.zeros(3)
    if origin.any():
        sizes = np.array([read.grid.nu, read.grid.nv, read.grid.nw])
        first = read.grid.unit_cell.orthogonalize(gemmi.Fractional(*(start / sizes)))
        shift = origin - np.array(first.tolist())
    inside = (start + 1, start + count - 2)  # tricubic interpolation takes two points on each side
    return Map(read.grid, shift, inside if method == "em" else None)


def resample(map: Map, grid: Grid, sampling: Sampling) -> FloatArray:
    """The map's values at the grid's cells' centres, or their means over cells, by tricubic interpolation.

    A mean is over as many points as keep them half a voxel apart. NaN where the map holds nothing.
    """
    step = np.array(grid.spacing) * ANGSTROM_PER_BOHR
    origin = np.array(grid.origin) * ANGSTROM_PER_BOHR - map.shift
    values, count = np.zeros(grid.shape), 0
    for offset in find_offsets(map, step, sampling):
        values += interpolate(map, grid.shape, step, origin + offset)
        count += 1
    return values / count


def find_offsets(map: Map, step: FloatArray, sampling: Sampling) -> Iterator[FloatArray]:
    """Places within a cell, Å from its centre."""
    parts = np.ones(3, dtype=np.int64)
    if sampling == "cell":
        parts = np.ceil(2 * step / min(map.grid.spacing)).astype(np.int64)
    for place in np.ndindex(*parts):
        yield ((np.array(place) + 0.5) / parts - 0.5) * step


def interpolate(map: Map, shape: tuple[int, int, int], step: FloatArray, origin: FloatArray) -> FloatArray:
    """Values at origin + index·step, in gemmi's coordinates (Å)."""
    to_place = gemmi.Transform(gemmi.Mat33(np.diag(step).tolist()), gemmi.Vec3(*origin))
    values = np.empty(shape, dtype=np.float32)
    map.grid.interpolate_values(values, to_place, order=3)
    found = values.astype(np.float64)
    if map.ends is not None:
        found[find_outside(map, map.ends, shape, step, origin)] = math.nan
    return found


def find_outside(
    map: Map, ends: tuple[FloatArray, FloatArray], shape: tuple[int, int, int], step: FloatArray, origin: FloatArray
) -> NDArray[np.bool_]:
    """Where a map that does not repeat would be taken from its other side."""
    places = np.stack(np.meshgrid(*(origin[k] + step[k] * np.arange(shape[k]) for k in range(3)), indexing="ij"), -1)
    points = places @ np.array(map.grid.unit_cell.frac.mat.tolist()).T * map.grid.shape
    slack = 1e-6
    return np.asarray(((points < ends[0] - slack) | (points > ends[1] + slack)).any(axis=-1))
