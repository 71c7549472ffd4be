"""How far apart atoms are in the molecules of a training: where others are not, a network errs and does not know it.

Its answers to a stretched bond agree with each other however the box is turned, so their spread tells nothing there.
With the distances of 1,033 QM9 molecules, of 520 others (`make bench ONLY=geometries`) none is strange as it is; with a
bond to hydrogen longer by 0.2 Å all are, with one of two heavy atoms that is in no ring longer by 0.2, 0.3, 0.5 or 1 Å
41, 74, 94 or 100 %; compressed or stretched by a tenth 92 or 98 %; with noise of 0.05 or 0.2 bohr on each coordinate 8
or 99 %. With the distances of 100 molecules 0.4 % are strange as they are.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import cKDTree

from pipeline.elements import SYMBOLS
from pipeline.units import BOHR_PER_ANGSTROM
from storage.schema import FloatArray, IntArray

STEP = 0.1  # bohr
REACH = 5.0  # bohr: bonds, and what they hold together; atoms farther apart come at any distance
HELD = "parts held by "

Distances = Mapping[str, list[int]]  # by what they are between: the steps, ascending, in which one was seen


def collect_distances(molecules: Iterable[tuple[IntArray, FloatArray]]) -> dict[str, list[int]]:
    """Of atomic numbers (atoms,) and positions (atoms, 3), bohr."""
    seen: dict[str, set[int]] = defaultdict(set)
    for numbers, positions in molecules:
        for between, distance in _list_distances(numbers, positions, REACH + 2 * STEP, REACH - STEP):
            seen[between].add(round(distance / STEP))
    return {between: sorted(steps) for between, steps in sorted(seen.items())}


def add_distances(some: Distances | None, others: Distances | None) -> dict[str, list[int]] | None:
    """What was seen in either; None where that is not known of one."""
    if some is None or others is None:
        return None
    return {between: sorted({*some.get(between, []), *others.get(between, [])}) for between in sorted({*some, *others})}


def find_strange(numbers: IntArray, positions: FloatArray, known: Distances) -> list[str]:
    """Distances that no training molecule has in the same or a neighbouring step, in words, the shortest first.

    Judged are all pairs of elements, and once more those pairs by which the molecule holds together, the shortest that
    join all atoms: a bond as long as the way to second neighbours is strange among these. What is common for bonds of
    another order is not strange, nor are most angles and twists.
    """
    strange = {
        (distance, between)
        for between, distance in _list_distances(numbers, positions, REACH, REACH)
        if not {round(distance / STEP) + away for away in (-1, 0, 1)} & set(known.get(between, []))
    }
    told = (
        between.format(f"{distance / BOHR_PER_ANGSTROM:.2f} Å")
        for distance, between in sorted(strange)
        if not (between.startswith(HELD) and (distance, between.removeprefix(HELD)) in strange)
    )
    return list(dict.fromkeys(told))


def _list_distances(
    numbers: IntArray, positions: FloatArray, reach: float, apart: float
) -> Iterator[tuple[str, float]]:
    """What each is between, with bohr, up to `reach`; parts are apart that nothing shorter than `apart` holds."""
    ones, others = cKDTree(positions).query_pairs(reach, output_type="ndarray").T
    distances = np.linalg.norm(positions[ones] - positions[others], axis=1)
    tree = minimum_spanning_tree(coo_array((distances, (ones, others)), shape=(len(numbers),) * 2)).tocoo()
    symbols = [SYMBOLS[number] for number in numbers.tolist()]

    def name(one: int, other: int) -> str:
        return "–".join(symbols[atom] for atom in sorted((one, other), key=lambda atom: -numbers[atom]))

    for one, other, distance in zip(ones.tolist(), others.tolist(), distances.tolist(), strict=True):
        yield name(one, other) + " at {}", distance
    for one, other, distance in zip(tree.row.tolist(), tree.col.tolist(), tree.data.tolist(), strict=True):
        yield HELD + name(one, other) + " at {}", distance
    if np.count_nonzero(tree.data < apart) < len(numbers) - 1:
        yield "parts more than {} apart", REACH
