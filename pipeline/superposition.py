"""Spherical atoms added up, on grids: the density of systems that are too large for orbitals.

An atom is a few s-type Gaussians, so that every average over a cell is a product of three differences of erf: exact.
The grid is summed block by block over the Gaussians that reach it. Where some atoms have orbitals instead, their
density is added: between them and the spheres is the seam.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from pipeline.collocation import integrate_density
from pipeline.primitives import find_reaches
from pipeline.tables import hermite_at_points, hermite_in_cells
from pipeline.voxels import measure_lengths, sample_density, sample_gradient
from storage.schema import ElectronicState, FloatArray, Grid, IntArray, Sampling

EPSILON = 1e-11  # electrons/bohr³: where a Gaussian is smaller, it may be left out; of 10,000, 1e-5 electrons are lost
BLOCK = 16  # cells along each edge


@dataclass(frozen=True)
class Superposition:
    """ρ = Σ_k electrons[k]·(exponents[k]/π)^(3/2)·exp(−exponents[k]·|r − centres[k]|²), and that of `state`."""

    exponents: FloatArray  # (n,), 1/bohr²
    centres: FloatArray  # (n, 3), bohr
    electrons: FloatArray  # (n,)
    state: ElectronicState | None = None
    charge: int = 0  # of the part that the state describes

    @property
    def count(self) -> float:
        """Electrons in all space."""
        return float(self.electrons.sum()) + (0.0 if self.state is None else self.state.electrons)

    @property
    def orbital_atoms(self) -> int:
        """How many atoms the state describes."""
        return 0 if self.state is None else len(self.state.numbers)


def sample_superposition(whole: Superposition, grid: Grid, sampling: Sampling) -> FloatArray:
    """Density in every cell, or at every cell's centre, shape `grid.shape`, electrons per bohr³."""
    density: FloatArray = _sum_gaussians(whole, grid, sampling, [(0, 0, 0)])[0]
    if whole.state is not None:
        density += sample_density(whole.state, grid, sampling)
    return density


def sample_gradient_length(whole: Superposition, grid: Grid, sampling: Sampling) -> FloatArray:
    """Length of the cell's mean gradient, or of the gradient at its centre, shape `grid.shape`, electrons per bohr⁴."""
    gradient = _sum_gaussians(whole, grid, sampling, [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
    if whole.state is not None:
        gradient += sample_gradient(whole.state, grid, sampling)
    return measure_lengths(gradient)


def integrate_superposition(whole: Superposition, grid: Grid) -> float:
    """Electrons inside the box, analytically."""
    inside = whole.electrons.copy()
    root = np.sqrt(whole.exponents)
    for axis in range(3):
        low, high = (grid.edges(axis)[end] for end in (0, -1))
        inside *= np.diff([special.erf(root * (end - whole.centres[:, axis])) for end in (low, high)], axis=0)[0] / 2
    held = float(inside.sum())
    edges = (grid.edges(0), grid.edges(1), grid.edges(2))
    return held if whole.state is None else held + integrate_density(whole.state, edges)


def _sum_gaussians(
    whole: Superposition, grid: Grid, sampling: Sampling, derivatives: Sequence[tuple[int, int, int]]
) -> FloatArray:
    """For each triple of orders of derivatives along x, y and z, shape (triples, nx, ny, nz)."""
    heights = whole.electrons * (whole.exponents / np.pi) ** 1.5
    reaches = find_reaches(np.abs(heights), whole.exponents, EPSILON)
    sums = np.zeros((len(derivatives), *grid.shape))
    for block in _cut_blocks(grid):
        near = _find_near(whole.centres, reaches, grid, block)
        tables = [_tabulate(whole, near, grid, sampling, axis, block[axis]) for axis in range(3)]
        for where, orders in enumerate(derivatives):
            x, y, z = (tables[axis][order] for axis, order in enumerate(orders))
            planes = y[:, None, :] * z[None, :, :]
            flat = (heights[near] * x) @ planes.reshape(len(y) * len(z), len(near)).T
            sums[(where, *block)] = flat.reshape(len(x), len(y), len(z))
    return sums


def _cut_blocks(grid: Grid) -> Iterator[tuple[slice, slice, slice]]:
    x, y, z = ([slice(k, min(k + BLOCK, cells)) for k in range(0, cells, BLOCK)] for cells in grid.shape)
    return itertools.product(x, y, z)


def _find_near(centres: FloatArray, reaches: FloatArray, grid: Grid, block: tuple[slice, slice, slice]) -> IntArray:
    """Which Gaussians reach a block."""
    beyond = np.zeros(len(centres))
    for axis, part in enumerate(block):
        low, high = (grid.edges(axis)[end] for end in (part.start, part.stop))
        beyond += np.maximum(np.maximum(low - centres[:, axis], centres[:, axis] - high), 0) ** 2
    return np.flatnonzero(beyond < reaches**2)


def _tabulate(
    whole: Superposition, near: IntArray, grid: Grid, sampling: Sampling, axis: int, part: slice
) -> list[FloatArray]:
    """exp(−a(x − X)²) and its derivative along x, averaged over cells or at their centres, (cells, Gaussians)."""
    exponents, centres = whole.exponents[near], whole.centres[near, axis]
    if sampling == "cell":
        points = grid.edges(axis)[part.start : part.stop + 1, None]
        value, first = hermite_in_cells(np, exponents, centres, points, 1)
    else:
        value, first = hermite_at_points(np, exponents, centres, grid.centres(axis)[part, None], 1)
    return [value, -np.sqrt(exponents) * first]
