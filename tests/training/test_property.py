"""Property models learn from voxels what the mean does not know, and go on after a kill as if nothing had happened."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn import functional

from storage.errors import RequestError, RhoflowError, StoreError
from storage.reader import Dataset
from tests.flows.small_build import rhoflow_here
from tests.training.property_store import RECIPE, build_chains
from tests.training.test_processes import check_alike, finish, start
from training.batch import Draw
from training.catalog import read_catalog
from training.config import PropertyConfig
from training.models.bands import blur
from training.models.voxel_cnn import VoxelArchitecture, VoxelNetwork, find_centre, pool
from training.parallel import Team
from training.property.channel_boxes import ChannelBoxes, find_channels
from training.property.evaluation import evaluate_property
from training.property.fit import TREES, fit_forest, fit_guess
from training.property.labels import read_labels
from training.property.model import load_property_model
from training.property.task import GUESS, PropertyTask, describe_all, train_property
from training.superres.evaluation import evaluate_superres
from training.symmetries import ROTATIONS, turn
from training.tensor_files import read_tensors, write_tensors

QUICK = PropertyConfig(
    targets=("worth_kcal",), steps=6, batch=4, width=4, levels=2, checkpoint_steps=3, workers=0, device="cpu"
)
LEARNING = replace(QUICK, steps=100, batch=8, width=8, checkpoint_steps=50, learning_rate=2e-3, averaging=0.98)
EVERYTHING = ("density", "gradient", "shape", "atoms")


@pytest.fixture(scope="session")
def chains(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build_chains(tmp_path_factory.mktemp("property") / "chains")


def on(chains: Dataset, config: PropertyConfig, **changes: object) -> PropertyConfig:
    return replace(config, store=(chains.store,), **changes)  # type: ignore[arg-type]


def weights(run: Path) -> bytes:
    state = read_tensors(run, "checkpoint.pt")
    return b"".join(tensor.numpy().tobytes() for part in ("network", "averaged") for tensor in state[part].values())


@pytest.mark.parametrize("representation", [("atoms",), EVERYTHING])
def test_it_learns_what_the_mean_does_not_know(
    chains: Dataset, tmp_path: Path, representation: tuple[str, ...]
) -> None:
    """Also where its guess is nothing but the mean."""
    config, run = on(chains, LEARNING, representation=representation), tmp_path / "run"
    assert isinstance(PropertyTask(config, run, Team(torch.device("cpu"))).network, VoxelNetwork)
    guess = read_tensors(run, GUESS)
    for part in ("weights", "bias"):
        guess["model"][part].zero_()
    write_tensors(run, GUESS, {**guess, "training": guess["training"] * 0})
    train_property(config, run)
    evaluation = evaluate_property(run, chains.store, rotations=2)
    assert len(evaluation.ids) > 5
    assert evaluation.mean_errors(0).mean() > 1.5 * evaluation.errors(0).mean()


def test_an_untrained_network_predicts_its_guess(chains: Dataset, tmp_path: Path) -> None:
    task = PropertyTask(on(chains, QUICK), tmp_path, Team(torch.device("cpu")))
    network = task.network
    assert isinstance(network, VoxelNetwork)
    task.keep(network, 0)
    evaluation = evaluate_property(tmp_path, chains.store)
    assert evaluation.mean_errors(0).mean() > 2 * evaluation.errors(0).mean()
    assert isinstance(task.judged, ChannelBoxes)
    fields = task.judged.read_turned(1, 0)
    assert network.eval()(fields) == network.guess(network.describe(fields))
    assert not network.train()(fields).any()
    train = chains.table[chains.table["split"] == "train"]["worth_kcal"]
    assert evaluation.mean == pytest.approx([train.mean()])


def test_what_the_guess_leaves_is_learned(chains: Dataset, tmp_path: Path) -> None:
    targets = ("worth_kcal", "rare_D")
    task = PropertyTask(on(chains, QUICK, targets=targets), tmp_path, Team(torch.device("cpu")))
    network = task.network
    assert isinstance(network, VoxelNetwork)
    assert isinstance(task.learnt, ChannelBoxes)
    labels = read_labels(task.training, targets)
    left = task.standard.standardise(torch.tensor(task.learnt.labels + np.array(task.standard.means))).numpy()
    assert np.array_equal(np.isnan(left), np.isnan(labels))
    described = describe_all(network, task.learnt)
    seen = task.standard.standardise(torch.tensor(labels)).numpy() - network.guess(described).double().numpy()
    assert np.nanstd(left, axis=0) == pytest.approx(network.reach.double().numpy(), rel=1e-4)
    assert (np.nanstd(left, axis=0) > 1.02 * np.nanstd(seen, axis=0)).all()  # guesses of labels that were fitted


def test_a_guess_of_other_data_is_fitted_anew(chains: Dataset, tmp_path: Path) -> None:
    fitted = []
    for strange in (False, True):
        if strange:
            content = read_tensors(tmp_path, GUESS)
            write_tensors(tmp_path, GUESS, {**content, "training": content["training"] + 1, "stores": ["another"]})
        task = PropertyTask(on(chains, QUICK), tmp_path, Team(torch.device("cpu")))
        assert isinstance(task.network, VoxelNetwork)
        fitted.append(task.learnt.labels)  # type: ignore[attr-defined]
    assert np.array_equal(*fitted)


def test_a_guess_is_made_without_the_molecules_of_its_group() -> None:
    random = np.random.default_rng(1)
    numbers, groups = random.normal(size=(60, 8)), [f"m{k // 3}" for k in range(60)]
    labels = np.stack([numbers @ random.normal(size=8) + random.normal(size=60), random.normal(size=60)], axis=1)
    labels[5, 1] = np.nan
    weights, bias, guesses = fit_guess((numbers, labels), groups, [3.0])
    changed = labels.copy()
    changed[6:9] += 100
    others = fit_guess((numbers, changed), groups, [3.0])[2]
    assert np.array_equal(others[6:9], guesses[6:9])
    assert not np.isclose(others, guesses, rtol=1e-3).all(axis=1).all()
    known = ~np.isnan(labels[:, 1])
    expected = Ridge(alpha=3.0).fit(numbers[known], labels[known, 1])
    assert weights[1] == pytest.approx(expected.coef_)
    assert bias[1] == pytest.approx(expected.intercept_)
    sure, vain = (fit_guess((numbers, one), groups)[0] for one in (labels[:, :1], random.normal(size=(60, 1))))
    assert np.abs(sure).max() > 10 * np.abs(vain).max()  # noise is best guessed by its mean


def test_an_interrupted_training_ends_with_the_same_weights(
    chains: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = on(chains, QUICK, representation=EVERYTHING)
    train_property(config, tmp_path / "whole")
    real = PropertyTask.validate

    def interrupt(task: PropertyTask, network: torch.nn.Module) -> float:
        if (tmp_path / "cut" / "checkpoint.pt").exists():
            raise RhoflowError("killed")
        return real(task, network)

    with monkeypatch.context() as patch:
        patch.setattr(PropertyTask, "validate", interrupt)
        with pytest.raises(RhoflowError, match="killed"):
            train_property(config, tmp_path / "cut")
    train_property(config, tmp_path / "cut", resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_two_processes_learn_what_one_does(chains: Dataset, tmp_path: Path) -> None:
    config = """
targets = ["worth_kcal", "rare_D"]
representation = ["density", "shape"]
batch = 4
width = 4
levels = 2
steps = 12
checkpoint_steps = 4
device = "cpu"
"""
    finish(start(tmp_path, chains.store, kind="property", config=config, processes=2))
    rhoflow_here("train", "property", tmp_path / "config.toml", tmp_path / "one", "--store", chains.store)
    check_alike(tmp_path / "run", tmp_path / "one")


def test_missing_labels_neither_teach_nor_count(chains: Dataset, tmp_path: Path) -> None:
    config = on(chains, QUICK, targets=("worth_kcal", "rare_D"))
    task = PropertyTask(config, tmp_path / "run", Team(torch.device("cpu")))
    known = read_labels(task.training, ("rare_D",))
    assert 0 < np.isnan(known).sum() < len(known)
    assert task.standard.means[1] == pytest.approx(np.nanmean(known))
    batch = task.learnt.read([Draw(sample, 0) for sample in range(len(task.training))])
    share = task.measure(task.network, batch)
    strange = replace(batch, target=torch.where(batch.judged, batch.target, 1e6))
    assert task.measure(task.network, strange) == share
    assert share.weight == batch.judged.sum() < batch.judged.numel()
    train_property(config, tmp_path / "run")
    record = evaluate_and_read(tmp_path / "run", chains)
    rare = record["targets"]["rare_D"]
    assert rare["unit"] == "D"
    assert rare["samples"] == sum(value is not None for value in rare["known"]) < len(record["ids"])


def evaluate_and_read(run: Path, chains: Dataset) -> dict:  # type: ignore[type-arg]
    evaluate_property(run, chains.store)
    record: dict = json.loads((run / "evaluation.json").read_text())  # type: ignore[type-arg]
    return record


@pytest.mark.parametrize(("label", "fault"), [("weight", "is not there"), ("word", "is text, no number")])
def test_an_unknown_label_is_named_with_those_there_are(
    chains: Dataset, tmp_path: Path, label: str, fault: str
) -> None:
    with pytest.raises(StoreError, match=rf"label '{label}' {fault}; its labels with numbers are worth_kcal, rare_D"):
        train_property(on(chains, QUICK, targets=(label,)), tmp_path)


def test_an_unknown_channel_is_named_with_those_there_are(chains: Dataset, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no channel 'charge', only rho, rho_gradient, atom_types, shape"):
        train_property(on(chains, QUICK, representation=("charge",)), tmp_path)


def test_other_atom_types_are_refused(chains: Dataset, tmp_path: Path) -> None:
    other = build_chains(tmp_path / "other", RECIPE.replace('"H", "C", "N", "O"', '"C", "H", "N", "O"'))
    config = on(chains, QUICK, representation=("density", "atoms"), steps=0)
    fault = f"{other.store}: channel 'atom_types' is of C, H, N, O, other, not of H, C, N, O, other: build it with"
    with pytest.raises(StoreError, match=re.escape(fault)):
        train_property(replace(config, store=(chains.store, other.store)), tmp_path / "both")
    train_property(config, tmp_path / "run")
    with pytest.raises(StoreError, match=re.escape(fault)):
        evaluate_property(tmp_path / "run", other.store)


def test_atoms_outside_the_cube_are_refused(chains: Dataset, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"samples, the first of them .* have atoms outside a cube of 4 cells"):
        train_property(on(chains, QUICK, cells=4), tmp_path)


def test_channels_are_stacked_in_the_middle_of_the_cube(chains: Dataset) -> None:
    catalog = read_catalog([chains.store], "train", ())
    boxes = ChannelBoxes(catalog, find_channels(chains, EVERYTHING), read_labels(catalog, ("worth_kcal",)), 24)
    cube = boxes.read_turned(3, 0)[0].numpy()
    sample = chains[catalog.ids[3]]
    first = (24 - sample.grid.shape[0]) // 2
    inner = (slice(first, first + sample.grid.shape[0]),) * 3
    stored = sample.channels
    expected = np.stack([stored["rho"], stored["rho_gradient"], stored["shape"], *stored["atom_types"]])
    assert np.array_equal(cube[:, *inner], expected)
    cube[:, *inner] = 0
    assert not cube.any()
    for rotation in (ROTATIONS[5], ROTATIONS[17]):
        again = boxes.read_turned(3, rotation)[0].numpy()
        assert np.array_equal(again, turn(boxes.read_turned(3, 0)[0].numpy(), rotation))


def pool_about_centre(features: Tensor, edge: float) -> Tensor:
    return pool(features, edge, find_centre(features, edge))


def test_pooling_is_the_same_at_every_place_in_the_cube() -> None:
    torch.manual_seed(1)
    features = torch.rand(1, 2, 4, 5, 3)
    placed = [functional.pad(features, (x, 5 - x, y, 3 - y, 2, 2)) for x, y in ((0, 0), (5, 1), (2, 3))]
    pooled = [pool_about_centre(one, 8) for one in placed]
    assert all(torch.allclose(one, pooled[0], atol=1e-6) for one in pooled)


def test_a_density_is_pooled_to_its_second_moment_about_its_centre() -> None:
    field = torch.zeros(1, 1, 8, 8, 8)
    field[0, 0, 1, 2, 3] = field[0, 0, 5, 2, 3] = 1  # each two cells of a half of four from their middle
    whole, vector, spread, largest = pool_about_centre(field, 8)[0].tolist()
    assert (whole, spread, largest) == pytest.approx((2 / 8**3, 2 * (2 / 4) ** 2 / 8**3, 1))
    assert vector == pytest.approx(0, abs=1e-5)


def test_an_element_first_met_later_keeps_its_scale() -> None:
    torch.manual_seed(1)
    network = VoxelNetwork(VoxelArchitecture(("none", "none"), (1.0, 1.0), (1.0, 1.0), 8, 2, 1, 3, 1))
    known, later = torch.rand(4, 2, 8, 8, 8), torch.rand(1, 2, 8, 8, 8)
    known[:, 1] = 0
    network.standardise(known.split(1))
    pooled = (network.pool(later) - network.centre) / network.spread
    assert pooled.abs().max() < 100


def test_pooling_is_the_same_for_every_rotation() -> None:
    torch.manual_seed(1)
    network = VoxelNetwork(VoxelArchitecture(("log",), (1.0,), (1.0,), 8, 2, 1, 3, 1))
    features = torch.rand(1, 2, 4, 4, 4)
    pooled = [pool_about_centre(torch.from_numpy(turn(features.numpy(), rotation).copy()), 4) for rotation in ROTATIONS]
    assert all(torch.allclose(one, pooled[0], atol=1e-6) for one in pooled)
    assert network(torch.zeros(2, 1, 8, 8, 8)).tolist() == [[0.0], [0.0]]


def test_what_describes_fields_is_the_same_for_every_rotation_and_place() -> None:
    torch.manual_seed(1)
    network = VoxelNetwork(VoxelArchitecture(("log", "depth", "none"), (1.0,) * 3, (1.0,) * 3, 32, 2, 1, 3, 1))
    fields = functional.pad(torch.rand(1, 3, 4, 4, 4, dtype=torch.float64), (14,) * 6)
    described = network.describe(fields)
    assert described.shape == (1, network.guess.centre.numel())
    turned = [torch.from_numpy(turn(fields.numpy(), rotation).copy()) for rotation in ROTATIONS]
    moved = functional.pad(fields, (1, -1, -2, 2, 0, 0))
    for other in (*turned, moved):
        assert torch.allclose(network.describe(other), described, rtol=1e-4, atol=1e-7)


def test_a_blur_is_that_of_scipy() -> None:
    field = np.random.default_rng(1).random((1, 2, 9, 9, 9))
    expected = gaussian_filter(field, 1.7, mode="constant", truncate=8, axes=(2, 3, 4))
    assert blur(torch.from_numpy(field), 1.7).numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scaling", ["none", "root", "log"])
def test_fields_below_zero_are_scaled_as_those_above(scaling: str) -> None:
    scale = VoxelNetwork(VoxelArchitecture((scaling,), (2.0,), (1.0,), 8, 2, 1, 3, 1)).scale
    fields = torch.tensor([-2.0, -1e-3, 0.0, 1e-3, 2.0]).reshape(1, 1, 5, 1, 1)
    found = scale(fields).flatten()
    assert torch.equal(found, -found.flip(0))
    assert found[[0, 2, 4]].tolist() == pytest.approx([-1, 0, 1])


def test_the_depth_of_a_union_is_the_sum_of_its_parts() -> None:
    torch.manual_seed(1)
    one, other = torch.rand(2, 1, 1, 4, 4, 4) * 0.9
    depth = VoxelNetwork(VoxelArchitecture(("depth",), (1.0,), (1.0,), 8, 2, 1, 3, 1)).scale
    assert torch.allclose(depth(1 - (1 - one) * (1 - other)), depth(one) + depth(other), atol=1e-2)
    assert depth(torch.tensor([0.0, 1.0, 1.01]).reshape(1, 1, 3, 1, 1)).flatten().tolist() == pytest.approx(
        [0, 1, 1], abs=1e-5
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # PyTorch Geometric's own
@pytest.mark.parametrize("model", ["ridge", "forest", "schnet"])
def test_the_controls_beat_the_mean(chains: Dataset, tmp_path: Path, model: str) -> None:
    steps = 60 if model == "schnet" else 1
    config = on(chains, LEARNING, model=model, steps=steps, checkpoint_steps=20, targets=("worth_kcal", "rare_D"))
    config = replace(config, representation=("no channel of the store",))  # they see none
    train_property(config, tmp_path)
    evaluation = evaluate_property(tmp_path, chains.store)
    assert evaluation.mean_errors(0).mean() > 1.3 * evaluation.errors(0).mean()
    assert load_property_model(tmp_path).kind == model
    with pytest.raises(RequestError, match="rotations 2: this model sees no voxels"):
        evaluate_property(tmp_path, chains.store, rotations=2)


def test_a_fitted_forest_is_that_of_scikit_learn() -> None:
    from sklearn.ensemble import RandomForestRegressor

    random = np.random.default_rng(1)
    bits, labels = random.integers(0, 3, (40, 30)).astype(np.float64), random.normal(size=(40, 1))
    expected = RandomForestRegressor(TREES, max_features=1 / 3, random_state=5).fit(bits, labels[:, 0])
    unseen = random.integers(0, 3, (9, 30)).astype(np.float64)
    found = fit_forest((bits, labels), (bits, labels), 5)(torch.from_numpy(unseen).float())
    assert found[:, 0].numpy() == pytest.approx(expected.predict(unseen), rel=1e-5)


def test_a_property_model_is_no_model_of_densities(chains: Dataset, tmp_path: Path) -> None:
    train_property(on(chains, QUICK), tmp_path)
    with pytest.raises(RequestError, match="predicts properties"):
        evaluate_superres(tmp_path, chains.store)
