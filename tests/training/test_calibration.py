"""Expected errors: what a spread says of an error, learned from a few molecules and tried on others."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from storage.errors import RequestError
from storage.objects import read_record, write_record
from storage.reader import open_dataset
from storage.schema import Conformer
from tests.training.test_superres import QUICK
from training.distances import collect_distances
from training.publish import publish
from training.superres.calibration import (
    Calibration,
    Foresight,
    Sign,
    correlate_ranks,
    fit_calibration,
    prove_calibration,
    read_calibration,
    write_calibration,
)
from training.superres.evaluation import evaluate_superres
from training.superres.spreads import evaluate_expectations
from training.superres.task import train_superres
from training.trained import EVALUATION, load_model, save_model


def make_signs(count: int, scale: float, power: float, scatter: float = 0.0) -> list[Sign]:
    random = np.random.default_rng(5)
    spreads = np.exp(random.normal(-5, 0.7, count))
    errors = scale * spreads**power * np.exp(scatter * random.normal(size=count))
    return [Sign(f"m{k}", *pair) for k, pair in enumerate(zip(spreads.tolist(), errors.tolist(), strict=True))]


def test_a_power_law_is_found_from_many_molecules() -> None:
    calibration = fit_calibration(make_signs(500, 3.0, 0.8, scatter=0.1), step=7)
    assert (calibration.step, calibration.molecules) == (7, 500)
    assert calibration.power == pytest.approx(0.8, abs=0.02)
    assert calibration.expect(math.exp(-5)) == pytest.approx(3.0 * math.exp(-4), rel=0.02)
    assert calibration.factor == pytest.approx(math.exp(0.1 * 0.967), rel=0.02)  # two thirds of a normal lie within


def test_few_molecules_give_the_level_of_a_proportional_law() -> None:
    (one,) = make_signs(1, 3.0, 0.5)
    calibration = fit_calibration([one], step=1)
    assert calibration.power == 1
    assert calibration.expect(one.spread) == pytest.approx(one.nmae)
    assert calibration.expect(2 * one.spread) == pytest.approx(2 * one.nmae)


def test_more_molecules_calibrate_than_choose_the_checkpoint(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(QUICK, store=(store,), steps=1, validation_samples=1)
    train_superres(config, tmp_path / "all")
    monkeypatch.setattr("training.superres.task.CALIBRATED", 2)
    train_superres(config, tmp_path / "most")
    counted = [read_calibration(tmp_path / run) for run in ("all", "most")]
    assert [one.molecules for one in counted if one] == [3, 2]


def test_ranks_correlate_as_scipy_says() -> None:
    first, second = np.random.default_rng(2).normal(size=(2, 30))
    assert correlate_ranks(first, second) == pytest.approx(spearmanr(first, second).statistic)
    first[:12] = first[0]
    assert correlate_ranks(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert correlate_ranks(np.ones(30), second) == 0


def test_a_calibration_comes_back_with_its_trial(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    calibration = Calibration(3, 20, 2.0, 0.9, 1.3)
    foresight = prove_calibration(calibration, make_signs(9, 2.0, 0.9), "s.zarr", 0)
    assert foresight.spearman == pytest.approx(1)
    assert foresight.factor == pytest.approx(1)
    write_calibration(tmp_path, replace(calibration, foresight=foresight))
    assert read_calibration(tmp_path) == replace(calibration, foresight=foresight)


def test_samples_unlike_the_training_are_left_out_of_the_foresight(store: Path, tmp_path: Path) -> None:
    train_superres(replace(QUICK, store=(store,), device="cpu"), tmp_path / "run")
    model = load_model(tmp_path / "run")
    tested = [open_dataset(store)[id].conformer for id in open_dataset(store).ids if id.startswith("test")]

    def foresee(known: list[Conformer]) -> Foresight | None:
        distances = collect_distances([(one.numbers, one.positions) for one in known])
        save_model(tmp_path / "run", replace(model, origin=replace(model.origin, distances=distances)))
        return evaluate_expectations(tmp_path / "run", store)

    all_of_them, one_of_them = foresee(tested), foresee(tested[:1])
    assert all_of_them
    assert (all_of_them.molecules, all_of_them.doubted) == (5, 0)
    assert one_of_them
    assert (one_of_them.molecules, one_of_them.doubted) == (1, 4)
    assert "foreseen for 1 test samples, not for 4 that are unlike the training" in str(one_of_them)
    assert foresee([]) is None
    assert read_calibration(tmp_path / "run").foresight is None  # type: ignore[union-attr]


def test_a_run_is_published_with_its_card_and_without_paths(store: Path, tmp_path: Path) -> None:
    train_superres(replace(QUICK, store=(store,), device="cpu"), tmp_path / "run")
    with pytest.raises(
        RequestError, match="was not tried yet on test samples for which it foresees errors: run `rhoflow"
    ):
        publish(tmp_path / "run", "tiny", tmp_path)
    evaluation = evaluate_superres(tmp_path / "run", store)
    evaluate_expectations(tmp_path / "run", store)
    folder = publish(tmp_path / "run", "tiny", tmp_path)
    assert sorted(file.name for file in folder.iterdir()) == ["best.pt", "calibration.json", "card.md", "config.json"]
    for file in folder.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
        assert str(store.parent).encode() not in file.read_bytes()
    record = dict(read_record(tmp_path / "run", EVALUATION))
    write_record(tmp_path / "run", EVALUATION, {**record, "split": "validation"})
    with pytest.raises(RequestError, match="was last evaluated with split = 'validation', not 'test': run `rhoflow ev"):
        publish(tmp_path / "run", "tiny", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    card = (folder / "card.md").read_text()
    assert "rhoflow predict tiny CCO ethanol.cube" in card
    assert f"NMAE on 5 test samples | {100 * evaluation.model_nmae:.3f} %" in card
    assert load_model(folder).origin.stores == ["gaussians.zarr"]
