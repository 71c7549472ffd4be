"""Analytic integrals of densities over a box or all space."""

import math
from collections.abc import Callable

import numpy as np

from pipeline.hermite import expansion_coefficients
from pipeline.pairs import DensityMatrix, Pairs, batches, screened_pairs
from pipeline.primitives import monomials
from pipeline.tables import hermite_in_cells
from storage.schema import FloatArray

SMALLEST = 1e-14  # electrons per bohr³ of the products left out

Moments = Callable[[FloatArray, FloatArray, int, int], FloatArray]


def integrate_all_space(density: DensityMatrix) -> float:
    """The trace of D·S."""

    def moments(exponents: FloatArray, centres: FloatArray, axis: int, order: int) -> FloatArray:  # noqa: ARG001
        """∫Λ_t dx over all x, (order + 1, n): only t = 0 holds anything."""
        tables = np.zeros((order + 1, len(exponents)))
        tables[0] = np.sqrt(math.pi / exponents)
        return tables

    return _integrate(density, moments)


def integrate_box(density: DensityMatrix, low: FloatArray, high: FloatArray) -> float:
    """Electrons between two corners (3,), bohr."""

    def moments(exponents: FloatArray, centres: FloatArray, axis: int, order: int) -> FloatArray:
        """∫Λ_t dx between the box's faces, (order + 1, n)."""
        edges = np.broadcast_to([[low[axis]], [high[axis]]], (2, len(exponents)))
        averages = hermite_in_cells(np, exponents, centres, edges, order)
        return np.asarray((high[axis] - low[axis]) * np.concatenate(averages))

    return _integrate(density, moments)


def _integrate(density: DensityMatrix, moments: Moments) -> float:
    total = 0.0
    for batch in batches(screened_pairs(density, SMALLEST)):
        total += sum(_integrate_pairs(pairs, moments) for pairs in batch)
    return total


def _integrate_pairs(pairs: Pairs, moments: Moments) -> float:
    """Σ D_ab ∫x_Aⁱ x_Bʲ … ∫y … ∫z …: in each direction Σ_t E[i][j][t] ∫Λ_t (see `pipeline.hermite`)."""
    (a, b), (first, second) = pairs.exponents, pairs.centres
    total = a + b
    bra, ket = (monomials(degree) for degree in pairs.degrees)
    products = pairs.blocks * np.exp(-a * b / total * np.sum((first - second) ** 2, axis=0))
    for axis in range(3):
        centre = (a * first[axis] + b * second[axis]) / total
        along = moments(total, centre, axis, sum(pairs.degrees))
        expansion = expansion_coefficients(pairs.degrees, a, b, first[axis] - second[axis])
        one = np.stack([np.stack([np.sum(e * along[: len(e)], axis=0) for e in row]) for row in expansion])
        products = products * one[bra[:, axis][:, None], ket[:, axis]]
    return float(np.sum(products))
