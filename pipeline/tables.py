"""One-dimensional functions at points, or averaged over cells.

Hermite Gaussians Λ_t (`hermite`) depend on x − P, so ∂/∂P = −∂/∂x, and
    ∫Λ_t dx = −[Λ_(t−1)]/√p for t ≥ 1,    ∫Λ_0 dx = √(π/p)/2·[erf ξ],    ∂Λ_t/∂x = −√p Λ_(t+1).
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from scipy import special

Array: TypeAlias = Any  # NumPy's or torch's: the array standard has no static type
Tabulate: TypeAlias = Callable[[Any, Array, Array, Array, int], list[Array]]


def monomial_gaussians(xp: Any, exponents: Array, centres: Array, points: Array, order: int) -> list[Array]:
    """xⁱ exp(−a x²) for i = 0 … order, about the centres, (points, n) each; exponents and centres (n,)."""
    offset = points - centres
    tables = [xp.exp(-exponents * offset * offset)]
    for _ in range(order):
        tables.append(offset * tables[-1])
    return tables


def hermite_at_points(xp: Any, exponents: Array, centres: Array, points: Array, order: int) -> list[Array]:
    """Λ_0 … Λ_order at the points (points, n), (points, n) each; exponents and centres (n,)."""
    return _hermite_gaussians(xp, xp.sqrt(exponents) * (points - centres), order)


def _hermite_gaussians(xp: Any, xi: Array, order: int) -> list[Array]:
    tables = [xp.exp(-xi * xi)]
    if order:
        tables.append(2 * xi * tables[0])
    for t in range(1, order):
        tables.append(2 * (xi * tables[t] - t * tables[t - 1]))
    return tables


def hermite_in_cells(xp: Any, exponents: Array, centres: Array, edges: Array, order: int) -> list[Array]:
    """Averages of Λ_0 … Λ_order over the cells between the edges (cells + 1, n).

    erf = sign − sign·erfc|ξ|: differences of erfc keep their digits far from the centre.
    """
    root = xp.sqrt(exponents)
    xi = root * (edges - centres)
    sign = xp.where(xi < 0, -1.0, 1.0)
    tail = sign * getattr(xp, "erfc", special.erfc)(xp.abs(xi))
    scale = 1 / (root * (edges[1:, :] - edges[:-1, :]))
    tables = [(math.sqrt(math.pi) / 2 * scale) * ((sign[1:, :] - sign[:-1, :]) - (tail[1:, :] - tail[:-1, :]))]
    if order:
        tables += [scale * (t[:-1, :] - t[1:, :]) for t in _hermite_gaussians(xp, xi, order - 1)]
    return tables
