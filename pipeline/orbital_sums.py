"""Sums of squared orbitals, and their gradients, over the points of a grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from pipeline.lattice import (
    Array,
    Table,
    blocks,
    check_axes,
    cut_axis,
    join_tables,
    open_windows,
    outer,
    segments,
    turn,
)
from pipeline.primitives import find_reaches, first_functions, monomial_bounds, monomials, primitives_of
from pipeline.tables import monomial_gaussians
from storage.schema import ElectronicState, FloatArray, IntArray

BLOCK = (24, 16, 32)  # points of a block along x, y, z
SINGLE = float(1 << 20)  # terms below this many epsilons lose at most a sixteenth of epsilon in single precision
ORBITALS = 24  # orbitals whose block values are held at once


@dataclass(frozen=True)
class _Terms:
    """Every orbital in the monomials of primitive centres."""

    exponents: FloatArray  # (centres,)
    positions: FloatArray  # (centres, 3)
    sizes: FloatArray  # (centres,), bounds of any orbital's part: it falls at least as exp(−0.9 a r²) from the centre
    centre: IntArray  # (terms,)
    powers: IntArray  # (terms, 3)
    coefficients: FloatArray  # (orbitals, terms)


def _orbital_terms(state: ElectronicState) -> _Terms:
    elements = {int(number): primitives_of(state.basis.shells[int(number)]) for number in np.unique(state.numbers)}
    first = first_functions(state.numbers, elements)
    exponents, positions, sizes, centres, powers, coefficients = [], [], [], [], [], []
    count = 0
    for number, element in elements.items():
        atoms = np.flatnonzero(state.numbers == number)
        functions = first[atoms][:, None] + np.arange(len(element.expansion))
        blocks = np.moveaxis(state.orbitals[:, functions] @ element.expansion, 1, 0)  # (atoms, orbitals, monomials)
        bounds = np.max(np.abs(blocks), axis=1) * monomial_bounds(element)
        size = len(element.exponents)
        sizes.append(np.add.reduceat(bounds, element.starts[:-1], axis=1).ravel())
        exponents.append(np.tile(element.exponents, len(atoms)))
        positions.append(np.repeat(state.positions[atoms], size, axis=0))
        within = np.repeat(np.arange(size), np.diff(element.starts))
        centres.append((count + size * np.arange(len(atoms))[:, None] + within).ravel())
        powers.append(np.tile(np.concatenate([monomials(int(degree)) for degree in element.degrees]), (len(atoms), 1)))
        coefficients.append(np.concatenate(blocks, axis=1))
        count += size * len(atoms)
    every = np.concatenate(coefficients, axis=1)
    used = np.any(every != 0, axis=0)
    return _Terms(
        np.concatenate(exponents),
        np.concatenate(positions),
        np.concatenate(sizes),
        np.concatenate(centres)[used],
        np.concatenate(powers)[used],
        np.ascontiguousarray(every[:, used]),
    )


def _axis_tables(xp: Any, terms: _Terms, axis: int, points: Array, epsilon: float, derivatives: bool) -> list[Table]:
    """Tables of values, and of slopes, of all terms along an axis."""
    place = device(points)
    along = cut_axis(xp, xp.astype(points, xp.float64), BLOCK[axis], 0)
    sizes = terms.sizes * np.sqrt(1 + 2 * terms.exponents)
    a = xp.asarray(terms.exponents, device=place)
    reach = xp.asarray(find_reaches(sizes, terms.exponents, epsilon), device=place)
    centres = xp.asarray(np.ascontiguousarray(terms.positions[:, axis]), device=place)
    windows = open_windows(xp, along, centres, reach)
    a, centres = a[windows.functions], centres[windows.functions]
    top = int(terms.powers.max())
    values = monomial_gaussians(xp, a, centres, windows.points, top + derivatives)
    made = [values[: top + 1]]
    if derivatives:
        slopes = [i * values[i - 1] - 2 * a * values[i + 1] for i in range(1, top + 1)]
        made.append([-2 * a * values[1], *slopes])
    of = xp.asarray(terms.centre + len(terms.exponents) * terms.powers[:, axis], device=place)
    return [join_tables(xp, along, [(windows, arrays)]).of_terms(of) for arrays in made]


def _orbital_blocks(
    xp: Any, state: ElectronicState, axes: tuple[Array, Array, Array], epsilon: float, derivatives: bool
) -> Iterator[tuple[tuple[slice, slice, slice], Array, list[Array]]]:
    """Block by block, some orbitals at a time: where it is, occupations, ψ (then its slopes), (orbitals, points)."""
    check_axes(xp, axes, 1, epsilon)
    terms = _orbital_terms(state)
    tables = [_axis_tables(xp, terms, axis, points, epsilon, derivatives) for axis, points in enumerate(axes)]
    coefficients = xp.asarray(terms.coefficients, device=device(axes[0]))
    occupations = xp.asarray(state.occupations, device=device(axes[0]))
    weights = [coefficients, xp.astype(coefficients, xp.float32)]
    peaks = [kinds[0].peaks if len(kinds) == 1 else xp.maximum(kinds[0].peaks, kinds[1].peaks) for kinds in tables]
    peaks[0] = peaks[0] * xp.max(xp.abs(weights[1]), axis=0)
    x, y, z = (kinds[0].axis.segments for kinds in tables)
    for block, sets in blocks(xp, (peaks[0], peaks[1], peaks[2]), epsilon, epsilon * SINGLE):
        where = (x[block[0]], y[block[1]], z[block[2]])
        local = [(precision, used, *_block_tables(xp, tables, block, used, precision)) for precision, used in sets]
        for some in segments(occupations.shape[0], ORBITALS) if sets else []:
            fields: list[Array] = []
            for precision, used, along_x, planes in local:
                part = _orbital_fields(xp, xp.take(weights[precision][some, :], used, axis=1), along_x, planes)
                fields = [one + other for one, other in zip(fields, part, strict=True)] if fields else part
            yield where, xp.astype(occupations[some], fields[0].dtype), fields


def _block_tables(
    xp: Any, tables: list[list[Table]], block: tuple[int, int, int], terms: Array, precision: int
) -> tuple[list[Array], list[Array]]:
    """X (then its slope), (points, terms) each; Y⊗Z (then with the slope of Y, of Z), (terms, points) each."""
    (x, *dx), (y, *dy), (z, *dz) = (
        [turn(xp, kind.values(xp, segment, terms, precision)) for kind in kinds]
        for kinds, segment in zip(tables, block, strict=True)
    )
    planes = [(y, z), *((slope, z) for slope in dy), *((y, slope) for slope in dz)]
    return [x, *dx], [outer(xp, one, other).T for one, other in planes]


def _orbital_fields(xp: Any, weights: Array, along_x: list[Array], planes: list[Array]) -> list[Array]:
    """ψ, and its derivatives where the tables hold slopes, (orbitals, points) each."""
    left = outer(xp, weights, along_x[0])
    fields = [left @ planes[0]]
    if len(along_x) > 1:
        fields += [outer(xp, weights, along_x[1]) @ planes[0], left @ planes[1], left @ planes[2]]
    return [xp.reshape(field, (weights.shape[0], -1)) for field in fields]


def sum_orbitals(state: ElectronicState, axes: tuple[Array, Array, Array], epsilon: float, dtype: Any) -> Array:
    """Σ_i n_i ψ_i², shape (nx, ny, nz)."""
    xp = array_namespace(*axes)
    out = xp.zeros(tuple(axis.shape[0] for axis in axes), dtype=dtype or axes[0].dtype, device=device(axes[0]))
    for where, occupations, (psi,) in _orbital_blocks(xp, state, axes, epsilon, False):
        psi *= psi
        part = out[where]
        part += xp.reshape(occupations @ psi, part.shape)
    return out


def sum_orbital_gradients(
    state: ElectronicState, axes: tuple[Array, Array, Array], epsilon: float, dtype: Any
) -> Array:
    """2 Σ_i n_i ψ_i ∇ψ_i, shape (3, nx, ny, nz)."""
    gradient: Array = sum_orbitals_with_gradients(state, axes, epsilon, dtype)[1:, ...]
    return gradient


def sum_orbitals_with_gradients(
    state: ElectronicState, axes: tuple[Array, Array, Array], epsilon: float, dtype: Any
) -> Array:
    """Σ_i n_i ψ_i², then 2 Σ_i n_i ψ_i ∇ψ_i, shape (4, nx, ny, nz)."""
    xp = array_namespace(*axes)
    out = xp.zeros((4, *(axis.shape[0] for axis in axes)), dtype=dtype or axes[0].dtype, device=device(axes[0]))
    for where, occupations, (psi, *slopes) in _orbital_blocks(xp, state, axes, epsilon, True):
        for component, slope in enumerate([psi, *slopes]):
            part = out[component, ...][where]
            weights = 2 * occupations if component else occupations
            part += xp.reshape(weights @ (slope * psi), part.shape)
    return out
