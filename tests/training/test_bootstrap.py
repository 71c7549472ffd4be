"""Intervals cover what they promise, and are the same every time."""

import numpy as np
import pytest

from training.bootstrap import bootstrap_mean, bootstrap_ratio
from training.superres.regions import name_bins
from training.superres.scores import Errors, Score
from training.superres.summary import summarise


def test_intervals_of_normal_samples_cover_the_true_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    intervals = [bootstrap_mean(random.normal(5.0, 2.0, 40)) for _ in range(400)]
    covered = np.mean([one.low <= 5.0 <= one.high for one in intervals])
    assert 0.90 < covered < 0.98  # 0.95 less what 40 values cost; one standard deviation of this count is 0.011


def test_an_interval_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(4).normal(1.0, 0.5, 200)
    interval = bootstrap_mean(values)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.08)


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(5).random(10)
    assert bootstrap_mean(values) == bootstrap_mean(values.copy())


def test_a_ratio_weighs_molecules_by_what_they_hold() -> None:
    interval = bootstrap_ratio(np.array([1.0, 30.0]), np.array([10.0, 100.0]))
    assert interval.mean == pytest.approx(31 / 110)
    assert interval.low == pytest.approx(0.1)  # both times the first molecule
    assert interval.high == pytest.approx(0.3)


def test_one_molecule_has_no_interval() -> None:
    interval = bootstrap_mean(np.array([0.5]))
    assert interval.mean == 0.5
    assert np.isnan(interval.low)
    assert np.isnan(interval.high)


def test_resamples_without_the_element_do_not_count() -> None:
    interval = bootstrap_ratio(np.array([0.2, 0.0, 0.0]), np.array([1.0, 0.0, 0.0]))
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.2, 0.2, 0.2))
    assert np.isnan(bootstrap_ratio(np.zeros(3), np.zeros(3)).mean)


def test_conformers_of_a_molecule_make_no_mean_surer() -> None:
    rates = np.random.default_rng(6).random(12).tolist()
    once, thrice = (
        summarise([make_score(f"m{k}", nmae) for k, nmae in enumerate(rates) for _ in range(times)])["model"]
        for times in (1, 3)
    )
    assert [*vars(thrice.means["nmae"]).values()] == pytest.approx([*vars(once.means["nmae"]).values()])
    assert vars(thrice.by_element[0].nmae) == pytest.approx(vars(once.by_element[0].nmae))
    assert once.means["nmae"].mean == pytest.approx(np.mean(rates))


def test_means_are_those_of_samples() -> None:
    summary = summarise([make_score("one", 0.1), make_score("one", 0.3), make_score("other", 0.5)])["model"]
    assert summary.means["nmae"].mean == pytest.approx(0.3)
    assert (summary.means["nmae"].low, summary.means["nmae"].high) == pytest.approx((0.2, 0.5))


def make_score(molecule: str, nmae: float) -> Score:
    """Of ten electrons around carbon."""
    bins = [10.0, *[0.0] * (len(name_bins()) - 1)]
    errors = Errors(nmae, nmae, 0.0, 0.0, nmae, 0.0, 0.0, [10 * nmae, *bins[1:]], {"C": 10 * nmae}, [])
    return Score(f"{molecule}#0", molecule, 10.0, 0.0, bins, {"C": 10.0}, {"model": errors})
