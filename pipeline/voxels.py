"""Grids around molecules, and fields sampled on them."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline import collocation
from pipeline.atomic_properties import VAN_DER_WAALS
from pipeline.elements import SYMBOLS
from pipeline.failures import TooLarge, UnsupportedElement
from pipeline.images import surround
from pipeline.units import BOHR_PER_ANGSTROM
from storage.schema import ElectronicState, FloatArray, Grid, IntArray, Sampling

EPSILON = 1e-9  # electrons/bohr³: densities are then right to 4e-8
OCCUPANCY_STEP = 2.0**-13  # atoms' occupancies say where they are, not how many electrons: four digits will do
COARSEST = 1e-8  # where values are rounded: right to 2e-7, and the sum over a box to 1e-5 electrons
STEP_PARTS = 100

NOTHING = 1e-8  # of an occupancy, left out
FINE = 0.3 * BOHR_PER_ANGSTROM  # points of an occupancy may lie so far apart, that cells are averaged from
HALO = 6  # points on each side of a cell that its average is made from


def place_grid(positions: FloatArray, spacing: float, margin: float, classes: Sequence[int]) -> Grid:
    """The smallest cube of `classes` (cells a side) that holds the atoms plus `margin` all round, centred on them."""
    extent = float(np.max(np.ptp(positions, axis=0))) + 2 * margin
    size = choose_class(_count_cells(extent, spacing), classes)
    return _centre_grid(positions, spacing, (size, size, size))


def place_tight_grid(positions: FloatArray, spacing: float, margin: float, multiple: int) -> Grid:
    """The smallest box, with a multiple of so many cells along each edge, that holds the atoms and their margin."""
    extents = np.ptp(positions, axis=0) + 2 * margin
    nx, ny, nz = (math.ceil(_count_cells(extent, spacing) / multiple) * multiple for extent in extents.tolist())
    return _centre_grid(positions, spacing, (nx, ny, nz))


def choose_class(cells: int, classes: Sequence[int]) -> int:
    """The smallest size class that holds so many cells a side. Raises TooLarge where none does."""
    size = min((size for size in classes if size >= cells), default=None)
    if size is None:
        raise TooLarge(f"needs {cells} cells a side; the largest grid class has {max(classes)}")
    return size


def _count_cells(extent: float, spacing: float) -> int:
    return math.ceil(extent / spacing - 1e-9)


def _centre_grid(positions: FloatArray, spacing: float, shape: tuple[int, int, int]) -> Grid:
    """A grid of that shape with the middle of the atoms' extent at its centre."""
    middle = (positions.min(axis=0) + positions.max(axis=0)) / 2
    x, y, z = (middle - spacing * (np.array(shape) - 1) / 2).tolist()
    return Grid(shape, (spacing, spacing, spacing), (x, y, z))


def principal_axes(positions: FloatArray, numbers: IntArray) -> FloatArray:
    """Proper rotation R, shape (3, 3), that lays a molecule along its principal axes: positions @ R.T.

    Axes are those of the second moments of the nuclear charge about its centre, the longest as x, the shortest as z. x
    and y point to where the third moment is positive or, where that vanishes, to the first of the atoms farthest out.
    Where moments are equal (to 1e-6), an axis points to the first of the atoms that lie farthest out in the undecided
    plane or space. z makes the frame right-handed.
    """
    weights = numbers / numbers.sum()
    offsets = positions - weights @ positions
    moments, vectors = np.linalg.eigh((offsets.T * weights) @ offsets)
    moments, vectors = moments[::-1], vectors[:, ::-1].T
    tolerance = 1e-6 * max(float(moments[0]), 1e-12)
    axes: list[FloatArray] = []
    for rank in range(2):
        equal = vectors[np.abs(moments - moments[rank]) < tolerance]
        if len(equal) == 1:
            axes.append(equal[0] * _direction(offsets @ equal[0], weights))
        else:
            axes.append(_farthest(offsets, equal, axes))
    return np.array([*axes, np.cross(axes[0], axes[1])])


def _direction(along: FloatArray, weights: FloatArray) -> float:
    """+1 or −1: which way an axis points, from the atoms' coordinates on it."""
    third, scale = float(weights @ along**3), float(np.max(np.abs(along)))
    if abs(third) > 1e-6 * scale**3:
        return math.copysign(1.0, third)
    return math.copysign(1.0, along[np.argmax(np.abs(along) > (1 - 1e-6) * scale)])


def _farthest(offsets: FloatArray, space: FloatArray, taken: Sequence[FloatArray]) -> FloatArray:
    """Unit vector in `space`, orthogonal to `taken`, to the first of the farthest atoms, or to one of x, y, z."""
    projector = space.T @ space
    for axis in taken:
        projector = projector - np.outer(projector @ axis, projector @ axis)
    candidates = offsets @ projector
    if np.abs(candidates).max() <= 1e-6 * np.abs(offsets).max():  # nothing lies off the axes that are taken
        candidates = projector
    lengths = np.linalg.norm(candidates, axis=1)
    chosen = int(np.argmax(lengths > (1 - 1e-6) * lengths.max()))
    return np.asarray(candidates[chosen] / lengths[chosen])


def choose_epsilon(round_to: float) -> float:
    """What may be dropped of densities that are then rounded so: they stay right to a fifth of a stored step."""
    return min(COARSEST, max(EPSILON, round_to / STEP_PARTS))


def sample_density(state: ElectronicState, grid: Grid, sampling: Sampling, epsilon: float = EPSILON) -> FloatArray:
    """Density in every cell, or at every cell's centre, shape `grid.shape`, electrons per bohr³."""
    around = surround(state, grid)
    if sampling == "cell":
        return collocation.density_in_cells(around, _edges(grid), epsilon)
    return collocation.density_at_points(around, _centres(grid), epsilon)


def sample_gradient(state: ElectronicState, grid: Grid, sampling: Sampling, epsilon: float = EPSILON) -> FloatArray:
    """The cell's mean gradient, or the gradient at its centre, shape (3, *grid.shape), electrons per bohr⁴."""
    around = surround(state, grid)
    if sampling == "cell":
        return collocation.gradient_in_cells(around, _edges(grid), epsilon)
    return collocation.gradient_at_points(around, _centres(grid), epsilon)


def sample_gradient_magnitude(
    state: ElectronicState, grid: Grid, sampling: Sampling, epsilon: float = EPSILON
) -> FloatArray:
    """Length of the cell's mean gradient, or of the gradient at its centre, shape `grid.shape`, electrons per bohr⁴."""
    return measure_lengths(sample_gradient(state, grid, sampling, epsilon))


def sample_density_and_gradient(
    state: ElectronicState, grid: Grid, sampling: Sampling, epsilon: float = EPSILON
) -> tuple[FloatArray, FloatArray]:
    """What `sample_density` and `sample_gradient_magnitude` give, for two thirds of the cost of both."""
    around = surround(state, grid)
    if sampling == "cell":
        fields = collocation.density_and_gradient_in_cells(around, _edges(grid), epsilon)
    else:
        fields = collocation.density_and_gradient_at_points(around, _centres(grid), epsilon)
    return fields[0], measure_lengths(fields[1:])


def measure_lengths(vectors: FloatArray) -> FloatArray:
    """Of vectors (3, nx, ny, nz)."""
    return np.asarray(np.sqrt(np.einsum("cijk,cijk->ijk", vectors, vectors)))


def atom_types(
    numbers: IntArray, positions: FloatArray, grid: Grid, sampling: Sampling, elements: Sequence[int]
) -> FloatArray:
    """Smooth occupancy Σ_A exp(−2|r − R_A|²/r_A²) by element, with van der Waals radii r_A; (elements + 1, nx, ny, nz).

    The last channel holds the atoms of every other element.
    """
    exponents = _occupancy_exponents(numbers)
    x, y, z = (_gaussians(exponents, positions[:, axis], grid, axis, sampling) for axis in range(3))
    channels = np.zeros((len(elements) + 1, *grid.shape))
    for channel in range(len(elements) + 1):
        atoms = numbers == elements[channel] if channel < len(elements) else ~np.isin(numbers, elements)
        plane = (y[atoms][:, :, None] * z[atoms][:, None, :]).reshape(-1, grid.shape[1] * grid.shape[2])
        channels[channel] = (x[atoms].T @ plane).reshape(grid.shape)
    return channels


def molecular_shape(
    numbers: IntArray, positions: FloatArray, grid: Grid, sampling: Sampling, radius: float | None = None
) -> FloatArray:
    """Occupancy of all atoms together, 1 − Π_A (1 − exp(−2|r − R_A|²/r_A²)), between 0 and 1, shape `grid.shape`.

    The smooth union of the van der Waals spheres (as in Grant & Pickup, J. Phys. Chem. 99, 3503 (1995)), or of spheres
    of one `radius` (bohr), which say nothing of elements. Averages over cells are made from points at most 0.3 Å apart,
    exact for polynomials up to the thirteenth degree: right to 3e-6 at 0.25 Å, to 1e-5 at 0.6 Å.
    """
    exponents = _occupancy_exponents(numbers) if radius is None else np.full(len(numbers), 2 / radius**2)
    if sampling == "point":
        return 1 - _empty(exponents, positions, _centres(grid))
    parts = [math.ceil(width / FINE - 1e-9) for width in grid.spacing]
    x, y, z = (_lay_points(grid, axis, parts[axis]) for axis in range(3))
    empty = _empty(exponents, positions, (x, y, z))
    along_x, along_y, along_z = (_average_points(grid.shape[axis], parts[axis]) for axis in range(3))
    means = along_y @ np.tensordot(along_x, empty, 1) @ along_z.T
    return np.asarray(1 - means)


def _empty(exponents: FloatArray, positions: FloatArray, axes: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    """Π_A (1 − exp(−a_A|r − R_A|²)) at the points of three axes, each atom's factor where it is worth the name."""
    empty = np.ones([len(along) for along in axes])
    for exponent, position in zip(exponents.tolist(), positions, strict=True):
        reach = math.sqrt(-math.log(NOTHING) / exponent)
        ends = (np.searchsorted(along, [at - reach, at + reach]) for along, at in zip(axes, position, strict=True))
        near = tuple(slice(first, last) for first, last in ends)
        x, y, z = (
            np.exp(-exponent * (along[part] - at) ** 2) for along, part, at in zip(axes, near, position, strict=True)
        )
        empty[near] *= 1 - x[:, None, None] * (y[:, None] * z)
    return empty


def _lay_points(grid: Grid, axis: int, parts: int) -> FloatArray:
    """The centres of `parts` parts of every cell along an axis, and of as many beyond it as averages need."""
    width = grid.spacing[axis] / parts
    return np.asarray(grid.edges(axis)[0] + width * (np.arange(-HALO, grid.shape[axis] * parts + HALO) + 0.5))


@functools.lru_cache
def _average_points(cells: int, parts: int) -> FloatArray:
    """Averages over cells from points as `_lay_points` lays them, shape (cells, points).

    Over a part: Σ_j w_j f(x + j), with ∫x²ᵏ = (1/2)²ᵏ/(2k + 1) for the even powers up to twice the halo.
    """
    offsets, powers = np.arange(-HALO, HALO + 1), 2 * np.arange(HALO + 1)
    half = np.linalg.solve(np.arange(HALO + 1.0) ** powers[:, None] * ([1] + [2] * HALO), 0.5**powers / (powers + 1))
    averages = np.zeros((cells, cells * parts + 2 * HALO))
    for cell in range(cells):
        for part in range(parts):
            averages[cell, HALO + cell * parts + part + offsets] += half[np.abs(offsets)] / parts
    averages.flags.writeable = False
    return averages


def _occupancy_exponents(numbers: IntArray) -> FloatArray:
    """2/r_A² of every atom, 1/bohr². Raises UnsupportedElement where a radius is not known."""
    if unknown := sorted(set(numbers.tolist()) - set(VAN_DER_WAALS)):
        names = ", ".join(SYMBOLS[number] for number in unknown)
        raise UnsupportedElement(f"no van der Waals radius for {names} (Alvarez 2013): leave out atom types and shape")
    radii = np.array([VAN_DER_WAALS[number] for number in numbers.tolist()]) * BOHR_PER_ANGSTROM
    return np.asarray(2 / radii**2)


def _gaussians(exponents: FloatArray, centres: FloatArray, grid: Grid, axis: int, sampling: Sampling) -> FloatArray:
    """exp(−a(x − X)²) averaged over the cells of one axis, or at their centres; shape (gaussians, n)."""
    root = np.sqrt(exponents)[:, None]
    if sampling == "point":
        return np.exp(-((root * (grid.centres(axis) - centres[:, None])) ** 2))
    steps = np.diff(special.erf(root * (grid.edges(axis) - centres[:, None])), axis=1)
    return np.asarray(math.sqrt(math.pi) / (2 * root * grid.spacing[axis]) * steps)


def round_to_step(values: FloatArray, round_to: float) -> NDArray[np.float32]:
    """Values as multiples of the largest power of two not above `round_to`; 0 keeps every bit of float32."""
    if round_to == 0:
        return values.astype(np.float32)
    step = math.ldexp(0.5, math.frexp(round_to)[1])
    return (np.rint(values / step) * step + 0.0).astype(np.float32)  # + 0.0: no negative zeros


def _edges(grid: Grid) -> tuple[FloatArray, FloatArray, FloatArray]:
    return grid.edges(0), grid.edges(1), grid.edges(2)


def _centres(grid: Grid) -> tuple[FloatArray, FloatArray, FloatArray]:
    return grid.centres(0), grid.centres(1), grid.centres(2)
