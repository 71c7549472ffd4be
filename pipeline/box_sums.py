"""Sums of Hermite Gaussians over boxes of one shape, in single precision, many boxes in one go.

A box is one sum over all that reaches it, in large steps, none of which has to be waited for: so accelerators want it.
On a CPU too it makes crops faster than going block by block does (`pair_sums`), but not large boxes. Tables are made
in double precision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from pipeline.expansion import Expansion, HermiteGaussians
from pipeline.lattice import Array, outer, segments
from pipeline.primitives import monomials
from pipeline.tables import Tabulate


@dataclass(frozen=True)
class Portion:
    """How much is held at once."""

    terms: int  # whose tables are held: boxes go together until they have so many
    planes: int  # float32 numbers of products of y and z tables


ON_CPU = Portion(1, 1 << 20)  # box by box, products in the cache
ON_ACCELERATOR = Portion(1 << 19, 1 << 26)  # with crops of 24 cells: half a gigabyte


def choose_portion(axis: Array) -> Portion:
    return ON_CPU if str(device(axis)) == "cpu" else ON_ACCELERATOR


def sum_boxes(
    expansions: Sequence[Expansion], axes: tuple[Array, Array, Array], tabulate: Tabulate, portion: Portion
) -> Array:
    """Each expansion on the grid of three axes (float64, bohr) that all share, float32, (boxes, nx, ny, nz).

    Box by box, one has the same bits whichever others are asked for with it.
    """
    xp = array_namespace(*axes)
    fields: list[Array] = []
    for some in _together(expansions, portion.terms):
        (x, y, z), counts = _tabulate_terms(xp, some, axes, tabulate)
        nx, ny, nz = x.shape[0], y.shape[0], z.shape[0]
        start = 0
        for count in counts:
            field = xp.zeros((nx, ny * nz), dtype=xp.float32, device=device(x))
            for part in segments(count, max(portion.planes // (ny * nz), 1)):
                terms = slice(start + part.start, start + part.stop)
                field += x[:, terms] @ outer(xp, y[:, terms], z[:, terms]).T
            fields.append(xp.reshape(field, (nx, ny, nz)))
            start += count
    return xp.stack(fields)


def _together(expansions: Sequence[Expansion], most: int) -> Iterator[list[Expansion]]:
    """Runs of expansions with about so many terms."""
    waiting: list[Expansion] = []
    terms = 0
    for expansion in expansions:
        waiting.append(expansion)
        terms += sum(_count_terms(part) for part in expansion.parts)
        if terms >= most:
            yield waiting
            waiting, terms = [], 0
    if waiting:
        yield waiting


def _count_terms(part: HermiteGaussians) -> int:
    return len(_orders(part.degree)) * len(part.exponents)


def _orders(degree: int) -> list[tuple[int, int]]:
    return [(u, v) for u in range(degree + 1) for v in range(degree + 1 - u)]


def _tabulate_terms(
    xp: Any, expansions: list[Expansion], axes: tuple[Array, Array, Array], tabulate: Tabulate
) -> tuple[list[Array], list[int]]:
    """x, y and z tables (points, terms) of all terms, box after box, and how many each box has.

    A term is a Gaussian with orders u and v along y and z; those along x are summed into its x table.
    """
    tables: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    boxes: list[Any] = []
    for degree in sorted({part.degree for expansion in expansions for part in expansion.parts}):
        box_of, part = _join(expansions, degree)
        for kept, made in zip(tables, _tabulate_part(xp, part, axes, tabulate), strict=True):
            kept += made
        boxes += [box_of] * len(_orders(degree))
    joined = [xp.concat(arrays, axis=1) for arrays in tables]
    if len(expansions) > 1:
        order = xp.asarray(np.argsort(np.concatenate(boxes), kind="stable"), device=device(axes[0]))
        joined = [xp.take(table, order, axis=1) for table in joined]
    return joined, [sum(_count_terms(part) for part in expansion.parts) for expansion in expansions]


def _join(expansions: list[Expansion], degree: int) -> tuple[Any, HermiteGaussians]:
    """The Gaussians of a degree of all boxes, and which box each belongs to."""
    found = [(box, part) for box, one in enumerate(expansions) for part in one.parts if part.degree == degree]
    box_of = np.repeat([box for box, _ in found], [len(part.exponents) for _, part in found])
    arrays = zip(*((part.exponents, part.centres, part.reaches, part.coefficients) for _, part in found), strict=True)
    return box_of, HermiteGaussians(degree, *(np.concatenate(several, axis=-1) for several in arrays))


def _tabulate_part(
    xp: Any, part: HermiteGaussians, axes: tuple[Array, Array, Array], tabulate: Tabulate
) -> tuple[list[Array], list[Array], list[Array]]:
    """x, y and z tables (points, Gaussians), float32, for every pair of orders along y and z."""
    place = device(axes[0])
    exponents = xp.asarray(part.exponents, device=place)
    coefficients = xp.asarray(part.coefficients, device=place)
    centres = xp.asarray(part.centres, device=place)
    x, y, z = (
        tabulate(xp, exponents, centres[axis, :], points[:, None], part.degree) for axis, points in enumerate(axes)
    )
    y, z = ([xp.astype(table, xp.float32) for table in tables] for tables in (y, z))
    row_of = {(t, u, v): row for row, (t, u, v) in enumerate(monomials(part.degree).tolist())}
    sums = []
    for u, v in _orders(part.degree):
        total = coefficients[row_of[0, u, v], :] * x[0]
        for t in range(1, part.degree + 1 - u - v):
            total += coefficients[row_of[t, u, v], :] * x[t]
        sums.append(xp.astype(total, xp.float32))
    return sums, [y[u] for u, _ in _orders(part.degree)], [z[v] for _, v in _orders(part.degree)]
