"""Triangles: surfaces of equal density, and atoms and bonds as balls and sticks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import block_reduce, marching_cubes

from storage.schema import FloatArray, Grid, IntArray

MOST_TRIANGLES = 10_000  # of one surface, so that a page stays small
PERIOD_ENDS = (2, 10, 18, 36, 54, 86)
PERIOD_RADII = (0.59, 1.42, 2.08, 2.27, 2.65, 2.8)  # bohr: typical covalent radii by period
BOND_STRETCH = 1.25  # atoms closer than the sum of their radii times this are drawn as bonded
STICK = 0.16  # bohr


@dataclass(frozen=True)
class Mesh:
    points: NDArray[np.float32]  # (points, 3), bohr
    corners: IntArray  # (triangles, 3), which points


def level_surface(values: FloatArray, grid: Grid, level: float) -> Mesh | None:
    """Where a field has the value `level`; None where it never has.

    Few triangles are drawn again from a grid twice as fine (cubic splines), too many from one twice as coarse.
    """
    origin, spacing = np.array(grid.origin), np.array(grid.spacing)
    surface = _march(values, origin, spacing, level)
    if surface is not None and len(surface.corners) <= MOST_TRIANGLES / 5:
        finer = ndimage.zoom(values, 2, order=3, mode="nearest", grid_mode=True)
        return _march(finer, origin - spacing / 4, spacing / 2, level)
    while surface is not None and len(surface.corners) > MOST_TRIANGLES:
        values = block_reduce(values, (2, 2, 2), np.mean)
        origin, spacing = origin + spacing / 2, 2 * spacing
        surface = _march(values, origin, spacing, level)
    return surface


def _march(values: FloatArray, origin: FloatArray, spacing: FloatArray, level: float) -> Mesh | None:
    if not values.min() < level < values.max():
        return None
    points, corners, _, _ = marching_cubes(values, level)
    return Mesh((origin + points * spacing).astype(np.float32), corners.astype(np.int64))


def find_bonds(numbers: IntArray, positions: FloatArray) -> list[tuple[int, int]]:
    """Pairs of atoms whose distance suggests a bond."""
    radii = np.array(PERIOD_RADII)[np.minimum(np.searchsorted(PERIOD_ENDS, numbers), len(PERIOD_RADII) - 1)]
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    first, second = np.nonzero(np.triu(distances < BOND_STRETCH * (radii[:, None] + radii[None]), 1))
    return list(zip(first.tolist(), second.tolist(), strict=True))


def balls(centres: FloatArray, radius: float) -> Mesh:
    """A sphere around each centre."""
    turns, heights = 14, 9
    polar, around = np.linspace(0, np.pi, heights), np.linspace(0, 2 * np.pi, turns, endpoint=False)
    ring = np.stack([np.outer(np.sin(polar), np.cos(around)), np.outer(np.sin(polar), np.sin(around))], axis=-1)
    unit = np.concatenate([ring, np.broadcast_to(np.cos(polar)[:, None, None], (heights, turns, 1))], axis=-1)
    return _join([Mesh(centre + radius * unit.reshape(-1, 3), _wrap(heights, turns)) for centre in centres])


def sticks(positions: FloatArray, bonds: Sequence[tuple[int, int]]) -> Mesh:
    """A cylinder along each bond."""
    return _join(list(_sticks(positions, bonds)))


def _sticks(positions: FloatArray, bonds: Sequence[tuple[int, int]]) -> Iterator[Mesh]:
    turns = 10
    around = np.linspace(0, 2 * np.pi, turns, endpoint=False)
    for first, second in bonds:
        along = positions[second] - positions[first]
        side = np.cross(along, np.eye(3)[np.argmin(np.abs(along))])
        side /= np.linalg.norm(side)
        other = np.cross(along, side) / np.linalg.norm(along)
        ring = STICK * (np.outer(np.cos(around), side) + np.outer(np.sin(around), other))
        yield Mesh(np.concatenate([positions[first] + ring, positions[second] + ring]), _wrap(2, turns))


def _wrap(rings: int, turns: int) -> IntArray:
    """Triangles between neighbouring rings of points."""
    start = (np.arange(rings - 1)[:, None] * turns + np.arange(turns)[None]).ravel()
    beside = start - start % turns + (start + 1) % turns
    lower = np.stack([start, beside, start + turns], axis=1)
    upper = np.stack([beside, beside + turns, start + turns], axis=1)
    return np.concatenate([lower, upper])


def _join(pieces: Sequence[Mesh]) -> Mesh:
    points = np.concatenate([np.zeros((0, 3)), *(piece.points for piece in pieces)]).astype(np.float32)
    firsts = np.cumsum([0, *(len(piece.points) for piece in pieces)])
    shifted = [piece.corners + first for piece, first in zip(pieces, firsts, strict=False)]
    return Mesh(points, np.concatenate([np.zeros((0, 3), dtype=np.int64), *shifted]))
