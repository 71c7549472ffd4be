"""Maps written byte by byte, so that nothing but their header says where a voxel lies."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from storage.schema import FloatArray

HEADER_BYTES = 1024


@dataclass(frozen=True)
class RawMap:
    """What the bytes of a CCP4 or MRC file say, read without any library."""

    values: NDArray[np.float32]  # (sections, rows, columns)
    order: tuple[int, int, int]  # axis (0, 1, 2) of columns, rows, sections
    start: tuple[int, int, int]  # of columns, rows, sections
    sizes: tuple[int, int, int]  # grid points along the cell's axes
    cell: FloatArray  # (3, 3), Å: rows are the cell's vectors
    origin: FloatArray  # (3,), Å

    def position(self, column: int, row: int, section: int) -> FloatArray:
        """Å, before ORIGIN."""
        steps = np.empty(3)
        steps[list(self.order)] = np.add(self.start, (column, row, section))
        return np.asarray(steps / self.sizes @ self.cell)


def read_raw(content: bytes) -> RawMap:
    whole = struct.unpack("<10i6f3i3f", content[:88])
    count, start, sizes = whole[:3], whole[4:7], whole[7:10]
    symmetry = struct.unpack("<i", content[92:96])[0]
    values = np.frombuffer(content[HEADER_BYTES + symmetry :], "<f4", count=int(np.prod(count)))
    return RawMap(
        values.reshape(count[::-1]),
        tuple(axis - 1 for axis in whole[16:19]),  # type: ignore[arg-type]
        start,
        sizes,
        cell_vectors(*(float(str(np.float32(number))) for number in whole[10:16])),  # 109.8625, not 109.86250305
        np.array(struct.unpack("<3f", content[196:208])),
    )


def cell_vectors(a: float, b: float, c: float, alpha: float, beta: float, gamma: float) -> FloatArray:
    """a along x, b in the xy plane: the convention of PDB and CCP4."""
    cosines, sine = np.cos(np.radians([alpha, beta, gamma])), np.sin(np.radians(gamma))
    y = (cosines[0] - cosines[1] * cosines[2]) / sine
    return np.array(
        [
            [a, 0, 0],
            [b * cosines[2], b * sine, 0],
            [c * cosines[1], c * y, c * np.sqrt(1 - cosines[1] ** 2 - y**2)],
        ]
    )


def write_map(
    path: Path,
    field: Callable[[FloatArray], FloatArray],
    *,
    cell: tuple[float, ...] = (12.0, 10.0, 14.0, 90.0, 90.0, 90.0),
    sizes: tuple[int, int, int] = (24, 20, 28),
    order: tuple[int, int, int] = (0, 1, 2),
    start: tuple[int, int, int] = (0, 0, 0),
    count: tuple[int, int, int] | None = None,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """`field` of positions (..., 3), Å, at the grid points; order, start and count are of columns, rows, sections."""
    number = count or tuple(sizes[axis] for axis in order)
    raw = RawMap(np.zeros(number[::-1], np.float32), order, start, sizes, cell_vectors(*cell), np.array(origin))
    places = [raw.position(c, r, s) for s in range(number[2]) for r in range(number[1]) for c in range(number[0])]
    values = field(np.array(places)).astype("<f4")
    header = bytearray(HEADER_BYTES)
    header[:88] = struct.pack(
        "<10i6f3i3f", *number, 2, *start, *sizes, *cell, *(axis + 1 for axis in order), 0.0, 0.0, 0.0
    )
    header[88:92] = struct.pack("<i", 1)
    header[196:208] = struct.pack("<3f", *origin)
    header[208:216] = b"MAP \x44\x44\x00\x00"
    path.write_bytes(bytes(header) + values.tobytes())


def write_mtz(path: Path, atoms: list[tuple[float, float, float]], *, with_phases: bool = True) -> None:
    """Map coefficients of carbon atoms at these places (Å) of a cubic cell of 12 Å, to 1 Å."""
    cell = gemmi.UnitCell(12, 12, 12, 90, 90, 90)
    grid = gemmi.FloatGrid(48, 48, 48)
    grid.set_unit_cell(cell)
    grid.spacegroup = gemmi.SpaceGroup("P 1")
    index = np.stack(np.meshgrid(*[np.arange(48) / 4] * 3, indexing="ij"), -1)
    values = np.zeros((48, 48, 48))
    for atom in atoms:
        offset = (index - atom + 6) % 12 - 6
        values += 6 * (2 / np.pi) ** 1.5 * np.exp(-2 * np.sum(offset**2, axis=-1))
    grid.array[...] = values
    coefficients = gemmi.transform_map_to_f_phi(grid).prepare_asu_data(dmin=1.0, with_000=False)
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = grid.spacegroup
    mtz.set_cell_for_all(cell)
    mtz.add_dataset("d")
    mtz.add_column("FWT", "F")
    if with_phases:
        mtz.add_column("PHWT", "P")
    amplitudes = np.abs(coefficients.value_array)
    phases = np.degrees(np.angle(coefficients.value_array))
    columns = [*coefficients.miller_array.T, amplitudes, *([phases] if with_phases else [])]
    mtz.set_data(np.stack(columns, axis=1).astype(np.float32))
    mtz.write_to_file(str(path))
