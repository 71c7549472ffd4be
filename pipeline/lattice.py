"""A grid cut into blocks, with tables of one-dimensional functions along its axes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from array_api_compat import device

Array: TypeAlias = Any  # NumPy's or torch's: the array standard has no static type


def segments(size: int, longest: int) -> list[slice]:
    """Parts of a range, about equally long and none longer than `longest`."""
    count = -(-size // longest)
    return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]


@dataclass(frozen=True)
class Axis:
    """The points, or the cells between points, of one axis in segments of about equal length."""

    segments: list[slice]
    points: Array  # (points of the longest segment, segments): coordinates, bohr; a shorter one has one to spare


def check_axes(xp: Any, axes: tuple[Array, Array, Array], least: int, epsilon: float) -> None:
    """Raises ValueError where coordinates do not ascend or are fewer than `least`, or epsilon is not positive."""
    if not epsilon > 0:
        raise ValueError(f"epsilon = {epsilon}: give what may be dropped, a positive number of electrons per bohr³")
    for name, axis in zip("xyz", axes, strict=True):
        if axis.shape[0] < least or not bool(xp.all(axis[1:] > axis[:-1])):
            raise ValueError(
                f"axis {name}: {axis.shape[0]} coordinates; {least} or more must be given, in ascending order"
            )


def cut_axis(xp: Any, points: Array, longest: int, cells: int) -> Axis:
    """`cells` is 1 where the points are cell boundaries, else 0."""
    parts = segments(points.shape[0] - cells, longest)
    length = max(part.stop - part.start for part in parts)
    if len(parts) > 1:
        points = xp.concat([points, 2 * points[-1:] - points[-2:-1]])
    columns = [points[part.start : part.start + length + cells] for part in parts]
    return Axis(parts, xp.stack(columns, axis=1))


@dataclass(frozen=True)
class Windows:
    """Where along an axis functions are worth tabulating: (segment, function) by (segment, function)."""

    points: Array  # (points, windows), of each window's segment
    functions: Array  # (windows,)
    columns: Array  # (segments, functions): number of the window, from 1; 0 where there is none


def open_windows(xp: Any, axis: Axis, centres: Array, reach: Array) -> Windows:
    low, high = axis.points[0, :][:, None], axis.points[-1, :][:, None]
    near = (centres + reach >= low) & (centres - reach <= high)
    segment, function = xp.nonzero(near)
    count = xp.reshape(xp.cumulative_sum(xp.astype(xp.reshape(near, (-1,)), xp.int64)), near.shape)
    return Windows(xp.take(axis.points, segment, axis=1), function, xp.where(near, count, 0))


@dataclass(frozen=True)
class Table:
    """Values of terms along one axis, in windows; row 0 is zero."""

    axis: Axis
    double: Array  # (rows, points of a segment)
    single: Array  # the same, rounded
    rows: Array  # (segments, terms), where a term's values stand
    peaks: Array  # (segments, terms), their largest magnitudes

    def of_terms(self, terms: Array) -> "Table":
        return Table(self.axis, self.double, self.single, self.rows[:, terms], self.peaks[:, terms])

    def values(self, xp: Any, segment: int, terms: Array, precision: int) -> Array:
        """Values in a segment, (terms, points)."""
        part = self.axis.segments[segment]
        rows = xp.take(self.rows[segment, :], terms)
        return xp.take(self.single if precision else self.double, rows, axis=0)[:, : part.stop - part.start]


def join_tables(xp: Any, axis: Axis, parts: Sequence[tuple[Windows, Sequence[Array]]]) -> Table:
    """Functions one after another: for each set of windows, every array of values (points, windows) in them."""
    length = parts[0][1][0].shape[0]
    values = [xp.zeros((1, length), dtype=xp.float64, device=device(axis.points))]
    peaks = [xp.zeros(1, dtype=xp.float64, device=device(axis.points))]
    rows, start = [], 0
    for windows, arrays in parts:
        for array in arrays:
            rows.append(xp.where(windows.columns > 0, windows.columns + start, 0))
            values.append(turn(xp, array))
            peaks.append(xp.max(xp.abs(array), axis=0))
            start += array.shape[1]
    double, where = xp.concat(values, axis=0), xp.concat(rows, axis=1)
    return Table(axis, double, xp.astype(double, xp.float32), where, xp.astype(xp.concat(peaks), xp.float32)[where])


def turn(xp: Any, values: Array) -> Array:
    """The transpose, laid out anew: products of its rows then run through memory in order."""
    return xp.reshape(xp.reshape(values.T, (-1,)), (values.shape[1], values.shape[0]))


def blocks(
    xp: Any, peaks: tuple[Array, Array, Array], epsilon: float, large: float
) -> Iterator[tuple[tuple[int, int, int], list[tuple[int, Array]]]]:
    """Blocks of the grid, each with its terms above epsilon; peaks are (segments, terms) along x, y, z.

    Terms come as (0, those above `large`, to multiply in double precision) and (1, those for which single will do).
    """
    along_x, along_y, along_z = peaks
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


def outer(xp: Any, left: Array, right: Array) -> Array:
    """Column by column outer product, (a, n) and (b, n) to (a·b, n)."""
    return xp.reshape(left[:, None, :] * right[None, :, :], (-1, left.shape[1]))
