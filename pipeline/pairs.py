"""Pairs of primitive centres whose product rises above a threshold."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from pipeline.lattice import segments
from pipeline.primitives import Primitives, first_functions, monomial_bounds, monomials, primitives_of
from storage.schema import Basis, FloatArray, IntArray

BATCH_TERMS = 1 << 14  # terms whose tables are held at once
BATCH_NUMBERS = 1 << 18  # float64 numbers in a batch of set-up


@dataclass(frozen=True)
class DensityMatrix:
    """A density Σ_μν values[μ, ν] χ_μ χ_ν from any symmetric matrix: total, spin, difference."""

    numbers: IntArray  # (atoms,)
    positions: FloatArray  # (atoms, 3), bohr
    basis: Basis
    values: FloatArray  # (functions, functions)

    def __post_init__(self) -> None:
        """Raises ValueError where the matrix is not symmetric, or not of this basis."""
        size = self.basis.size(self.numbers)
        if self.values.shape != (size, size):
            raise ValueError(f"a density matrix of shape {self.values.shape} for {size} basis functions")
        if not np.allclose(self.values, self.values.T, rtol=1e-6, atol=1e-8):
            raise ValueError("the density matrix is not symmetric: give (D + Dᵀ)/2")


@dataclass(frozen=True)
class Pairs:
    """Products of two primitive centres, with the density matrix's block in their monomials."""

    degrees: tuple[int, int]
    exponents: FloatArray  # (2, pairs)
    centres: FloatArray  # (2, 3, pairs)
    sizes: FloatArray  # (pairs,), bounds of the product, at its centre: it falls at least as exp(−0.9 p r²) from there
    blocks: FloatArray  # (monomials of the first, of the second, pairs)


def screened_pairs(density: DensityMatrix, epsilon: float) -> Iterator[Pairs]:
    """Pairs of primitive centres whose product rises above epsilon; pairs beyond reach are never listed.

    |x_Aⁱ x_Bʲ| exp(−a x_A² − b x_B²) ≤ w_i w_j exp(−0.9 μ|A−B|²), with μ = ab/p and w_i the largest value of
    |x|ⁱ exp(−0.1 a x²). The factor √(1 + 2p) leaves room for a derivative.
    """
    elements = {int(number): primitives_of(density.basis.shells[int(number)]) for number in np.unique(density.numbers)}
    weights = {number: monomial_bounds(element) for number, element in elements.items()}
    first = first_functions(density.numbers, elements)
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
        sizes *= once
        yield from _by_degrees(density.positions, (left, right), (bra, ket), blocks, once, sizes, epsilon)


def _atom_pairs(
    density: DensityMatrix, elements: dict[int, Primitives], weights: dict[int, FloatArray], epsilon: float
) -> Iterator[tuple[IntArray, IntArray]]:
    """Batches of atom pairs (each pair once, an atom with itself included) of the same two elements, within reach."""
    largest = max(float(np.sum(np.abs(element.expansion) * weights[z])) for z, element in elements.items())
    diffuse = min(float(element.exponents.min()) for element in elements.values())
    steep = max(float(element.exponents.max()) for element in elements.values())
    peak = float(max(density.values.max(), -density.values.min())) * largest**2 * math.sqrt(1 + 4 * steep)
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
    elements: tuple[Primitives, Primitives],
    blocks: FloatArray,
    once: FloatArray,
    sizes: FloatArray,
    epsilon: float,
) -> Iterator[Pairs]:
    bra, ket = elements
    for la, lb in itertools.product(np.unique(bra.degrees).tolist(), np.unique(ket.degrees).tolist()):
        of_bra, of_ket = np.flatnonzero(bra.degrees == la), np.flatnonzero(ket.degrees == lb)
        pair, i, j = np.nonzero(sizes[:, of_bra[0] : of_bra[-1] + 1, of_ket[0] : of_ket[-1] + 1] > epsilon)
        if len(pair):
            i, j = of_bra[i], of_ket[j]
            rows = bra.starts[i][:, None] + np.arange(len(monomials(la)))
            columns = ket.starts[j][:, None] + np.arange(len(monomials(lb)))
            block = blocks[pair[:, None, None], rows[:, :, None], columns[:, None, :]] * once[pair, i, j][:, None, None]
            exponents = np.stack([bra.exponents[i], ket.exponents[j]])
            centres = np.stack([positions[atoms[0][pair]].T, positions[atoms[1][pair]].T])
            size = sizes[pair, i, j]
            if la >= lb:
                yield Pairs((la, lb), exponents, centres, size, np.moveaxis(block, 0, 2))
            else:
                yield Pairs((lb, la), exponents[::-1], centres[::-1], size, block.T)


def batches(stream: Iterator[Pairs]) -> Iterator[list[Pairs]]:
    """The pairs, joined by degrees, in batches of about BATCH_TERMS terms."""
    waiting: dict[tuple[int, int], list[Pairs]] = defaultdict(list)
    terms = 0
    for pairs in stream:
        each = math.comb(sum(pairs.degrees) + 2, 2)
        for part in segments(pairs.exponents.shape[1], max(BATCH_TERMS // each, 1)):
            blocks = pairs.blocks[..., part]
            waiting[pairs.degrees].append(
                Pairs(pairs.degrees, pairs.exponents[..., part], pairs.centres[..., part], pairs.sizes[part], blocks)
            )
            terms += each * blocks.shape[-1]
            if terms >= BATCH_TERMS:
                yield [_join(group) for group in waiting.values()]
                waiting.clear()
                terms = 0
    if waiting:
        yield [_join(group) for group in waiting.values()]


def _join(group: list[Pairs]) -> Pairs:
    exponents = np.concatenate([pairs.exponents for pairs in group], axis=-1)
    centres = np.concatenate([pairs.centres for pairs in group], axis=-1)
    sizes = np.concatenate([pairs.sizes for pairs in group])
    return Pairs(
        group[0].degrees, exponents, centres, sizes, np.concatenate([pairs.blocks for pairs in group], axis=-1)
    )
