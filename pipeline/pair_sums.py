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

BLOCK = (32, 8, 16)  # cells of a block along x, y, z
SINGLE = float(1 << 21)  # terms below this many epsilons lose at most an eighth of epsilon in single precision

VALUE = ((0, 0, 0),)  # derivatives along x, y, z of each component
GRADIENT = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


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
    derivatives: tuple[tuple[int, int, int], ...],
    dtype: Any,
) -> Array:
    """Σ_pairs H_tuv Λ_t Λ_u Λ_v on the grid for each set of derivatives, shape (components, nx, ny, nz)."""
    xp = array_namespace(*axes)
    cells = int(tabulate is hermite_in_cells)
    check_axes(xp, axes, 1 + cells, epsilon)
    lattice = [
        cut_axis(xp, xp.astype(axis, xp.float64), longest, cells) for axis, longest in zip(axes, BLOCK, strict=True)
    ]
    shape = tuple(axis.shape[0] - cells for axis in axes)
    out = xp.zeros((len(derivatives), *shape), dtype=dtype or axes[0].dtype, device=device(axes[0]))
    highest = max(max(shift) for shift in derivatives)
    for batch in batches(screened_pairs(density, epsilon)):
        expanded = [_expand(xp, group, lattice, tabulate, highest, epsilon) for group in _by_total_degree(batch)]
        for component, shift in enumerate(derivatives):
            _add_terms(xp, out[component, ...], lattice, expanded, shift, epsilon)
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
    xp: Any, out: Array, lattice: list[Axis], batch: list[_Expanded], derivatives: tuple[int, int, int], epsilon: float
) -> None:
    """Add the terms of a batch to the field, block by block."""
    x, y, z = _term_tables(xp, lattice, batch, derivatives)
    for (i, j, k), sets in blocks(xp, (x.peaks, y.peaks, z.peaks), epsilon, epsilon * SINGLE):
        where = (lattice[0].segments[i], lattice[1].segments[j], lattice[2].segments[k])
        part = out[where]
        block: Array = 0.0
        for precision, terms in sets:
            left = x.values(xp, i, terms, precision)
            along_y = turn(xp, y.values(xp, j, terms, precision))
            along_z = turn(xp, z.values(xp, k, terms, precision))
            block = block + left.T @ outer(xp, along_y, along_z).T
        if sets:
            part += xp.reshape(block, part.shape)


def _term_tables(
    xp: Any, lattice: list[Axis], batch: list[_Expanded], derivatives: tuple[int, int, int]
) -> tuple[Table, Table, Table]:
    """x, y and z tables of all terms (pair, u, v), t summed into x."""
    parts: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    of_y, of_z = [], []
    start = 0
    for pairs in batch:
        x, y, z = (pairs.tables[axis][derivative] for axis, derivative in enumerate(derivatives))
        n, degree = pairs.hermite.shape[-1], pairs.degree
        each = xp.arange(n, device=device(x[0])) + start
        sums = []
        for u, v in _orders(degree):
            coefficients = pairs.hermite[: degree + 1 - u - v, u, v, :][:, pairs.windows[0].functions]
            row = coefficients[0, :] * x[0]
            for t in range(1, degree + 1 - u - v):
                row += coefficients[t, :] * x[t]
            sums.append(row)
            of_y.append(each + u * n)
            of_z.append(each + v * n)
        parts[0].append((pairs.windows[0], sums))
        parts[1].append((pairs.windows[1], y[: degree + 1]))
        parts[2].append((pairs.windows[2], z[: degree + 1]))
        start += n * (degree + 1)
    along_x, along_y, along_z = (join_tables(xp, axis, part) for axis, part in zip(lattice, parts, strict=True))
    return along_x, along_y.of_terms(xp.concat(of_y)), along_z.of_terms(xp.concat(of_z))


def _orders(degree: int) -> list[tuple[int, int]]:
    return [(u, v) for u in range(degree + 1) for v in range(degree + 1 - u)]
