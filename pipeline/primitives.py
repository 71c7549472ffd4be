"""The shells of an element as primitive centres: one per exponent, with every monomial up to its degree."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from storage.schema import FloatArray, IntArray, Shell


@dataclass(frozen=True)
class Primitives:
    """An element's shells as primitive centres: one per exponent, with every monomial up to its degree, by degree."""

    exponents: FloatArray  # (centres,)
    degrees: IntArray  # (centres,), ascending
    starts: IntArray  # (centres + 1,), first monomial of each
    expansion: FloatArray  # (functions, monomials)


@lru_cache
def monomials(degree: int) -> IntArray:
    """Powers (i, j, k) with i + j + k ≤ degree, lower totals first, then as in a Cartesian shell; shape (n, 3)."""
    powers = itertools.product(range(degree + 1), repeat=3)
    kept = [power for power in powers if sum(power) <= degree]
    return np.array(sorted(kept, key=lambda power: (sum(power), -power[0], -power[1])), dtype=np.int64).reshape(-1, 3)


@lru_cache
def solid_harmonics(degree: int) -> FloatArray:
    """Real regular solid harmonics in Cartesian monomials of that degree, shape (2l + 1, monomials).

    Helgaker, Jørgensen & Olsen, eqs. 6.4.47–50, times √((2l + 1)/4π): orthonormal on the unit sphere.
    """
    powers = monomials(degree)[len(monomials(degree - 1)) :]
    columns = {tuple(power): column for column, power in enumerate(powers.tolist())}
    rows = np.zeros((2 * degree + 1, len(powers)))
    for order in range(-degree, degree + 1):
        size = abs(order)
        norm = math.sqrt(2 * math.factorial(degree + size) * math.factorial(degree - size) / (2 if order == 0 else 1))
        norm *= math.sqrt((2 * degree + 1) / (4 * math.pi)) / (2**size * math.factorial(degree))
        for t in range((degree - size) // 2 + 1):
            for u in range(t + 1):
                for twice_v in range(int(order < 0), size + 1, 2):
                    sign = (-1) ** (t + twice_v // 2)
                    count = math.comb(degree, t) * math.comb(degree - t, size + t)
                    count *= math.comb(t, u) * math.comb(size, twice_v)
                    power = (2 * t + size - 2 * u - twice_v, 2 * u + twice_v, degree - 2 * t - size)
                    rows[order + degree, columns[power]] += norm * sign * count / 4**t
    return rows[[2, 0, 1]] if degree == 1 else rows


def primitives_of(shells: Sequence[Shell]) -> Primitives:
    degree_of: dict[float, int] = {}
    for shell in shells:
        for exponent in shell.exponents[shell.coefficients != 0].tolist():
            degree_of[exponent] = max(shell.angular_momentum, degree_of.get(exponent, 0))
    centres = sorted(degree_of, key=lambda exponent: (degree_of[exponent], exponent))
    degrees = np.array([degree_of[exponent] for exponent in centres], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum([len(monomials(int(degree))) for degree in degrees])]).astype(np.int64)
    expansion = np.zeros((sum(shell.size for shell in shells), int(starts[-1])))
    row = 0
    for shell in shells:
        degree = shell.angular_momentum
        angular = np.eye(shell.size) if shell.cartesian else solid_harmonics(degree)
        for exponent, coefficient in zip(shell.exponents.tolist(), shell.coefficients.tolist(), strict=True):
            if coefficient != 0:
                start = starts[centres.index(exponent)] + len(monomials(degree - 1))
                expansion[row : row + shell.size, start : start + angular.shape[1]] += coefficient * angular
        row += shell.size
    return Primitives(np.array(centres), degrees, starts, expansion)


def first_functions(numbers: IntArray, primitives: dict[int, Primitives]) -> IntArray:
    """Index of every atom's first function."""
    sizes = [len(primitives[int(number)].expansion) for number in numbers]
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)


def monomial_bounds(element: Primitives) -> FloatArray:
    """Largest value of |x|ⁱ|y|ʲ|z|ᵏ exp(−0.1 a r²) for every monomial of the element."""
    bounds = []
    for exponent, degree in zip(element.exponents, element.degrees, strict=True):
        total = monomials(int(degree)).sum(axis=1)
        bounds.append((np.maximum(total, 1) / (0.2 * math.e * exponent)) ** (total / 2))
    return np.concatenate(bounds)


def find_reaches(sizes: FloatArray, exponents: FloatArray, epsilon: float) -> FloatArray:
    """Distances beyond which size·exp(−0.9 a r²) stays below epsilon, bohr; 0 where it is nowhere above."""
    return np.asarray(np.sqrt(np.log(np.maximum(sizes / epsilon, 1)) / (0.9 * exponents)))
