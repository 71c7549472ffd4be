"""Sums of pair products over a grid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from pipeline.hermite import expand_pairs
from pipeline.lattice import (
    Array,
    Axis,
    Table,
    Windows,
    blocks,
    check_axes,
    cut_axis,
    join_tables,
    open_windows,
    outer,
    turn,
)
from pipeline.pairs import DensityMatrix, Pairs, batches, screened_pairs
from pipeline.primitives import find_reaches
from pipeline.tables import Tabulate, hermite_in_cells

BLOCK = (64, 8, 8)  # cells of a block along x, y, z
SINGLE = float(1 << 21)  # terms below this many epsilons lose at most an eighth of epsilon in single precision

Components = tuple[tuple[int, int, int], ...]  # of a field: its derivatives along x, y, z
VALUE: Components = ((0, 0, 0),)
GRADIENT: Components = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


@dataclass(frozen=True)
class _Expanded:
    """Pairs of one degree as Hermite Gaussians, with their 1-D tables."""

    degree: int
    hermite: Array  # (L + 1, L + 1, L + 1, pairs)
    windows: list[Windows]  # by axis
    tables: list[list[list[Array]]]  # by axis, derivative and order: (points, windows)


def sum_pairs(
    density: DensityMatrix,
    axes: tuple[Array, Array, Array],
    tabulate: Tabulate,
    epsilon: float,
    components: Components,
    dtype: Any,
) -> Array:
    """Σ_pairs H_tuv Λ_t Λ_u Λ_v on the grid for each component, shape (components, nx, ny, nz)."""
    xp = array_namespace(*axes)
    cells = int(tabulate is hermite_in_cells)
    check_axes(xp, axes, 1 + cells, epsilon)
    lattice = [
        cut_axis(xp, xp.astype(axis, xp.float64), longest, cells) for axis, longest in zip(axes, BLOCK, strict=True)
    ]
    shape = tuple(axis.shape[0] - cells for axis in axes)
    out = xp.zeros((len(components), *shape), dtype=dtype or axes[0].dtype, device=device(axes[0]))
    highest = max(max(derivatives) for derivatives in components)
    for batch in batches(screened_pairs(density, epsilon)):
        expanded = [_expand(xp, group, lattice, tabulate, highest, epsilon) for group in _by_total_degree(batch)]
        _add_terms(xp, out, lattice, expanded, components, epsilon)
    return out


def _by_total_degree(batch: list[Pairs]) -> list[list[Pairs]]:
    degrees = sorted({sum(pairs.degrees) for pairs in batch})
    return [[pairs for pairs in batch if sum(pairs.degrees) == degree] for degree in degrees]


def _expand(
    xp: Any, group: list[Pairs], lattice: list[Axis], tabulate: Tabulate, derivative: int, epsilon: float
) -> _Expanded:
    place = device(lattice[0].points)
    products = [expand_pairs(pairs) for pairs in group]
    exponents, centres, hermite = (np.concatenate(parts, axis=-1) for parts in zip(*products, strict=True))
    sizes = np.concatenate([pairs.sizes for pairs in group])
    reach = xp.asarray(find_reaches(sizes, exponents, epsilon), device=place)
    degree, p = hermite.shape[0] - 1, xp.asarray(exponents, device=place)
    windows, by_axis = [], []
    for axis, along in zip(lattice, centres, strict=True):
        centre = xp.asarray(np.ascontiguousarray(along), device=place)
        windows.append(open_windows(xp, axis, centre, reach))
        near = windows[-1].functions
        plain = tabulate(xp, p[near], centre[near], windows[-1].points, degree + derivative)
        by_axis.append([plain, [-xp.sqrt(p[near]) * table for table in plain[1:]] if derivative else []])
    return _Expanded(degree, xp.asarray(hermite, device=place), windows, by_axis)


def _add_terms(
    xp: Any, out: Array, lattice: list[Axis], batch: list[_Expanded], components: Components, epsilon: float
) -> None:
    """Add the terms of a batch to every component, block by block: what one has above epsilon is added to all."""
    tables = _term_tables(xp, lattice, batch, components)
    x, y, z = (_largest(xp, list(kinds.values())) for kinds in tables)
    for block, sets in blocks(xp, (x, y, z), epsilon, epsilon * SINGLE):
        i, j, k = (axis.segments[place] for axis, place in zip(lattice, block, strict=True))
        part = out[:, i, j, k]
        for precision, terms in sets:
            along_x, along_y, along_z = (
                {kind: table.values(xp, place, terms, precision) for kind, table in kinds.items()}
                for kinds, place in zip(tables, block, strict=True)
            )
            for plane in dict.fromkeys(derivatives[1:] for derivatives in components):
                rows = [row for row, derivatives in enumerate(components) if derivatives[1:] == plane]
                left = [along_x[components[row][0]] for row in rows]
                yz = outer(xp, turn(xp, along_y[plane[0]]), turn(xp, along_z[plane[1]])).T
                sums = (left[0] if len(left) == 1 else xp.concat(left, axis=1)).T @ yz
                for row, one in zip(rows, xp.reshape(sums, (len(rows), *part.shape[1:])), strict=True):
                    part[row, ...] += one


def _largest(xp: Any, kinds: list[Table]) -> Array:
    """Peaks of each term in every segment, over values and slopes."""
    peaks = kinds[0].peaks
    for table in kinds[1:]:
        peaks = xp.maximum(peaks, table.peaks)
    return peaks


def _term_tables(
    xp: Any, lattice: list[Axis], batch: list[_Expanded], components: Components
) -> tuple[dict[int, Table], dict[int, Table], dict[int, Table]]:
    """x, y and z tables of all terms (pair, u, v), t summed into x: by order of the derivative."""
    of_y, of_z = [], []
    start = 0
    for pairs in batch:
        n = pairs.hermite.shape[-1]
        each = xp.arange(n, device=device(pairs.hermite)) + start
        of_y += [each + u * n for u, _ in _orders(pairs.degree)]
        of_z += [each + v * n for _, v in _orders(pairs.degree)]
        start += n * (pairs.degree + 1)
    terms = (None, xp.concat(of_y), xp.concat(of_z))
    x, y, z = (
        {
            kind: _join_terms(xp, lattice, batch, axis, kind, terms[axis])
            for kind in sorted({derivatives[axis] for derivatives in components})
        }
        for axis in range(3)
    )
    return x, y, z


def _join_terms(
    xp: Any, lattice: list[Axis], batch: list[_Expanded], axis: int, kind: int, terms: Array | None
) -> Table:
    """One table of an axis: of x, where there are no `terms` to pick, already summed over t."""
    if terms is None:
        return join_tables(xp, lattice[axis], [(pairs.windows[0], _sum_orders(pairs, kind)) for pairs in batch])
    parts = [(pairs.windows[axis], pairs.tables[axis][kind][: pairs.degree + 1]) for pairs in batch]
    return join_tables(xp, lattice[axis], parts).of_terms(terms)


def _sum_orders(pairs: _Expanded, kind: int) -> list[Array]:
    """Σ_t H_tuv Λ_t(x) for each (u, v), (points, windows)."""
    x, degree, sums = pairs.tables[0][kind], pairs.degree, []
    for u, v in _orders(degree):
        coefficients = pairs.hermite[: degree + 1 - u - v, u, v, :][:, pairs.windows[0].functions]
        row = coefficients[0, :] * x[0]
        for t in range(1, degree + 1 - u - v):
            row += coefficients[t, :] * x[t]
        sums.append(row)
    return sums


def _orders(degree: int) -> list[tuple[int, int]]:
    return [(u, v) for u in range(degree + 1) for v in range(degree + 1 - u)]
