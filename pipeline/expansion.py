"""A density as Hermite Gaussians: what its orbitals' products come to, ready to be turned, moved and cut.

One expansion serves every grid on which its molecule is wanted. It holds 20 to 250 KB for molecules of up to seven
heavy atoms, some ten times their orbitals.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from pipeline.hermite import expand_pairs
from pipeline.pairs import DensityMatrix, batches, screened_pairs
from pipeline.primitives import find_reaches, monomials
from storage.schema import FloatArray


@dataclass(frozen=True)
class HermiteGaussians:
    """Σ_n Σ_tuv coefficients[tuv, n] Λ_t(x) Λ_u(y) Λ_v(z), with (t, u, v) as in `monomials(degree)`."""

    degree: int
    exponents: FloatArray  # (n,), 1/bohr²
    centres: FloatArray  # (3, n), bohr
    reaches: FloatArray  # (n,), bohr: beyond it from its centre each is smaller than epsilon
    coefficients: FloatArray  # (monomials, n)


@dataclass(frozen=True)
class Expansion:
    """A density, one set of Hermite Gaussians for each degree that occurs."""

    parts: tuple[HermiteGaussians, ...]

    @property
    def nbytes(self) -> int:
        return sum(8 * part.exponents.size * (5 + len(part.coefficients)) for part in self.parts)

    def cut(self, corner: FloatArray, edges: FloatArray) -> "Expansion":
        """What reaches a box of such edges (3,), seen from its lowest corner (3,); bohr."""
        parts = []
        for part in self.parts:
            centres = part.centres - corner[:, None]
            beyond = np.maximum(np.abs(centres - edges[:, None] / 2) - edges[:, None] / 2, 0)
            near = np.flatnonzero(np.sum(beyond**2, axis=0) < part.reaches**2)
            parts.append(
                HermiteGaussians(
                    part.degree,
                    part.exponents[near],
                    centres[:, near],
                    part.reaches[near],
                    part.coefficients[:, near],
                )
            )
        return Expansion(tuple(parts))

    def scale(self, factor: float) -> "Expansion":
        """The same values at coordinates `factor` times as large: 1/h where lengths are counted in cells of h bohr."""
        return Expansion(tuple(_scale(part, factor) for part in self.parts))


def _scale(part: HermiteGaussians, factor: float) -> HermiteGaussians:
    """Λ_t depends on √p (x − P) alone, so that its coefficient stays."""
    exponents, centres, reaches = part.exponents / factor**2, part.centres * factor, part.reaches * factor
    return HermiteGaussians(part.degree, exponents, centres, reaches, part.coefficients)


def expand(density: DensityMatrix, epsilon: float) -> Expansion:
    """Every product of two primitives that somewhere rises above epsilon (electrons/bohr³)."""
    found: dict[int, list[tuple[FloatArray, FloatArray, FloatArray, FloatArray]]] = defaultdict(list)
    for batch in batches(screened_pairs(density, epsilon)):
        for pairs in batch:
            degree = sum(pairs.degrees)
            exponents, centres, hermite = expand_pairs(pairs)
            t, u, v = monomials(degree).T
            found[degree].append((exponents, centres, find_reaches(pairs.sizes, exponents, epsilon), hermite[t, u, v]))
    return Expansion(
        tuple(
            HermiteGaussians(degree, *(np.concatenate(arrays, axis=-1) for arrays in zip(*found[degree], strict=True)))
            for degree in sorted(found)
        )
    )
