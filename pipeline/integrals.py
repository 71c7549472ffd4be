"""Analytic integrals of densities over a box or all space."""

import math
from collections.abc import Callable, Sequence

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
    return _integrate(density, [_everywhere])[0]


def integrate_box(density: DensityMatrix, low: FloatArray, high: FloatArray) -> float:
    """Electrons between two corners (3,), bohr."""
    return _integrate(density, [_inside(low, high)])[0]


def integrate_both(density: DensityMatrix, low: FloatArray, high: FloatArray) -> tuple[float, float]:
    """Electrons between two corners, and in all space, for little more than one of them costs."""
    inside, everywhere = _integrate(density, [_inside(low, high), _everywhere])
    return inside, everywhere


def _everywhere(exponents: FloatArray, centres: FloatArray, axis: int, order: int) -> FloatArray:  # noqa: ARG001
    """∫Λ_t dx over all x, (order + 1, n): only t = 0 holds anything."""
    tables = np.zeros((order + 1, len(exponents)))
    tables[0] = np.sqrt(math.pi / exponents)
    return tables


def _inside(low: FloatArray, high: FloatArray) -> Moments:
    def moments(exponents: FloatArray, centres: FloatArray, axis: int, order: int) -> FloatArray:
        """∫Λ_t dx between the box's faces, (order + 1, n)."""
        edges = np.broadcast_to([[low[axis]], [high[axis]]], (2, len(exponents)))
        averages = hermite_in_cells(np, exponents, centres, edges, order)
        return np.asarray((high[axis] - low[axis]) * np.concatenate(averages))

    return moments


def _integrate(density: DensityMatrix, regions: Sequence[Moments]) -> list[float]:
    """For each region, whose moments are given."""
    totals = [0.0] * len(regions)
    for batch in batches(screened_pairs(density, SMALLEST)):
        for pairs in batch:
            for region, part in enumerate(_integrate_pairs(pairs, regions)):
                totals[region] += part
    return totals


def _integrate_pairs(pairs: Pairs, regions: Sequence[Moments]) -> list[float]:
    """Σ D_ab ∫x_Aⁱ x_Bʲ … ∫y … ∫z …: in each direction Σ_t E[i][j][t] ∫Λ_t (see `pipeline.hermite`)."""
    (a, b), (first, second) = pairs.exponents, pairs.centres
    total = a + b
    bra, ket = (monomials(degree) for degree in pairs.degrees)
    products = [pairs.blocks * np.exp(-a * b / total * np.sum((first - second) ** 2, axis=0))] * len(regions)
    for axis in range(3):
        centre = (a * first[axis] + b * second[axis]) / total
        expansion = expansion_coefficients(pairs.degrees, a, b, first[axis] - second[axis])
        for region, moments in enumerate(regions):
            along = moments(total, centre, axis, sum(pairs.degrees))
            one = np.stack([np.stack([np.sum(e * along[: len(e)], axis=0) for e in row]) for row in expansion])
            products[region] = products[region] * one[bra[:, axis][:, None], ket[:, axis]]
    return [float(np.sum(product)) for product in products]
