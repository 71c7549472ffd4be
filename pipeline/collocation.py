"""Densities and their gradients on separable grids, from the Gaussians of an electronic state.

On such a grid a Gaussian is X(x)·Y(y)·Z(z): exponentials are needed in 1-D tables only.

Points, from orbitals (`orbital_sums`): ψ_i = Σ_p c_ip X_p Y_p Z_p over Cartesian primitives. The grid is cut into
blocks; each keeps the primitives with |c|·max|X|·max|Y|·max|Z| > ε, and (c⊗X)(Y⊗Z)ᵀ is one matrix product; then
ρ = Σ_i n_i ψ_i².

Cells, from a density matrix (`pair_sums`): the product of two Gaussians is a sum of Hermite Gaussians
Λ_t(x)Λ_u(y)Λ_v(z) (`hermite`). Averages over cells, and gradients, differ from point values in the 1-D tables only
(`tables`). Summing over t in the x table leaves one term per pair and (u, v); a block is again one matrix product over
the terms above ε.

A function is tabulated only in the segments of an axis that it reaches: a product of Gaussians falls at least as
exp(−0.9 p|r − P|²) from its bound at P (`pairs`).

ε governs accuracy, precision and cost together: terms below it are dropped; terms so small that float32 rounds off less
than about ε/8 are multiplied in float32 (nearly all of them), the few large ones in float64. Measured with def2-SVP and
def2-TZVP on ethanol and benzene, h = 0.2 bohr, ε = 1e-9: the largest error of any value is up to 30 ε, ∫|error|/N up to
30 ε in cells and 0.6 ε at points (also at 1e-6). Large augmented sets reach 70 ε. What is dropped adds up over the
cells: the electrons of all together are right to 1e-7 for small molecules and to 7e-7 for C12H24ClBr at ε = 1e-9, and
terms are dropped by their averages, so that a few cells of tens of bohr say less than `integrate_density` does.

Where one density is wanted on many grids, as training does, it is expanded once (`expansion`), then turned, cut and
summed over several boxes together (`box_sums`) in single precision.

NumPy sets up in float64; the namespace and device of the caller's axes decide where tables and products are made. Give
axes in float64 whatever the result's `dtype`, by default theirs: float32 coordinates are off by 1e-7 of their distance
from the origin, times a core's slope. Axes ascend. The same lines run on NumPy arrays and torch tensors.

Memory beyond the result, measured for a grid of 100³ and small molecules: 60 MB for cells and 80 MB for their
gradients, growing with nx + ny + nz; the density matrix of cells and the list of atom pairs within reach come on top,
and for points the coefficients of all orbitals in all primitives (three times 8 bytes each).
"""

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from pipeline.box_sums import choose_portion, sum_boxes
from pipeline.expansion import Expansion, expand
from pipeline.integrals import integrate_all_space, integrate_both, integrate_box
from pipeline.orbital_sums import sum_orbital_gradients, sum_orbitals, sum_orbitals_with_gradients
from pipeline.pair_sums import GRADIENT, VALUE, sum_pairs
from pipeline.pairs import DensityMatrix
from pipeline.tables import hermite_at_points, hermite_in_cells
from storage.schema import ElectronicState, FloatArray

__all__ = [
    "DensityMatrix",
    "Expansion",
    "count_electrons",
    "density_and_gradient_at_points",
    "density_and_gradient_in_cells",
    "density_at_points",
    "density_in_cells",
    "density_matrix",
    "expand_density",
    "expansions_at_points",
    "expansions_in_cells",
    "gradient_at_points",
    "gradient_in_cells",
    "integrate_density",
    "integrate_inside_and_everywhere",
]

A = TypeVar("A")  # the array type of the caller's axes: NumPy's or torch's
Axes: TypeAlias = tuple[A, A, A]
Dtype: TypeAlias = Any  # a floating type of the axes' namespace


def density_matrix(state: ElectronicState) -> DensityMatrix:
    """The total density matrix of a state."""
    values = (state.orbitals.T * state.occupations) @ state.orbitals
    return DensityMatrix(state.numbers, state.positions, state.basis, values)


def density_at_points(
    state: ElectronicState | DensityMatrix, axes: Axes[A], epsilon: float, dtype: Dtype | None = None
) -> A:
    """Density at the points of three coordinate axes (bohr), shape (nx, ny, nz), electrons per bohr³."""
    if isinstance(state, DensityMatrix):
        values: A = sum_pairs(state, axes, hermite_at_points, epsilon, VALUE, dtype)[0]
    else:
        values = sum_orbitals(state, axes, epsilon, dtype)
    return values


def gradient_at_points(
    state: ElectronicState | DensityMatrix, axes: Axes[A], epsilon: float, dtype: Dtype | None = None
) -> A:
    """Gradient of the density at the points of three coordinate axes, shape (3, nx, ny, nz), electrons per bohr⁴."""
    if isinstance(state, DensityMatrix):
        vectors: A = sum_pairs(state, axes, hermite_at_points, epsilon, GRADIENT, dtype)
    else:
        vectors = sum_orbital_gradients(state, axes, epsilon, dtype)
    return vectors


def density_in_cells(
    state: ElectronicState | DensityMatrix, edges: Axes[A], epsilon: float, dtype: Dtype | None = None
) -> A:
    """Exact average of the density over every cell; `edges` are the n + 1 cell boundaries of each axis (bohr)."""
    averages: A = sum_pairs(_as_matrix(state), edges, hermite_in_cells, epsilon, VALUE, dtype)[0]
    return averages


def gradient_in_cells(
    state: ElectronicState | DensityMatrix, edges: Axes[A], epsilon: float, dtype: Dtype | None = None
) -> A:
    """Exact average of the gradient vector over every cell, shape (3, nx, ny, nz), electrons per bohr⁴."""
    averages: A = sum_pairs(_as_matrix(state), edges, hermite_in_cells, epsilon, GRADIENT, dtype)
    return averages


def density_and_gradient_at_points(
    state: ElectronicState | DensityMatrix, axes: Axes[A], epsilon: float, dtype: Dtype | None = None
) -> A:
    """Density, then its gradient, (4, nx, ny, nz): for two thirds of what both cost one after the other."""
    if isinstance(state, DensityMatrix):
        fields: A = sum_pairs(state, axes, hermite_at_points, epsilon, VALUE + GRADIENT, dtype)
    else:
        fields = sum_orbitals_with_gradients(state, axes, epsilon, dtype)
    return fields


def density_and_gradient_in_cells(
    state: ElectronicState | DensityMatrix, edges: Axes[A], epsilon: float, dtype: Dtype | None = None
) -> A:
    """Exact averages of the density, then of its gradient, over every cell, (4, nx, ny, nz)."""
    averages: A = sum_pairs(_as_matrix(state), edges, hermite_in_cells, epsilon, VALUE + GRADIENT, dtype)
    return averages


def expand_density(state: ElectronicState | DensityMatrix, epsilon: float) -> Expansion:
    """The density once for all grids. Terms below epsilon are dropped; what is kept is summed in float32."""
    return expand(_as_matrix(state), epsilon)


def expansions_at_points(expansions: Sequence[Expansion], axes: Axes[A]) -> A:
    """Several densities at the points that they share (bohr, float64): (densities, nx, ny, nz), float32."""
    values: A = sum_boxes(expansions, axes, hermite_at_points, choose_portion(axes[0]))
    return values


def expansions_in_cells(expansions: Sequence[Expansion], edges: Axes[A]) -> A:
    """Exact averages of several densities over the cells that they share; `edges` as in `density_in_cells`."""
    averages: A = sum_boxes(expansions, edges, hermite_in_cells, choose_portion(edges[0]))
    return averages


def integrate_density(state: ElectronicState | DensityMatrix, edges: Axes[FloatArray]) -> float:
    """Electrons inside the box that the outermost edges span, analytically."""
    low, high = (np.array([axis[end] for axis in edges]) for end in (0, -1))
    return integrate_box(_as_matrix(state), low, high)


def integrate_inside_and_everywhere(
    state: ElectronicState | DensityMatrix, edges: Axes[FloatArray]
) -> tuple[float, float]:
    """Electrons inside the box that the outermost edges span, and in all space."""
    low, high = (np.array([axis[end] for axis in edges]) for end in (0, -1))
    return integrate_both(_as_matrix(state), low, high)


def count_electrons(state: ElectronicState | DensityMatrix) -> float:
    """Electrons in all space, the trace of D·S."""
    return integrate_all_space(_as_matrix(state))


def _as_matrix(state: ElectronicState | DensityMatrix) -> DensityMatrix:
    return state if isinstance(state, DensityMatrix) else density_matrix(state)
