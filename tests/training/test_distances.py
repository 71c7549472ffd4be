"""Geometries that training did not see are told from those it did."""

import numpy as np
import pytest

from storage.schema import FloatArray, IntArray
from training.distances import REACH, STEP, add_distances, collect_distances, find_strange

Molecule = tuple[IntArray, FloatArray]


def chain(*symbols: int, apart: float) -> Molecule:
    return np.array(symbols), np.arange(len(symbols))[:, None] * np.array([apart, 0.0, 0.0])


def test_what_was_seen_and_a_step_beside_it_is_not_strange() -> None:
    known = collect_distances([chain(6, 1, apart=2.0), chain(6, 1, apart=2.4)])
    assert known == {"C–H at {}": [20, 24], "parts held by C–H at {}": [20, 24]}
    for apart in (1.9, 2.0, 2.1, 2.3, 2.5):
        assert find_strange(*chain(1, 6, apart=apart), known) == []
    for apart in (1.8, 2.2, 2.6):
        assert find_strange(*chain(1, 6, apart=apart), known) == [f"C–H at {apart * 0.529177210903:.2f} Å"]


def test_each_pair_of_elements_is_judged_and_the_shortest_distance_told_first() -> None:
    known = collect_distances([chain(8, 1, apart=1.8)])
    assert find_strange(*chain(1, 8, 1, apart=1.8), known) == ["H–H at 1.91 Å"]
    assert find_strange(*chain(1, 1, 8, apart=1.4), known) == ["H–H at 0.74 Å", "O–H at 0.74 Å", "O–H at 1.48 Å"]


def test_a_bond_as_long_as_the_way_to_second_neighbours_is_strange() -> None:
    known = collect_distances([chain(6, 6, 6, 1, apart=2.0)])
    assert find_strange(*chain(6, 6, apart=2.0), known) == []
    assert find_strange(*chain(6, 6, apart=4.0), known) == ["parts held by C–C at 2.12 Å"]
    assert find_strange(*chain(6, 6, apart=9.0), known) == ["parts more than 2.65 Å apart"]


@pytest.mark.parametrize("apart", [REACH - 0.6 * STEP, REACH - 0.1 * STEP, REACH + 0.4 * STEP, REACH + 1.9 * STEP, 9.0])
def test_what_was_trained_on_is_not_strange(apart: float) -> None:
    assert find_strange(*chain(53, 53, apart=apart), collect_distances([chain(53, 53, apart=apart)])) == []


def test_equal_distances_are_told_once() -> None:
    assert find_strange(*chain(1, 1, 1, apart=2.0), {}) == ["H–H at 1.06 Å", "H–H at 2.12 Å"]


def test_atoms_out_of_reach_say_nothing() -> None:
    bonded = chain(7, 1, 7, apart=REACH / 2 + STEP)
    assert "N–N" not in " ".join(find_strange(*bonded, collect_distances([chain(7, 1, apart=REACH / 2 + STEP)])))
    assert find_strange(*chain(2, apart=1.0), {}) == []


def test_distances_just_within_reach_are_known_from_those_just_beyond() -> None:
    known = collect_distances([chain(7, 7, apart=REACH + 0.9 * STEP)])
    assert find_strange(*chain(7, 7, apart=REACH - 0.1 * STEP), known) == []


@pytest.mark.parametrize("swapped", [False, True])
def test_two_trainings_saw_what_either_saw(swapped: bool) -> None:
    some, others = {"C–H": [20, 21]}, {"C–H": [21, 30], "O–H": [18]}
    pair = (others, some) if swapped else (some, others)
    assert add_distances(*pair) == {"C–H": [20, 21, 30], "O–H": [18]}
    assert add_distances(some, None) is add_distances(None, others) is None
