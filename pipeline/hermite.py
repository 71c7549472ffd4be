"""Products of two Gaussians expanded in Hermite Gaussians.

The product of two Gaussians (exponents a, b; centres A, B) is a polynomial times exp(−μ|A − B|²) exp(−p|r − P|²) with
p = a + b, μ = ab/p and P = (aA + bB)/p. In Hermite Gaussians
    Λ_t(x) = p^(−t/2) (∂/∂P)ᵗ exp(−p(x−P)²) = H_t(ξ) exp(−ξ²),  ξ = √p(x−P),
it becomes Σ_tuv H_tuv Λ_t(x)Λ_u(y)Λ_v(z) (McMurchie & Davidson, J. Comput. Phys. 26, 218 (1978); Helgaker, Jørgensen &
Olsen, Molecular Electronic-Structure Theory, ch. 9.5; the factor p^(−t/2), ours, keeps all orders of one size). From
H_(t+1)(ξ) = 2ξ H_t − 2t H_(t−1) follows x_P Λ_t = (Λ_(t+1)/2 + t Λ_(t−1))/√p: what raises a power of x.
"""

import itertools

import numpy as np

from pipeline.pairs import BATCH_NUMBERS, Pairs
from pipeline.primitives import monomials
from storage.schema import FloatArray


def expand_pairs(pairs: Pairs) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Exponents p (n,), centres P (3, n) and coefficients H_tuv (L + 1, L + 1, L + 1, n) of the pairs' products."""
    (a, b), (first, second) = pairs.exponents, pairs.centres
    total = a + b
    separation = first - second
    decay = np.exp(-a * b / total * np.sum(separation**2, axis=0))
    ex, ey, ez = (expansion_coefficients(pairs.degrees, a, b, separation[axis]) for axis in range(3))
    la, lb = pairs.degrees
    bra, ket = monomials(la), monomials(lb)
    n, top = len(a), la + lb + 1
    hermite = np.zeros((top, top, top, n))
    step = max(BATCH_NUMBERS // ((la + 1) * (lb + 1)) ** 3, 1)
    for start in range(0, n, step):
        part = slice(start, start + step)
        width = len(a[part])
        dense = np.zeros((la + 1, lb + 1, la + 1, lb + 1, la + 1, lb + 1, width))
        x, y, z = (np.broadcast_arrays(bra[:, None, axis], ket[None, :, axis]) for axis in range(3))
        dense[x[0], x[1], y[0], y[1], z[0], z[1]] = pairs.blocks[..., part] * decay[part]
        after_x = np.zeros((top, la + 1, lb + 1, la + 1, lb + 1, width))
        for i, j in itertools.product(range(la + 1), range(lb + 1)):
            rest = np.s_[: la + 1 - i, : lb + 1 - j, : la + 1 - i, : lb + 1 - j]
            for t in range(i + j + 1):
                after_x[t][rest] += ex[i][j][t, part] * dense[i, j][rest]
        after_y = np.zeros((top, top, la + 1, lb + 1, width))
        for i, j in itertools.product(range(la + 1), range(lb + 1)):
            left = np.s_[: top - i - j, : la + 1 - i, : lb + 1 - j]
            for u in range(i + j + 1):
                after_y[:, u][left] += ey[i][j][u, part] * after_x[:, i, j][left]
        for i, j in itertools.product(range(la + 1), range(lb + 1)):
            for v in range(i + j + 1):
                hermite[:, :, v, part] += ez[i][j][v, part] * after_y[:, :, i, j]
    return total, (a * first + b * second) / total, hermite


def expansion_coefficients(
    degrees: tuple[int, int], a: FloatArray, b: FloatArray, separation: FloatArray
) -> list[list[FloatArray]]:
    """E[i][j], shape (i + j + 1, n), with x_Aⁱ x_Bʲ exp(−p x_P²) = Σ_t E[i][j][t] Λ_t (Helgaker, eqs. 9.5.6–7)."""
    total = a + b
    root = np.sqrt(total)

    def raise_degree(lower: FloatArray, offset: FloatArray) -> FloatArray:
        higher = np.zeros((len(lower) + 1, len(total)))
        higher[1:] = lower / (2 * root)
        higher[:-1] += offset * lower
        higher[:-2] += np.arange(1, len(lower))[:, None] / root * lower[1:]
        return higher

    table = [[np.ones((1, len(total)))]]
    for _ in range(degrees[0]):
        table.append([raise_degree(table[-1][0], -b / total * separation)])
    for row in table:
        for _ in range(degrees[1]):
            row.append(raise_degree(row[-1], a / total * separation))
    return table
