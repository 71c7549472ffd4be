"""Densities and their gradients on separable grids, from the Gaussians of an electronic state.

On such a grid a Gaussian is X(x)·Y(y)·Z(z): exponentials are needed in 1-D tables only.

Points, from orbitals: ψ_i = Σ_p c_ip X_p Y_p Z_p over Cartesian primitives. The grid is cut into blocks; each keeps the
primitives with |c|·max|X|·max|Y|·max|Z| > ε, and (X·c)ᵀ(Y⊗Z) is one matrix product; ρ = Σ_i n_i ψ_i².

Cells, from a density matrix: the product of two Gaussians (exponents a, b; centres A, B) is a polynomial times
exp(−p|r−P|²) with p = a + b and P = (aA + bB)/p. In Hermite Gaussians
    Λ_t(x) = p^(−t/2) (∂/∂P)ᵗ exp(−p(x−P)²) = H_t(ξ) exp(−ξ²),  ξ = √p(x−P),
it becomes Σ_tuv H_tuv Λ_t(x)Λ_u(y)Λ_v(z) (McMurchie & Davidson, J. Comput. Phys. 26, 218 (1978); Helgaker, Jørgensen &
Olsen, Molecular Electronic-Structure Theory, ch. 9.5; the factor p^(−t/2), ours, keeps all orders of one size).
Because ∂/∂P = −∂/∂x,
    ∫Λ_t dx = −[Λ_(t−1)]/√p for t ≥ 1,    ∫Λ_0 dx = √(π/p)/2·[erf ξ],    ∂Λ_t/∂x = −√p Λ_(t+1),
so that averages over cells, and gradients, differ from point values in the 1-D tables only. Summing over t in the x
table leaves one term per pair and (u, v); a block is again one matrix product over the terms above ε.

ε governs accuracy, precision and cost together: terms below it are dropped; terms so small that float32 rounds off less
than about ε are multiplied in float32 (97 % of them), the few large ones in float64. Measured with def2-SVP on ethanol,
benzene and caffeine, h = 0.2 bohr, ε from 1e-6 to 1e-10: the largest error of any value is up to 35 ε, ∫|error|/N up to
20 ε in cells and 0.6 ε at points, and the electrons of all cells together are right to 1e-7 at ε = 1e-9.

NumPy sets up in float64; the namespace and device of the caller's axes decide where tables and products are made, and
their dtype is that of the result. Pass float64 axes: float32 coordinates are off by 1e-7 bohr, times a core's slope.
The same lines run on NumPy arrays and torch tensors. Beyond the result, memory is bounded but for the density matrix:
about 50 MB for a grid of 100³, growing with nx + ny + nz.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray
from scipy import special
from scipy.spatial import cKDTree

from storage.schema import Basis, ElectronicState, FloatArray, IntArray, Shell

A = TypeVar("A")  # the array type of the caller's axes: NumPy's or torch's
Array: TypeAlias = Any  # the same, where arithmetic is done: the array standard has no static type
Axes: TypeAlias = tuple[A, A, A]
Tables: TypeAlias = Callable[[Any, Array, Array, Array, int], list[Array]]

BLOCK = (32, 8, 32)  # cells of a block along x, y, z
ORBITALS = 64  # orbitals whose block values are held at once
SINGLE = float(1 << 20)  # a product below this many epsilons loses less than epsilon in single precision
BATCH_TERMS = 1 << 13  # terms whose tables are held at once
BATCH_NUMBERS = 1 << 18  # float64 numbers in a batch of set-up


@dataclass(frozen=True)
class DensityMatrix:
    """A density Σ_μν values[μ, ν] χ_μ χ_ν from any symmetric matrix: total, spin, difference."""

    numbers: IntArray  # (atoms,)
    positions: FloatArray  # (atoms, 3), bohr
    basis: Basis
    values: FloatArray  # (functions, functions)


def density_matrix(state: ElectronicState) -> DensityMatrix:
    """The total density matrix of a state."""
    values = (state.orbitals.T * state.occupations) @ state.orbitals
    return DensityMatrix(state.numbers, state.positions, state.basis, values)


def density_at_points(state: ElectronicState | DensityMatrix, axes: Axes[A], epsilon: float) -> A:
    """Density at the points of three coordinate axes (bohr), shape (nx, ny, nz), electrons per bohr³."""
    if isinstance(state, DensityMatrix):
        values: A = _sum_pairs(state, axes, _point_tables, epsilon, _VALUE)[0]
    else:
        values = _sum_orbitals(state, axes, epsilon)
    return values


def gradient_at_points(state: ElectronicState | DensityMatrix, axes: Axes[A], epsilon: float) -> A:
    """Gradient of the density at the points of three coordinate axes, shape (3, nx, ny, nz), electrons per bohr⁴."""
    if isinstance(state, DensityMatrix):
        vectors: A = _sum_pairs(state, axes, _point_tables, epsilon, _GRADIENT)
    else:
        vectors = _sum_orbital_gradients(state, axes, epsilon)
    return vectors


def density_in_cells(state: ElectronicState | DensityMatrix, edges: Axes[A], epsilon: float) -> A:
    """Exact average of the density over every cell; `edges` are the n + 1 cell boundaries of each axis (bohr)."""
    averages: A = _sum_pairs(_as_matrix(state), edges, _cell_tables, epsilon, _VALUE)[0]
    return averages


def gradient_in_cells(state: ElectronicState | DensityMatrix, edges: Axes[A], epsilon: float) -> A:
    """Exact average of the gradient vector over every cell, shape (3, nx, ny, nz), electrons per bohr⁴."""
    averages: A = _sum_pairs(_as_matrix(state), edges, _cell_tables, epsilon, _GRADIENT)
    return averages


def integrate_density(state: ElectronicState | DensityMatrix, edges: Axes[FloatArray]) -> float:
    """Electrons inside the box that the outermost edges span, analytically."""
    x, y, z = (axis[[0, -1]] for axis in edges)
    volume = (x[1] - x[0]) * (y[1] - y[0]) * (z[1] - z[0])
    return float(density_in_cells(state, (x, y, z), 1e-14)[0, 0, 0] * volume)


def count_electrons(state: ElectronicState | DensityMatrix) -> float:
    """Electrons in all space, the trace of D·S."""
    total = 0.0
    for batch in _batches(_screened_pairs(_as_matrix(state), 1e-14)):
        for pairs in batch:
            exponents, _, hermite = _hermite(pairs)
            total += float(np.sum(hermite[0, 0, 0] * (math.pi / exponents) ** 1.5))
    return total


def _as_matrix(state: ElectronicState | DensityMatrix) -> DensityMatrix:
    return state if isinstance(state, DensityMatrix) else density_matrix(state)


# Shells as primitive centres


@dataclass(frozen=True)
class _Primitives:
    """An element's shells as primitive centres: one per exponent, with every monomial up to its degree, by degree."""

    exponents: FloatArray  # (centres,)
    degrees: IntArray  # (centres,), ascending
    starts: IntArray  # (centres + 1,), first monomial of each
    expansion: FloatArray  # (functions, monomials)


@lru_cache
def _monomials(degree: int) -> IntArray:
    """Powers (i, j, k) with i + j + k ≤ degree, lower totals first, then as in a Cartesian shell; shape (n, 3)."""
    powers = itertools.product(range(degree + 1), repeat=3)
    kept = [power for power in powers if sum(power) <= degree]
    return np.array(sorted(kept, key=lambda power: (sum(power), -power[0], -power[1])), dtype=np.int64).reshape(-1, 3)


@lru_cache
def _solid_harmonics(degree: int) -> FloatArray:
    """Real regular solid harmonics in Cartesian monomials of that degree, shape (2l + 1, monomials).

    Helgaker, Jørgensen & Olsen, eqs. 6.4.47–50, times √((2l + 1)/4π): orthonormal on the unit sphere.
    """
    powers = _monomials(degree)[len(_monomials(degree - 1)) :]
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


def _primitives(shells: Sequence[Shell]) -> _Primitives:
    degree_of: dict[float, int] = {}
    for shell in shells:
        for exponent in shell.exponents[shell.coefficients != 0].tolist():
            degree_of[exponent] = max(shell.angular_momentum, degree_of.get(exponent, 0))
    centres = sorted(degree_of, key=lambda exponent: (degree_of[exponent], exponent))
    degrees = np.array([degree_of[exponent] for exponent in centres], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum([len(_monomials(int(degree))) for degree in degrees])]).astype(np.int64)
    expansion = np.zeros((sum(shell.size for shell in shells), int(starts[-1])))
    row = 0
    for shell in shells:
        degree = shell.angular_momentum
        angular = np.eye(shell.size) if shell.cartesian else _solid_harmonics(degree)
        for exponent, coefficient in zip(shell.exponents.tolist(), shell.coefficients.tolist(), strict=True):
            if coefficient != 0:
                start = starts[centres.index(exponent)] + len(_monomials(degree - 1))
                expansion[row : row + shell.size, start : start + angular.shape[1]] += coefficient * angular
        row += shell.size
    return _Primitives(np.array(centres), degrees, starts, expansion)


def _first_functions(numbers: IntArray, primitives: dict[int, _Primitives]) -> IntArray:
    """Index of every atom's first function."""
    sizes = [len(primitives[int(number)].expansion) for number in numbers]
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)


# Pairs of centres and their Hermite Gaussians


@dataclass(frozen=True)
class _Pairs:
    """Products of two primitive centres, with the density matrix's block in their monomials."""

    degrees: tuple[int, int]
    exponents: FloatArray  # (2, pairs)
    centres: FloatArray  # (2, 3, pairs)
    blocks: FloatArray  # (monomials of the first, of the second, pairs)


def _screened_pairs(density: DensityMatrix, epsilon: float) -> Iterator[_Pairs]:
    """Pairs of primitive centres whose product rises above epsilon; pairs beyond reach are never listed.

    |x_Aⁱ x_Bʲ| exp(−a x_A² − b x_B²) ≤ w_i w_j exp(−0.9 μ|A−B|²), with μ = ab/p and w_i the largest value of
    |x|ⁱ exp(−0.1 a x²). The factor √(1 + 2p) leaves room for a derivative.
    """
    elements = {int(number): _primitives(density.basis.shells[int(number)]) for number in np.unique(density.numbers)}
    weights = {number: _monomial_bounds(element) for number, element in elements.items()}
    first = _first_functions(density.numbers, elements)
    for left, right in _atom_pairs(density, elements, weights, epsilon):
        one, two = int(density.numbers[left[0]]), int(density.numbers[right[0]])
        bra, ket = elements[one], elements[two]
        rows = first[left][:, None] + np.arange(len(bra.expansion))
        columns = first[right][:, None] + np.arange(len(ket.expansion))
        blocks = bra.expansion.T @ density.values[rows[:, :, None], columns[:, None, :]] @ ket.expansion
        blocks *= np.where(left == right, 1.0, 2.0)[:, None, None]
        sizes = np.add.reduceat(np.abs(blocks) * weights[one][:, None] * weights[two], ket.starts[:-1], axis=2)
        sizes = np.add.reduceat(sizes, bra.starts[:-1], axis=1)
        total = bra.exponents[:, None] + ket.exponents
        distance = np.sum((density.positions[left] - density.positions[right]) ** 2, axis=1)
        sizes *= np.exp(-0.9 * distance[:, None, None] * (bra.exponents[:, None] * ket.exponents / total))
        sizes *= np.sqrt(1 + 2 * total)
        # On one atom every pair of different centres stands for both of its orders.
        once = np.where((left == right)[:, None, None], 2 * np.triu(np.ones(total.shape)) - np.eye(*total.shape), 1.0)
        keep = sizes * once > epsilon
        yield from _by_degrees(density.positions, (left, right), (bra, ket), blocks, once, keep)


def _monomial_bounds(element: _Primitives) -> FloatArray:
    """Largest value of |x|ⁱ|y|ʲ|z|ᵏ exp(−0.1 a r²) for every monomial of the element."""
    bounds = []
    for exponent, degree in zip(element.exponents, element.degrees, strict=True):
        total = _monomials(int(degree)).sum(axis=1)
        bounds.append((np.maximum(total, 1) / (0.2 * math.e * exponent)) ** (total / 2))
    return np.concatenate(bounds)


def _atom_pairs(
    density: DensityMatrix, elements: dict[int, _Primitives], weights: dict[int, FloatArray], epsilon: float
) -> Iterator[tuple[IntArray, IntArray]]:
    """Batches of atom pairs (each pair once, an atom with itself included) of the same two elements, within reach."""
    largest = max(float(np.sum(np.abs(element.expansion) * weights[z])) for z, element in elements.items())
    diffuse = min(float(element.exponents.min()) for element in elements.values())
    steep = max(float(element.exponents.max()) for element in elements.values())
    peak = float(np.max(np.abs(density.values))) * largest**2 * math.sqrt(1 + 4 * steep)
    reach = math.sqrt(max(math.log(max(peak, epsilon) / epsilon), 0) / (0.45 * diffuse))
    pairs = cKDTree(density.positions).query_pairs(reach, output_type="ndarray").astype(np.int64)
    pairs = np.concatenate([np.repeat(np.arange(len(density.numbers)), 2).reshape(-1, 2), pairs])
    pairs = np.where((density.numbers[pairs[:, :1]] <= density.numbers[pairs[:, 1:]]), pairs, pairs[:, ::-1])
    for one, two in itertools.combinations_with_replacement(sorted(elements), 2):
        same = pairs[(density.numbers[pairs[:, 0]] == one) & (density.numbers[pairs[:, 1]] == two)]
        size = max(elements[one].expansion.shape[1] * elements[two].expansion.shape[1], 1)
        for start in range(0, len(same), max(BATCH_NUMBERS // size, 1)):
            left, right = same[start : start + max(BATCH_NUMBERS // size, 1)].T
            yield left, right


def _by_degrees(
    positions: FloatArray,
    atoms: tuple[IntArray, IntArray],
    elements: tuple[_Primitives, _Primitives],
    blocks: FloatArray,
    once: FloatArray,
    keep: NDArray[np.bool_],
) -> Iterator[_Pairs]:
    bra, ket = elements
    for la, lb in itertools.product(np.unique(bra.degrees).tolist(), np.unique(ket.degrees).tolist()):
        of_bra, of_ket = np.flatnonzero(bra.degrees == la), np.flatnonzero(ket.degrees == lb)
        pair, i, j = np.nonzero(keep[:, of_bra[0] : of_bra[-1] + 1, of_ket[0] : of_ket[-1] + 1])
        if len(pair):
            i, j = of_bra[i], of_ket[j]
            rows = bra.starts[i][:, None] + np.arange(len(_monomials(la)))
            columns = ket.starts[j][:, None] + np.arange(len(_monomials(lb)))
            block = blocks[pair[:, None, None], rows[:, :, None], columns[:, None, :]] * once[pair, i, j][:, None, None]
            exponents = np.stack([bra.exponents[i], ket.exponents[j]])
            centres = np.stack([positions[atoms[0][pair]].T, positions[atoms[1][pair]].T])
            if la >= lb:
                yield _Pairs((la, lb), exponents, centres, np.moveaxis(block, 0, 2))
            else:
                yield _Pairs((lb, la), exponents[::-1], centres[::-1], block.T)


def _batches(stream: Iterator[_Pairs]) -> Iterator[list[_Pairs]]:
    """The pairs, joined by degrees, in batches of about BATCH_TERMS terms."""
    waiting: dict[tuple[int, int], list[_Pairs]] = defaultdict(list)
    terms = 0
    for pairs in stream:
        each = math.comb(sum(pairs.degrees) + 2, 2)
        for part in _segments(pairs.exponents.shape[1], max(BATCH_TERMS // each, 1)):
            blocks = pairs.blocks[..., part]
            waiting[pairs.degrees].append(
                _Pairs(pairs.degrees, pairs.exponents[..., part], pairs.centres[..., part], blocks)
            )
            terms += each * blocks.shape[-1]
            if terms >= BATCH_TERMS:
                yield [_join(group) for group in waiting.values()]
                waiting.clear()
                terms = 0
    if waiting:
        yield [_join(group) for group in waiting.values()]


def _join(group: list[_Pairs]) -> _Pairs:
    exponents = np.concatenate([pairs.exponents for pairs in group], axis=-1)
    centres = np.concatenate([pairs.centres for pairs in group], axis=-1)
    return _Pairs(group[0].degrees, exponents, centres, np.concatenate([pairs.blocks for pairs in group], axis=-1))


def _hermite(pairs: _Pairs) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Exponents p (n,), centres P (3, n) and coefficients H_tuv (L + 1, L + 1, L + 1, n) of the pairs' products."""
    (a, b), (first, second) = pairs.exponents, pairs.centres
    total = a + b
    separation = first - second
    decay = np.exp(-a * b / total * np.sum(separation**2, axis=0))
    ex, ey, ez = (_expansion_coefficients(pairs.degrees, a, b, separation[axis]) for axis in range(3))
    la, lb = pairs.degrees
    bra, ket = _monomials(la), _monomials(lb)
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


def _expansion_coefficients(
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


# One-dimensional tables


def _point_tables(xp: Any, exponents: Array, centres: Array, points: Array, order: int) -> list[Array]:
    """Λ_0 … Λ_order at the points, (points, n) each; exponents and centres (n,)."""
    xi = xp.sqrt(exponents) * (points[:, None] - centres)
    tables = [xp.exp(-xi * xi)]
    if order:
        tables.append(2 * xi * tables[0])
    for t in range(1, order):
        tables.append(2 * (xi * tables[t] - t * tables[t - 1]))
    return tables


def _cell_tables(xp: Any, exponents: Array, centres: Array, edges: Array, order: int) -> list[Array]:
    """Averages of Λ_0 … Λ_order over the cells between the edges.

    erf = sign − sign·erfc|ξ|: differences of erfc keep their digits far from the centre.
    """
    root = xp.sqrt(exponents)
    xi = root * (edges[:, None] - centres)
    sign = xp.where(xi < 0, -1.0, 1.0)
    tail = sign * getattr(xp, "erfc", special.erfc)(xp.abs(xi))
    scale = 1 / (root * (edges[1:] - edges[:-1])[:, None])
    tables = [(math.sqrt(math.pi) / 2 * scale) * ((sign[1:, :] - sign[:-1, :]) - (tail[1:, :] - tail[:-1, :]))]
    if order:
        tables += [scale * (t[:-1, :] - t[1:, :]) for t in _point_tables(xp, exponents, centres, edges, order - 1)]
    return tables


# Sums over the grid, block by block

_VALUE = ((0, 0, 0),)  # derivatives along x, y, z of each component
_GRADIENT = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def _segments(size: int, longest: int) -> list[slice]:
    count = -(-size // longest)
    return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]


def _blocks(
    xp: Any, peaks: tuple[Array, Array, Array], epsilon: float
) -> Iterator[tuple[tuple[int, int, int], list[tuple[int, Array]]]]:
    """Blocks of the grid, each with its terms above epsilon; peaks are (segments, terms) along x, y, z.

    Terms come as (0, those to multiply in double precision) and (1, those for which single loses less than epsilon).
    """
    along_x, along_y, along_z = peaks
    large = epsilon * SINGLE
    reach_z = xp.max(along_z, axis=0)
    reach = xp.max(along_y, axis=0) * reach_z
    for i in range(along_x.shape[0]):
        in_x = xp.nonzero(along_x[i, :] * reach > epsilon)[0]
        peak_x, peaks_y, peaks_z = along_x[i, :][in_x], along_y[:, in_x], along_z[:, in_x]
        for j in range(along_y.shape[0]):
            peak_xy = peak_x * peaks_y[j, :]
            in_y = xp.nonzero(peak_xy * reach_z[in_x] > epsilon)[0]
            peak_xy, some = peak_xy[in_y], in_x[in_y]
            for k in range(along_z.shape[0]):
                peak = peak_xy * peaks_z[k, :][in_y]
                sets = [some[xp.nonzero(peak > large)[0]], some[xp.nonzero((peak > epsilon) & (peak <= large))[0]]]
                yield (i, j, k), [(precision, terms) for precision, terms in enumerate(sets) if terms.shape[0]]


@dataclass(frozen=True)
class _Table:
    """Values of terms along one axis: whole in double precision, by segment in single, where almost all are used."""

    double: Array  # (points, terms)
    single: list[Array]  # (terms, points of the segment) each
    peaks: Array  # (segments, terms), largest magnitudes
    segments: list[slice]

    def rows(self, xp: Any, segment: int, terms: Array, precision: int) -> Array:
        if precision:
            return xp.take(self.single[segment], terms, axis=0)
        return xp.take(self.double[self.segments[segment], :], terms, axis=1).T


def _cut(xp: Any, double: Array, segments: list[slice]) -> _Table:
    single = xp.astype(double, xp.float32)
    peaks = xp.stack([xp.max(xp.abs(single[part, :]), axis=0) for part in segments])
    pieces = [xp.reshape(xp.reshape(single[part, :].T, (-1,)), (double.shape[1], -1)) for part in segments]
    return _Table(double, pieces, peaks, segments)


def _outer(xp: Any, left: Array, right: Array) -> Array:
    """Row by row outer product, (n, a) and (n, b) to (n, a·b)."""
    return xp.reshape(left[:, :, None] * right[:, None, :], (left.shape[0], -1))


def _lattice(axes: Axes[A], cells: bool) -> tuple[tuple[int, ...], list[list[slice]]]:
    """Shape of the field on the axes, and its segments along each."""
    shape = tuple(axis.shape[0] - cells for axis in axes)  # type: ignore[attr-defined]
    return shape, [_segments(n, longest) for n, longest in zip(shape, BLOCK, strict=True)]


# The pair route


@dataclass(frozen=True)
class _Expanded:
    """Pairs as Hermite Gaussians, with their 1-D tables."""

    degree: int
    hermite: Array  # (L + 1, L + 1, L + 1, pairs)
    tables: list[list[list[Array]]]  # by axis, derivative and order: (points, pairs)


def _expand(xp: Any, pairs: _Pairs, axes: Axes[Array], tables: Tables, derivative: int) -> _Expanded:
    place = device(axes[0])
    exponents, centres, hermite = _hermite(pairs)
    degree = sum(pairs.degrees)
    p = xp.asarray(exponents, device=place)
    by_axis = []
    for axis, points in enumerate(axes):
        centre = xp.asarray(np.ascontiguousarray(centres[axis]), device=place)
        plain = tables(xp, p, centre, points, degree + derivative)
        by_axis.append([plain, [-xp.sqrt(p) * table for table in plain[1:]] if derivative else []])
    return _Expanded(degree, xp.asarray(hermite, device=place), by_axis)


def _sum_pairs(
    density: DensityMatrix, axes: Axes[A], tables: Tables, epsilon: float, derivatives: tuple[tuple[int, int, int], ...]
) -> Any:
    """Σ_pairs H_tuv Λ_t Λ_u Λ_v on the grid for each set of derivatives, shape (components, nx, ny, nz)."""
    xp = array_namespace(*axes)
    shape, slices = _lattice(axes, tables is _cell_tables)
    out = xp.zeros((len(derivatives), *shape), dtype=axes[0].dtype, device=device(axes[0]))  # type: ignore[attr-defined]
    x, y, z = (xp.astype(axis, xp.float64) for axis in axes)
    highest = max(max(shift) for shift in derivatives)
    for batch in _batches(_screened_pairs(density, epsilon)):
        expanded = [_expand(xp, pairs, (x, y, z), tables, highest) for pairs in batch]
        for component, shift in enumerate(derivatives):
            _add_terms(xp, out[component, ...], slices, expanded, shift, epsilon)
    return out


def _add_terms(
    xp: Any,
    out: Array,
    slices: list[list[slice]],
    batch: list[_Expanded],
    derivatives: tuple[int, int, int],
    epsilon: float,
) -> None:
    """Add the terms of a batch to the field, block by block."""
    tables, of_y, of_z = _term_tables(xp, batch, derivatives)
    x, y, z = (_cut(xp, table, along) for table, along in zip(tables, slices, strict=True))
    for (i, j, k), sets in _blocks(xp, (x.peaks, y.peaks[:, of_y], z.peaks[:, of_z]), epsilon):
        for precision, terms in sets:
            left = x.rows(xp, i, terms, precision)
            along_y = y.rows(xp, j, of_y[terms], precision)
            along_z = z.rows(xp, k, of_z[terms], precision)
            block = left.T @ _outer(xp, along_y, along_z)
            shape = (left.shape[1], along_y.shape[1], along_z.shape[1])
            out[slices[0][i], slices[1][j], slices[2][k]] += xp.reshape(block, shape)


def _term_tables(
    xp: Any, batch: list[_Expanded], derivatives: tuple[int, int, int]
) -> tuple[tuple[Array, Array, Array], Array, Array]:
    """x, y and z tables of all terms (pair, u, v), t summed into x; and every term's row in y and in z."""
    rows: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    of_y, of_z = [], []
    start = 0
    for pairs in batch:
        x, y, z = (pairs.tables[axis][derivative] for axis, derivative in enumerate(derivatives))
        n, degree = x[0].shape[1], pairs.degree
        each = xp.arange(n, device=device(x[0])) + start
        for u, v in _orders(degree):
            row = pairs.hermite[0, u, v, :] * x[0]
            for t in range(1, degree + 1 - u - v):
                row += pairs.hermite[t, u, v, :] * x[t]
            rows[0].append(row)
            of_y.append(each + u * n)
            of_z.append(each + v * n)
        rows[1].extend(y[: degree + 1])
        rows[2].extend(z[: degree + 1])
        start += n * (degree + 1)
    along_x, along_y, along_z = (xp.concat(tables, axis=1) for tables in rows)
    return (along_x, along_y, along_z), xp.concat(of_y), xp.concat(of_z)


def _orders(degree: int) -> list[tuple[int, int]]:
    return [(u, v) for u in range(degree + 1) for v in range(degree + 1 - u)]


# The orbital route


def _orbital_terms(state: ElectronicState) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
    """Exponents and positions of the primitive centres; (centre, i, j, k) and orbital coefficients of every term."""
    elements = {int(number): _primitives(state.basis.shells[int(number)]) for number in np.unique(state.numbers)}
    first = _first_functions(state.numbers, elements)
    exponents, positions, terms, coefficients = [], [], [], []
    count = 0
    for number, element in elements.items():
        atoms = np.flatnonzero(state.numbers == number)
        functions = first[atoms][:, None] + np.arange(len(element.expansion))
        blocks = np.moveaxis(state.orbitals[:, functions] @ element.expansion, 0, 2)  # (atoms, monomials, orbitals)
        size = len(element.exponents)
        centre = np.repeat(np.arange(size), np.diff(element.starts))
        powers = np.concatenate([_monomials(int(degree)) for degree in element.degrees])
        for atom, block in zip(atoms, blocks, strict=True):
            terms.append(np.column_stack([centre + count, powers]))
            coefficients.append(block)
            exponents.append(element.exponents)
            positions.append(np.broadcast_to(state.positions[atom], (size, 3)))
            count += size
    every = np.concatenate(coefficients)
    used = np.any(every != 0, axis=1)
    return np.concatenate(exponents), np.concatenate(positions), np.concatenate(terms)[used], every[used]


def _power_tables(xp: Any, exponents: Array, centres: Array, points: Array, order: int) -> list[Array]:
    """xⁱ exp(−a x²) for i = 0 … order, (points, n) each."""
    offset = points[:, None] - centres
    tables = [xp.exp(-exponents * offset * offset)]
    for _ in range(order):
        tables.append(offset * tables[-1])
    return tables


def _orbital_tables(
    xp: Any, state: ElectronicState, axes: Axes[Array], derivatives: bool
) -> tuple[list[list[Array]], list[Array], Array]:
    """Along each axis: tables of values (and slopes) and each term's row in them; coefficients (terms, orbitals)."""
    place = device(axes[0])
    exponents, positions, terms, coefficients = _orbital_terms(state)
    top = int(terms[:, 1:].max())
    a = xp.asarray(exponents, device=place)
    tables, rows = [], []
    for axis in range(3):
        centre = xp.asarray(np.ascontiguousarray(positions[:, axis]), device=place)
        powers = _power_tables(xp, a, centre, xp.astype(axes[axis], xp.float64), top + derivatives)
        made = [xp.concat(powers[: top + 1], axis=1)]
        if derivatives:
            slopes = [i * powers[i - 1] - 2 * a * powers[i + 1] for i in range(1, top + 1)]
            made.append(xp.concat([-2 * a * powers[1], *slopes], axis=1))
        tables.append(made)
        rows.append(xp.asarray(terms[:, 0] + len(exponents) * terms[:, 1 + axis], device=place))
    return tables, rows, xp.asarray(coefficients, device=place)


def _orbital_blocks(
    xp: Any, state: ElectronicState, axes: Axes[Array], epsilon: float, derivatives: bool
) -> Iterator[tuple[tuple[slice, slice, slice], Array, list[Array]]]:
    """For every block and batch of orbitals: where it lies, occupations, and ψ (then its slopes), (orbitals, cells)."""
    tables, rows, coefficients = _orbital_tables(xp, state, axes, derivatives)
    occupations = xp.asarray(state.occupations, device=device(coefficients))
    _, slices = _lattice(axes, False)
    cut = [[_cut(xp, kind, along) for kind in kinds] for kinds, along in zip(tables, slices, strict=True)]
    peaks = []
    for kinds, row in zip(cut, rows, strict=True):
        peak = kinds[0].peaks if len(kinds) == 1 else xp.maximum(kinds[0].peaks, kinds[1].peaks)
        peaks.append(peak[:, row])
    weights = [coefficients, xp.astype(coefficients, xp.float32)]
    peaks[0] = peaks[0] * xp.max(xp.abs(weights[1]), axis=1)
    for block, sets in _blocks(xp, (peaks[0], peaks[1], peaks[2]), epsilon):
        where = (slices[0][block[0]], slices[1][block[1]], slices[2][block[2]])
        for some in _segments(occupations.shape[0], ORBITALS):
            fields: list[Array] = []
            for precision, terms in sets:
                local = [
                    [kind.rows(xp, segment, row[terms], precision) for kind in kinds]
                    for kinds, row, segment in zip(cut, rows, block, strict=True)
                ]
                part = _orbital_fields(xp, local, xp.take(weights[precision], terms, axis=0)[:, some])
                fields = [one + other for one, other in zip(fields, part, strict=True)] if fields else part
            if fields:
                yield where, xp.astype(occupations[some], fields[0].dtype), fields


def _orbital_fields(xp: Any, tables: list[list[Array]], weights: Array) -> list[Array]:
    """ψ, and its derivatives where the tables hold slopes, (orbitals, cells) each."""
    (x, *dx), (y, *dy), (z, *dz) = tables
    left, plane = _outer(xp, weights, x).T, _outer(xp, y, z)
    fields = [left @ plane]
    if dx:
        fields += [_outer(xp, weights, dx[0]).T @ plane, left @ _outer(xp, dy[0], z), left @ _outer(xp, y, dz[0])]
    return [xp.reshape(field, (weights.shape[1], -1)) for field in fields]


def _sum_orbitals(state: ElectronicState, axes: Axes[A], epsilon: float) -> Any:
    """Σ_i n_i ψ_i², shape (nx, ny, nz)."""
    xp = array_namespace(*axes)
    shape, _ = _lattice(axes, False)
    out = xp.zeros(shape, dtype=axes[0].dtype, device=device(axes[0]))  # type: ignore[attr-defined]
    for where, occupations, (psi,) in _orbital_blocks(xp, state, axes, epsilon, False):
        out[where] += xp.reshape(occupations @ (psi * psi), out[where].shape)
    return out


def _sum_orbital_gradients(state: ElectronicState, axes: Axes[A], epsilon: float) -> Any:
    """2 Σ_i n_i ψ_i ∇ψ_i, shape (3, nx, ny, nz)."""
    xp = array_namespace(*axes)
    shape, _ = _lattice(axes, False)
    out = xp.zeros((3, *shape), dtype=axes[0].dtype, device=device(axes[0]))  # type: ignore[attr-defined]
    for where, occupations, (psi, *slopes) in _orbital_blocks(xp, state, axes, epsilon, True):
        for axis, slope in enumerate(slopes):
            component = out[axis, ...]
            component[where] += xp.reshape(2 * occupations @ (psi * slope), component[where].shape)
    return out
