"""A molecule's split depends on the molecule alone."""

from collections import Counter

import pytest

from storage.splits import assign_split

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


def test_fractions_are_met_over_many_groups() -> None:
    counts = Counter(assign_split(f"GROUP{k}", FRACTIONS) for k in range(20000))
    for split, fraction in FRACTIONS.items():
        assert counts[split] / 20000 == pytest.approx(fraction, abs=0.01)


def test_growing_the_test_split_takes_from_its_neighbour_only() -> None:
    larger = {"train": 0.8, "validation": 0.05, "test": 0.15}
    for k in range(2000):
        before, after = assign_split(f"G{k}", FRACTIONS), assign_split(f"G{k}", larger)
        assert before == after or (before, after) == ("validation", "test")


def test_an_empty_split_gets_nobody() -> None:
    assert {assign_split(f"G{k}", {"train": 1.0, "validation": 0.0, "test": 0.0}) for k in range(500)} == {"train"}
