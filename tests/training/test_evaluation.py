"""An evaluation says what is so: of every method, on every molecule, also when it is turned."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli import app
from storage.errors import RequestError, StoreError
from storage.reader import open_dataset
from tests.training.gaussians import write_store
from tests.training.wavefunction_store import RECIPE, build_recipe
from training.config import SuperresConfig
from training.models.interpolation import coarsen, interpolate_fourier
from training.superres.evaluation import Evaluation, evaluate_superres
from training.superres.methods import INTERPOLATIONS
from training.superres.regions import DISTANCES
from training.superres.task import train_superres

QUICK = SuperresConfig(steps=30, batch=2, crop=16, width=4, depth=1, checkpoint_steps=30, device="cpu")


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "ours"
    train_superres(replace(QUICK, store=(store,)), folder)
    return folder


@pytest.fixture(scope="module")
def published(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "published"
    train_superres(replace(QUICK, store=(store,), model="published", steps=2, checkpoint_steps=2), folder)
    return folder


@pytest.fixture(scope="module")
def evaluation(store: Path, run: Path, published: Path) -> Evaluation:
    return evaluate_superres(run, store, beside=[published])


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store whose guess is its target, with wavefunctions, and a run on it."""
    folder = tmp_path_factory.mktemp("twins")
    text = RECIPE.format(sampling="cell", margin=2.0, wavefunctions="true").replace("gfn1", "gfn2")
    text = text.replace("train = 1.0", "train = 0.4").replace("validation = 0.0", "validation = 0.3")
    text = text.replace("test = 0.0", "test = 0.3")
    dataset = build_recipe(folder / "built", {"0": "CO", "1": "C#N", "2": "C=O"}, text)  # one in each split
    config = replace(QUICK, store=(dataset.store,), steps=2, checkpoint_steps=2, batch=1)
    train_superres(config, folder / "run")
    return Path(str(dataset.store)), folder / "run"


def test_every_method_is_judged_on_every_molecule(evaluation: Evaluation) -> None:
    assert len(evaluation.scores) == 5
    for score in evaluation.scores:
        assert list(score.methods) == ["model", "guess", "published", *INTERPOLATIONS]


def test_errors_of_the_guess_are_those_of_the_stored_voxels(store: Path, evaluation: Evaluation) -> None:
    dataset = open_dataset(store)
    for score in evaluation.scores:
        channels = dataset[score.id].channels
        difference = channels["guess"].astype(np.float64) - channels["target"]
        errors = score.methods["guess"]
        assert errors.nmae == pytest.approx(np.abs(difference).sum() / channels["target"].sum(), rel=1e-6)
        assert errors.largest == pytest.approx(np.abs(difference).max())
        assert errors.electron_error == pytest.approx(0, abs=1e-6)
        assert errors.dipole < 0.05  # atoms are round, about the same nuclei: what is left is cut away by the box


def test_classical_interpolation_is_of_the_coarse_target(store: Path, evaluation: Evaluation) -> None:
    target = open_dataset(store)["test-0#0"].channels["target"]
    made = interpolate_fourier(coarsen(target, 2), 2)
    score = next(score for score in evaluation.scores if score.id == "test-0#0")
    expected = np.abs(made - target).sum() / target.sum()
    assert score.methods["Fourier, coarse target"].nmae == pytest.approx(expected, rel=1e-5)
    assert score.methods["Fourier, coarse guess"].nmae > 1.5 * expected


def test_regions_hold_the_whole_error(evaluation: Evaluation) -> None:
    for score in evaluation.scores:
        electrons = sum(score.target_by_distance)
        assert electrons == pytest.approx(score.electrons + score.target_electron_error)
        for errors in score.methods.values():
            assert sum(errors.by_distance) == pytest.approx(errors.nmae * electrons, rel=1e-5)
            assert sum(errors.by_element.values()) == pytest.approx(errors.nmae * electrons, rel=1e-5)
    for summary in evaluation.summary.values():
        for parts in (summary.by_distance, summary.by_element):
            assert sum(part.share for part in parts) == pytest.approx(1)


def test_means_lie_within_their_intervals(evaluation: Evaluation) -> None:
    for name, summary in evaluation.summary.items():
        nmae = summary.means["nmae"]
        assert nmae.mean == pytest.approx(np.mean([score.methods[name].nmae for score in evaluation.scores]))
        assert nmae.low < nmae.mean < nmae.high


def test_a_run_beside_is_judged_as_it_would_be_alone(
    store: Path, published: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    shutil.copytree(published, tmp_path / "alone")
    alone = evaluate_superres(tmp_path / "alone", store)
    assert alone.model_nmae == evaluation.summary["published"].means["nmae"].mean
    assert alone.model_nmae != evaluation.model_nmae


def test_the_record_holds_everything(store: Path, run: Path, published: Path, evaluation: Evaluation) -> None:
    evaluate_superres(run, store, beside=[published])  # twice gives the same
    record = json.loads((run / "evaluation.json").read_text())
    assert record["model_nmae"] == evaluation.model_nmae
    assert record["split"] == "test"
    assert record["distances"] == list(DISTANCES)
    assert list(record["methods"]) == list(evaluation.summary)
    assert set(record["methods"]["model"]["means"]["dipole_debye"]) == {"mean", "low", "high"}
    assert record["samples"][0]["methods"]["published"]["quadrupole"] > 0


def test_a_perfect_guess_is_perfect_however_it_is_turned(twins: tuple[Path, Path]) -> None:
    store, run = twins
    evaluation = evaluate_superres(run, store, rotations=3)
    (score,) = evaluation.scores
    assert score.methods["guess"].turned_nmae == [0, 0, 0]
    assert evaluation.summary["guess"].means["turned_spread"].mean == 0
    coarse = score.methods["trilinear, coarse target"]
    assert len({*coarse.turned_nmae}) == 3  # three rotations, three errors
    means = evaluation.summary["trilinear, coarse target"].means
    assert means["turned_nmae"].mean == pytest.approx(np.mean(coarse.turned_nmae))
    assert means["turned_spread"].mean == pytest.approx(np.std(coarse.turned_nmae, ddof=1))
    assert np.mean(coarse.turned_nmae) == pytest.approx(coarse.nmae, rel=0.2)  # the same molecule on the same cells
    assert "turned" in str(evaluation)


def test_one_molecule_is_a_mean_without_an_interval(twins: tuple[Path, Path]) -> None:
    store, run = twins
    evaluate_superres(run, store)
    record = json.loads((run / "evaluation.json").read_text())
    assert record["methods"]["model"]["means"]["nmae"]["low"] is None
    assert "turned_nmae" not in record["methods"]["model"]["means"]


def test_molecules_without_wavefunctions_cannot_be_turned(store: Path, run: Path) -> None:
    with pytest.raises(StoreError, match=r"keeps no wavefunctions of 'guess'.*leave out --rotations, or build the"):
        evaluate_superres(run, store, rotations=1)


def test_another_split_is_judged_where_it_was_never_seen(run: Path, store: Path, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other.zarr", {"train": 2}, prefix="other-")
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    assert len(evaluate_superres(copied, other, split="train").scores) == 2
    with pytest.raises(StoreError, match=r"3 validation samples are molecules that the model was trained on"):
        evaluate_superres(copied, store, split="validation")


def test_runs_that_learnt_something_else_do_not_stand_beside_each_other(store: Path, run: Path, tmp_path: Path) -> None:
    config = replace(QUICK, store=(store,), steps=1, checkpoint_steps=1, input="target", target="guess")
    train_superres(config, tmp_path / "reverse")
    with pytest.raises(RequestError, match=r"reverse learnt to predict 'guess', not 'target'"):
        evaluate_superres(run, store, beside=[tmp_path / "reverse"])
    with pytest.raises(RequestError, match=r"--beside .* is given twice"):
        evaluate_superres(run, store, beside=[run, run])


def test_the_command_prints_tables_or_json(store: Path, run: Path, published: Path) -> None:
    arguments = ["evaluate", str(run), str(store), "--beside", str(published)]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0
    assert "times smaller, on 5 samples it never saw" in printed.output
    for line in ("published", "Fourier, coarse target", "Å from a nucleus", "nearest nucleus", "3 and more"):
        assert line in printed.output
    as_json = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(as_json.stdout) == json.loads((run / "evaluation.json").read_text())
