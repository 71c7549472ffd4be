"""Training learns, repeats itself, and goes on after a kill as if nothing had happened."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.errors import RequestError, RhoflowError, StoreError
from storage.reader import open_dataset
from tests.training.gaussians import write_store
from training.batch import Batch
from training.checkpoint import load_model, read_state
from training.config import SuperresConfig
from training.evaluation import evaluate_superres, predict_sample
from training.network import Architecture, SuperResolver
from training.superres import State, learning_rate, take_step, train_superres

QUICK = SuperresConfig(steps=8, batch=2, crop=12, width=4, depth=1, checkpoint_steps=4, learning_rate=2e-3)
LEARNING = replace(QUICK, steps=240, batch=4, width=12, depth=2, checkpoint_steps=60, device="cpu")


@pytest.fixture(scope="session")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("run") / "superres"
    train_superres(LEARNING, store, run)
    return run


def weights(run: Path) -> bytes:
    state = read_state(run, "checkpoint.pt")
    tensors = [*state["network"].values(), *state["averaged"].values()]
    return b"".join(tensor.numpy().tobytes() for tensor in tensors)


def history(run: Path) -> list[tuple[str, str, str]]:
    with (run / "history.csv").open() as file:
        return [(row["step"], row["loss"], row["validation_nmae"]) for row in csv.DictReader(file)]


def test_it_learns_to_predict_molecules_it_never_saw(store: Path, trained: Path) -> None:
    evaluation = evaluate_superres(trained, store)
    assert len(evaluation.scores) == 5
    assert evaluation.guess_nmae > 0.1
    assert evaluation.factor > 3  # 5 measured; 240 steps on 16 samples
    assert all(score.model_nmae < score.guess_nmae for score in evaluation.scores)


def test_evaluation_is_written_beside_the_model(store: Path, trained: Path) -> None:
    evaluation = evaluate_superres(trained, store)
    record = json.loads((trained / "evaluation.json").read_text())
    assert [sample["id"] for sample in record["samples"]] == [f"test-{k}#0" for k in range(5)]
    assert record["factor"] == pytest.approx(record["guess_nmae"] / record["model_nmae"])
    assert all(abs(sample["electron_error"]) < 1e-6 for sample in record["samples"])
    assert any(abs(sample["electron_error_before"]) > 1e-4 for sample in record["samples"])
    assert f"{evaluation.factor:.1f} times smaller, on 5 samples it never saw" in str(evaluation)


def test_the_model_kept_is_the_best_on_the_validation_split(store: Path, trained: Path) -> None:
    scores = {int(step): float(score) for step, _, score in history(trained)}
    model = load_model(trained)
    assert model.step == min(scores, key=lambda step: scores[step])
    dataset = open_dataset(store)
    errors = []
    for id in [id for id in dataset.ids if id.startswith("validation")]:
        sample = dataset[id]
        target = sample.channels["target"]
        errors.append(np.abs(predict_sample(model, sample) - target).sum() / target.sum())
    assert np.mean(errors) == pytest.approx(scores[model.step], rel=1e-5)


def test_step_zero_of_the_history_is_the_guess(store: Path, trained: Path) -> None:
    dataset = open_dataset(store)
    samples = [dataset[id].channels for id in dataset.ids if id.startswith("validation")]
    guess = [np.abs(one["guess"] - one["target"]).sum() / one["target"].sum() for one in samples]
    assert history(trained)[0][0] == "0"
    assert float(history(trained)[0][2]) == pytest.approx(np.mean(guess), rel=1e-5)


def test_training_twice_gives_the_same_weights(store: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        train_superres(QUICK, store, tmp_path / name)
    train_superres(replace(QUICK, seed=2), store, tmp_path / "other")
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    assert weights(tmp_path / "one") != weights(tmp_path / "other")


@pytest.mark.parametrize("killed_at", [0, 3, 4, 6])
def test_a_killed_training_goes_on_to_the_same_weights(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    train_superres(QUICK, store, tmp_path / "whole")

    def take_step_or_die(state: State, *arguments: object) -> float:
        if state.step == killed_at:
            raise KeyboardInterrupt
        return take_step(state, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("training.superres.take_step", take_step_or_die)
        with pytest.raises(KeyboardInterrupt):
            train_superres(QUICK, store, tmp_path / "killed")
    train_superres(QUICK, store, tmp_path / "killed", resume=True)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    assert load_model(tmp_path / "killed").step == load_model(tmp_path / "whole").step


def test_resuming_a_finished_training_changes_nothing(store: Path, tmp_path: Path) -> None:
    train_superres(QUICK, store, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    train_superres(QUICK, store, tmp_path, resume=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_run_is_neither_overwritten_nor_mixed_with_another(store: Path, tmp_path: Path) -> None:
    train_superres(QUICK, store, tmp_path)
    with pytest.raises(RequestError, match="holds a training already: add --resume"):
        train_superres(QUICK, store, tmp_path)
    with pytest.raises(RequestError, match="begun with width = 4, not 6"):
        train_superres(replace(QUICK, width=6), store, tmp_path, resume=True)


def test_going_on_with_another_store_is_refused(store: Path, tmp_path: Path) -> None:
    train_superres(QUICK, store, tmp_path / "run")
    other = write_store(tmp_path / "other.zarr", {"train": 2, "validation": 1})
    with pytest.raises(RequestError, match=r"other training or validation molecules than those of .*other.zarr"):
        train_superres(QUICK, other, tmp_path / "run", resume=True)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    config = replace(QUICK, steps=100, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[4] == 1.0 == max(rates)
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-12)


def test_divergence_is_named_with_its_remedy() -> None:
    network = SuperResolver(Architecture(factor=2, width=4, depth=1, peak=1.0))
    with torch.no_grad():
        network.leave.weight.fill_(float("nan"))
    state = State(network, network, torch.optim.Adam(network.parameters()), step=7)
    ones = torch.ones(2, 12, 12, 12)
    with pytest.raises(RhoflowError, match=r"diverged at step 7: start again with a learning_rate below 0.002"):
        take_step(state, Batch(("a#0", "b#0"), ones, ones, ones > 0, 1.0), QUICK)


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_a_store_without_a_split_is_refused(tmp_path: Path, missing: str) -> None:
    splits = {split: 1 for split in ("train", "validation") if split != missing}
    store = write_store(tmp_path / "some.zarr", splits)
    with pytest.raises(StoreError, match=rf'no samples in split "{missing}": .*larger {missing} in \[splits\]'):
        train_superres(QUICK, store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluation_refuses_a_store_without_a_test_split(tmp_path: Path, trained: Path) -> None:
    store = write_store(tmp_path / "some.zarr", {"train": 1})
    with pytest.raises(StoreError, match=r'some.zarr has no samples in split "test": build a store with more'):
        evaluate_superres(trained, store)


def test_evaluation_refuses_molecules_it_was_trained_on(tmp_path: Path, trained: Path) -> None:
    store = write_store(tmp_path / "moved.zarr", {"test": 1}, prefix="")
    assert len(evaluate_superres(trained, store).scores) == 1
    seen = write_store(tmp_path / "seen.zarr", {"train": 0, "test": 2}, prefix="")
    state = read_state(trained, "best.pt")
    state["origin"]["groups"].append("test-1")
    copied = tmp_path / "run"
    copied.mkdir()
    torch.save(state, copied / "best.pt")
    with pytest.raises(StoreError, match=r"1 test samples are molecules that the model was trained on \(test-1#0\)"):
        evaluate_superres(copied, seen)


def test_prediction_refuses_other_cells(store: Path, trained: Path) -> None:
    sample = open_dataset(store)["test-0#0"]
    wider = replace(sample.grid, spacing=(0.6, 0.6, 0.6))
    with pytest.raises(StoreError, match=r"test-0#0 has cells of \(0.6, 0.6, 0.6\) bohr, the model was trained on"):
        predict_sample(load_model(trained), replace(sample, planned=replace(sample.planned, grid=wider)))


def test_a_run_without_a_model_is_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(RequestError, match=r"no trained model \(best.pt\): train it with `rhoflow train superres"):
        evaluate_superres(tmp_path, store)
