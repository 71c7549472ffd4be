"""Electronic states, and expanded densities, turned in space."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from pipeline.expansion import Expansion
from pipeline.primitives import monomials, solid_harmonics
from storage.schema import ElectronicState, FloatArray, Shell


def rotate_state(state: ElectronicState, rotation: FloatArray) -> ElectronicState:
    """The same state of the molecule turned about the origin by an orthogonal matrix (3, 3), proper or not.

    Positions become positions @ rotation.T; the density at rotation @ r is what it was at r. Raises ValueError for
    another matrix, and for a periodic state, whose lattice would have to turn too.
    """
    if state.cell is not None:
        raise ValueError(f"a periodic state (box of {state.cell} bohr) cannot be turned: its lattice would turn too")
    if not np.allclose(rotation @ rotation.T, np.eye(3), rtol=0, atol=1e-10):
        raise ValueError(f"not an orthogonal matrix: {np.asarray(rotation).tolist()}")
    orbitals = np.empty_like(state.orbitals)
    start = 0
    for number in state.numbers.tolist():
        for shell in state.basis.shells[number]:
            part = slice(start, start + shell.size)
            orbitals[:, part] = state.orbitals[:, part] @ _turned_functions(shell, rotation)
            start += shell.size
    x, y, z = (rotation @ np.array(state.dipole)).tolist()
    return replace(state, positions=state.positions @ rotation.T, orbitals=orbitals, dipole=(x, y, z))


def turn_expansion(expansion: Expansion, rotation: FloatArray) -> Expansion:
    """The same density turned about the origin by an orthogonal matrix (3, 3), proper or not.

    Λ_tuv is p^(−(t + u + v)/2) ∂ᵗ∂ᵘ∂ᵛ of a ball that turning leaves as it is; so the coefficients turn as those of a
    polynomial in ∂ do.
    """
    matrix = _turned_monomials(max(part.degree for part in expansion.parts), rotation)
    return Expansion(
        tuple(
            replace(
                part,
                centres=rotation @ part.centres,
                coefficients=matrix[: len(part.coefficients), : len(part.coefficients)] @ part.coefficients,
            )
            for part in expansion.parts
        )
    )


def _turned_monomials(top: int, rotation: FloatArray) -> FloatArray:
    """M with Σ_m c_m (rotationᵀ d)^m = Σ_m (M c)_m d^m over all monomials up to degree `top`."""
    matrix = np.zeros((len(monomials(top)),) * 2)
    for degree in range(top + 1):
        part = slice(len(monomials(degree - 1)), len(monomials(degree)))
        powers = monomials(degree)[part]
        after = np.prod((_sample_points(degree) @ rotation)[:, None, :] ** powers, axis=2)
        matrix[part, part] = _from_values(degree) @ after
    return matrix


@lru_cache
def _from_values(degree: int) -> FloatArray:
    """Coefficients (monomials, points) of a homogeneous polynomial from its values at `_sample_points`."""
    powers = monomials(degree)[len(monomials(degree - 1)) :]
    return np.asarray(np.linalg.pinv(np.prod(_sample_points(degree)[:, None, :] ** powers, axis=2)))


def _turned_functions(shell: Shell, rotation: FloatArray) -> FloatArray:
    """M (functions, functions) with χ_m(rotation⁻¹ r) = Σ_n M[m, n] χ_n(r).

    Both sides are polynomials of one degree, so that their values at enough points in general position give M.
    """
    points = _sample_points(shell.angular_momentum)
    before = _angular_functions(shell, points @ rotation)  # rows of points @ R are R⁻¹ r
    after = _angular_functions(shell, points)
    return np.asarray(np.linalg.lstsq(after, before, rcond=None)[0].T, dtype=np.float64)


def _angular_functions(shell: Shell, points: FloatArray) -> FloatArray:
    """Values (points, functions) of a shell's polynomials."""
    degree = shell.angular_momentum
    powers = monomials(degree)[len(monomials(degree - 1)) :]
    values: FloatArray = np.prod(points[:, None, :] ** powers, axis=2)
    return values if shell.cartesian else values @ solid_harmonics(degree).T


@lru_cache
def _sample_points(degree: int) -> FloatArray:
    """Points on the unit sphere along a spiral, thrice as many as there are monomials of the degree."""
    count = 3 * (degree + 1) * (degree + 2) // 2
    z = (2 * np.arange(count) + 1) / count - 1
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
