"""The plane through a molecule that shows most of it, and fields cut along it."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from storage.schema import FloatArray, Grid, IntArray

REACH = 0.8  # bohr: an atom further from the plane adds nothing to its worth
TRIED_ATOMS = 40  # planes are tried through triples of at most so many atoms, the heaviest
RIM = 4.2  # bohr around the atoms


@dataclass(frozen=True)
class Plane:
    """A rectangular window. Lengths in bohr; the frame is right-handed: across, up, towards the viewer."""

    centre: FloatArray  # (3,)
    frame: FloatArray  # (3, 3), rows are unit vectors
    half: FloatArray  # (2,) half width and half height

    def place(self, positions: NDArray[np.floating]) -> FloatArray:
        """Coordinates in the plane's frame, shape (points, 3)."""
        placed: FloatArray = (positions - self.centre) @ self.frame.T
        return placed


def best_plane(numbers: IntArray, positions: FloatArray) -> Plane:
    """The plane that holds most nuclear charge, its longer side across."""
    normal, through = _best_normal(numbers, positions)
    middle = positions.mean(axis=0)
    centre = middle - ((middle - through) @ normal) * normal
    flat = positions - centre
    flat -= np.outer(flat @ normal, normal)
    across = np.linalg.svd(np.vstack([flat, 1e-6 * (np.eye(3) - np.outer(normal, normal))]))[2][0]
    across = _point_forward(across)
    frame = np.stack([across, np.cross(normal, across), normal])
    inside = (positions - centre) @ frame[:2].T
    low, high = inside.min(axis=0) - RIM, inside.max(axis=0) + RIM
    return Plane(centre + ((low + high) / 2) @ frame[:2], frame, (high - low) / 2)


def cut(
    values: NDArray[np.floating], grid: Grid, plane: Plane, step: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A field along the plane, interpolated linearly, NaN outside: (across, up, values of shape (up, across))."""
    across, up = (np.linspace(-half, half, 2 * round(half / step) + 1) for half in plane.half)
    points = plane.centre + across[None, :, None] * plane.frame[0] + up[:, None, None] * plane.frame[1]
    places = (points - np.array(grid.origin)) / np.array(grid.spacing)
    cutting = ndimage.map_coordinates(values, np.moveaxis(places, -1, 0), order=1, cval=np.nan, output=np.float64)
    return across, up, cutting


def _best_normal(numbers: IntArray, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The normal of the best plane and a point in it: tried are triples of atoms, and the plane of least squares."""
    tried = np.sort(np.argsort(-numbers, kind="stable")[:TRIED_ATOMS])
    triples = np.array(list(itertools.combinations(tried, 3)), dtype=np.int64).reshape(-1, 3)
    first, second, third = (positions[triples[:, corner]] for corner in range(3))
    normals = np.cross(second - first, third - first)
    lengths = np.linalg.norm(normals, axis=1)
    spanning = lengths > 0.5
    middle = np.average(positions, axis=0, weights=numbers)
    flattest = np.linalg.svd(np.vstack([positions - middle, 1e-6 * np.eye(3)]))[2][2]
    normals = np.vstack([flattest, normals[spanning] / lengths[spanning, None]])
    origins = np.vstack([middle, first[spanning]])
    distances = np.einsum("pc,ac->pa", normals, positions) - np.einsum("pc,pc->p", normals, origins)[:, None]
    worth = np.round(np.clip(1 - (distances / REACH) ** 2, 0, None) @ numbers, 6)
    best = int(np.argmax(worth))
    return _point_forward(normals[best]), origins[best]


def _point_forward(axis: FloatArray) -> FloatArray:
    """The axis or its opposite: the one whose largest component is positive."""
    return axis if axis[np.argmax(np.abs(np.round(axis, 6)))] > 0 else -axis
