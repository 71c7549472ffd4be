"""Training learns, repeats itself, and goes on after a kill as if nothing had happened."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.errors import RequestError, StoreError
from storage.reader import open_dataset
from tests.training.gaussians import write_store
from tests.training.wavefunction_store import RECIPE, build_recipe
from training.catalog import read_catalog
from training.config import SuperresConfig
from training.models.published import PublishedArchitecture
from training.subsets import choose_samples
from training.superres.evaluation import evaluate_superres, predict_sample
from training.superres.task import train_superres
from training.tensor_files import read_tensors
from training.trained import load_model

QUICK = SuperresConfig(steps=8, batch=2, crop=16, width=4, depth=1, checkpoint_steps=4, learning_rate=2e-3)
LEARNING = replace(QUICK, steps=160, batch=4, width=8, checkpoint_steps=40, device="cpu")


@pytest.fixture(scope="session")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("run") / "superres"
    train_superres(replace(LEARNING, store=(store,)), run)
    return run


def weights(run: Path) -> bytes:
    state = read_tensors(run, "checkpoint.pt")
    tensors = [*state["network"].values(), *state["averaged"].values()]
    return b"".join(tensor.numpy().tobytes() for tensor in tensors)


def history(run: Path) -> list[tuple[str, str, str]]:
    with (run / "history.csv").open() as file:
        return [(row["step"], row["loss"], row["validation"]) for row in csv.DictReader(file)]


def test_it_learns_to_predict_molecules_it_never_saw(store: Path, trained: Path) -> None:
    evaluation = evaluate_superres(trained, store)
    assert len(evaluation.scores) == 5
    assert evaluation.guess_nmae > 0.1
    assert evaluation.factor > 3  # 160 steps on 16 samples
    assert all(score.model_nmae < score.guess_nmae for score in evaluation.scores)


def test_it_learns_from_cells_four_times_as_wide(store: Path, tmp_path: Path) -> None:
    train_superres(replace(LEARNING, factor=4, store=(store,)), tmp_path / "run")
    evaluation = evaluate_superres(tmp_path / "run", store)
    assert load_model(tmp_path / "run").network.architecture.factor == 4
    assert evaluation.factor > 2
    assert "trilinear" in str(evaluation)


def test_evaluation_is_written_beside_the_model(store: Path, trained: Path) -> None:
    evaluation = evaluate_superres(trained, store)
    record = json.loads((trained / "evaluation.json").read_text())
    assert [sample["id"] for sample in record["samples"]] == [f"test-{k}#0" for k in range(5)]
    assert record["factor"] == pytest.approx(record["guess_nmae"] / record["model_nmae"])
    models = [sample["methods"]["model"] for sample in record["samples"]]
    assert all(abs(errors["electron_error"]) < 1e-6 for errors in models)
    assert any(abs(errors["electron_error_before"]) > 1e-4 for errors in models)
    assert f"{evaluation.factor:.1f} times smaller, on 5 samples it never saw" in str(evaluation)


def test_the_model_kept_is_the_best_on_the_validation_split(store: Path, trained: Path) -> None:
    scores = {int(step): float(score) for step, _, score in history(trained) if score}
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
        train_superres(replace(QUICK, store=(store,)), tmp_path / name)
    train_superres(replace(QUICK, seed=2, store=(store,)), tmp_path / "other")
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    assert weights(tmp_path / "one") != weights(tmp_path / "other")


def test_charges_are_part_of_what_is_learnt(store: Path, tmp_path: Path) -> None:
    first = {}
    for charges in (0.0, 0.5, 1.0):
        run = tmp_path / str(charges)
        train_superres(replace(QUICK, steps=1, charges=charges, store=(store,)), run)
        first[charges] = float(history(run)[1][1])
    assert first[1.0] - first[0.5] == pytest.approx(first[0.5] - first[0.0], rel=1e-3)
    assert first[0.0] < first[1.0] <= 2 * first[0.0]


def test_resuming_a_finished_training_changes_nothing(store: Path, tmp_path: Path) -> None:
    train_superres(replace(QUICK, store=(store,)), tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    train_superres(replace(QUICK, store=(store,)), tmp_path, resume=True)
    assert {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_run_is_neither_overwritten_nor_mixed_with_another(store: Path, tmp_path: Path) -> None:
    train_superres(replace(QUICK, store=(store,)), tmp_path)
    with pytest.raises(RequestError, match="holds a training already: add --resume"):
        train_superres(replace(QUICK, store=(store,)), tmp_path)
    with pytest.raises(RequestError, match="begun with width = 4, not 6"):
        train_superres(replace(QUICK, width=6, store=(store,)), tmp_path, resume=True)


def test_going_on_with_another_store_is_refused(store: Path, tmp_path: Path) -> None:
    train_superres(replace(QUICK, store=(store,)), tmp_path / "run")
    other = write_store(tmp_path / "other.zarr", {"train": 2, "validation": 1})
    with pytest.raises(RequestError, match=r"was begun on other data than .*other.zarr holds now"):
        train_superres(replace(QUICK, store=(other,)), tmp_path / "run", resume=True)


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_a_store_without_a_split_is_refused(tmp_path: Path, missing: str) -> None:
    splits = {split: 1 for split in ("train", "validation") if split != missing}
    store = write_store(tmp_path / "some.zarr", splits)
    with pytest.raises(StoreError, match=rf'no samples in split "{missing}": .*larger {missing} in \[splits\]'):
        train_superres(replace(QUICK, store=(store,)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluation_refuses_a_store_without_a_test_split(tmp_path: Path, trained: Path) -> None:
    store = write_store(tmp_path / "some.zarr", {"train": 1})
    with pytest.raises(StoreError, match=r'some.zarr has no samples in split "test": build a store with more'):
        evaluate_superres(trained, store)


def test_evaluation_refuses_molecules_it_was_trained_on(tmp_path: Path, trained: Path) -> None:
    store = write_store(tmp_path / "moved.zarr", {"test": 1}, prefix="")
    assert len(evaluate_superres(trained, store).scores) == 1
    seen = write_store(tmp_path / "seen.zarr", {"train": 0, "test": 2}, prefix="")
    state = read_tensors(trained, "best.pt")
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


def test_what_reads_ahead_changes_nothing(store: Path, tmp_path: Path) -> None:
    for workers, kept_gib in ((0, 0.0), (3, 2.0)):
        config = replace(QUICK, store=(store,), workers=workers, kept_gib=kept_gib)
        train_superres(config, tmp_path / str(workers))
    assert weights(tmp_path / "0") == weights(tmp_path / "3")
    train_superres(replace(config, kept_gib=1.0), tmp_path / "3", resume=True)  # refuses no other room


def test_it_learns_from_whole_boxes(store: Path, tmp_path: Path) -> None:
    train_superres(replace(LEARNING, steps=60, checkpoint_steps=60, crop=0, store=(store,)), tmp_path)
    scores = [float(score) for _, _, score in history(tmp_path) if score]
    assert scores[1] < 0.8 * scores[0]


def test_several_stores_are_one(store: Path, tmp_path: Path) -> None:
    more = write_store(tmp_path / "more.zarr", {"train": 2, "validation": 1}, prefix="more-")
    config = replace(QUICK, store=(store, more))
    train_superres(config, tmp_path / "run")
    origin = load_model(tmp_path / "run").origin
    assert origin.stores == [str(store), str(more)]
    assert {"train-3", "more-train-1", "more-validation-0"} <= set(origin.groups)
    with pytest.raises(RequestError, match=r"was begun on other data than .*more.zarr holds now"):
        train_superres(replace(config, store=(more, store)), tmp_path / "run", resume=True)


def test_validation_samples_are_chosen_by_their_names(store: Path) -> None:
    catalog = read_catalog([store], "train", ())
    chosen = [choose_samples(catalog, count).ids for count in (3, 7)]
    assert set(chosen[0]) < set(chosen[1])
    assert chosen[1] == [id for id in catalog.ids if id in chosen[1]] != catalog.ids[:7]
    assert choose_samples(catalog, 0).ids == choose_samples(catalog, 99).ids == catalog.ids


def test_a_training_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r'no store is named: add store = "PATH" to the config, or give --store'):
        train_superres(QUICK, tmp_path / "run")


def test_wavefunctions_serve_as_well_as_voxels(tmp_path: Path) -> None:
    smiles = {"one": "CO", "two": "C#N"}  # by their hashes in the training and the validation split
    text = RECIPE.format(sampling="cell", margin=2.0, wavefunctions="true")
    text = (
        text.replace('engine = "gfn2"', 'engine = "gaussian"\nexponent = 0.5')
        .replace("train = 1.0", "train = 0.4")
        .replace("validation = 0.0", "validation = 0.6")
    )
    dataset = build_recipe(tmp_path / "built", smiles, text)
    config = replace(QUICK, store=(dataset.store,), batch=2, steps=100, checkpoint_steps=100, width=8, averaging=0.9)
    for voxels in ("stored", "device"):
        train_superres(replace(config, voxels=voxels), tmp_path / voxels)
    stored, made = ([float(row[2]) for row in history(tmp_path / voxels) if row[2]] for voxels in ("stored", "device"))
    assert made[0] == pytest.approx(stored[0], rel=0.05)  # boxes without padding are narrower than stored ones
    assert made[1] < 0.5 * made[0]
    assert made[1] == pytest.approx(stored[1], rel=0.4)
    assert weights(tmp_path / "stored") != weights(tmp_path / "device")
    train_superres(replace(config, voxels="device", spacing_range=0.25), tmp_path / "other cells")
    origin = load_model(tmp_path / "other cells").origin
    assert weights(tmp_path / "other cells") != weights(tmp_path / "device")
    for ratio, known in ((0.76, True), (1.0, True), (1.24, True), (0.74, False), (1.26, False)):
        x, y, z = (ratio * width for width in origin.spacing)
        assert origin.knows_cells((x, y, z)) == known
    x, y, z = origin.spacing
    assert not origin.knows_cells((x, y, 1.01 * z))


def test_a_store_without_voxels_is_refused_with_the_remedy(tmp_path: Path) -> None:
    text = RECIPE.format(sampling="cell", margin=2.0, wavefunctions="true") + "[channels]\ndensities = []\n"
    text = text.replace("train = 1.0", "train = 0.4").replace("validation = 0.0", "validation = 0.6")
    dataset = build_recipe(tmp_path / "built", {"one": "CO", "two": "C#N"}, text)
    message = (
        r"has no voxels of 'guess', by which a training is judged: `rhoflow voxelize .* NEW --densities \.\.\.` makes"
    )
    with pytest.raises(StoreError, match=message):
        train_superres(replace(QUICK, voxels="device", store=(dataset.store,)), tmp_path / "run")


def test_crops_that_do_not_suit_the_network_are_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"crop = 12: model = 'unet' needs a multiple of 8; use 16"):
        train_superres(replace(QUICK, crop=12, levels=3, store=(store,)), tmp_path / "run")


@pytest.mark.parametrize("fine_inputs", [False, True])
def test_the_published_network_is_trained_too(store: Path, tmp_path: Path, fine_inputs: bool) -> None:
    config = replace(QUICK, model="published", fine_inputs=fine_inputs, crop=0, steps=2, store=(store,))
    train_superres(config, tmp_path)
    architecture = load_model(tmp_path).network.architecture
    assert architecture == PublishedArchitecture(factor=2, width=4, blocks=1, fine_inputs=fine_inputs)
