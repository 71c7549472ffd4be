"""A comparison trains and judges every cell once, whatever interrupts it, and flatters none."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flows.cli import app
from flows.comparison.compare import compare
from storage.errors import RequestError, StoreError
from storage.identity import fingerprint
from storage.objects import read_record, write_record
from tests.training.gaussians import make_conformer, write_conformers, write_store
from training.catalog import read_catalog
from training.comparison.config import read_comparison
from training.comparison.jobs import CONFIG as COMPARED
from training.comparison.jobs import configure_cell, list_rates, list_stages, read_chosen, try_out
from training.comparison.trial import Trial
from training.config import SuperresConfig
from training.parallel import assemble_team
from training.subsets import choose_molecules, leave_out, list_groups
from training.superres.calibration import read_calibration
from training.superres.evaluation import evaluate_superres
from training.superres.task import SuperresTask, train_superres
from training.tensor_files import read_tensors
from training.trained import load_model

CONFIG = """
title = "Two widths"
molecules = [4, 8]
seeds = [1, 2]
[train]
store = "{store}"
steps = 6
crop = 16
depth = 1
checkpoint_steps = 3
device = "cpu"
workers = 0
[variants.narrow]
width = 2
[variants.wide]
width = 4
"""
QUICK = SuperresConfig(steps=6, batch=2, crop=16, width=4, depth=1, checkpoint_steps=3, device="cpu", workers=0)


def write_config(folder: Path, store: Path, *changes: tuple[str, str]) -> Path:
    text = CONFIG.format(store=store)
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    file = folder / "comparison.toml"
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def compared(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    compare(write_config(folder, store), folder / "run", workers=1, resume=False)
    return folder


def test_every_cell_is_an_ordinary_run(store: Path, compared: Path) -> None:
    for variant, width in (("narrow", 2), ("wide", 4)):
        for molecules in (4, 8):
            for seed in (1, 2):
                run = compared / "run" / variant / str(molecules) / str(seed)
                config = json.loads((run / "config.json").read_text())
                assert (config["width"], config["molecules"], config["seed"]) == (width, molecules, seed)
                assert len(evaluate_superres(run, store).scores) == 5


def test_the_table_says_what_the_evaluations_say(store: Path, compared: Path) -> None:
    table = json.loads((compared / "run" / "comparison.json").read_text())
    rows = {(row["method"], row["molecules"]): row for row in table["rows"] if row["measure"] == "NMAE, %"}
    runs = [compared / "run" / "wide" / "8" / str(seed) for seed in (1, 2)]
    means = [100 * evaluate_superres(run, store).model_nmae for run in runs]
    wide = rows["wide", 8]
    assert wide["mean"] == pytest.approx(np.mean(means))
    assert wide["spread"] == pytest.approx(abs(means[0] - means[1]) / np.sqrt(2))
    assert wide["low"] < wide["mean"] < wide["high"]
    assert wide["ratio"] == pytest.approx(wide["mean"] / rows["narrow", 8]["mean"])
    assert rows["narrow", 8]["ratio"] is None
    assert rows["guess guess", None]["mean"] == pytest.approx(100 * evaluate_superres(runs[0], store).guess_nmae)
    assert sum(name == "Fourier, coarse target" for name, _ in rows) == 1  # floors stand there once
    with (compared / "run" / "comparison.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(table["rows"])
    assert (compared / "run" / "comparison.svg").read_text().startswith("<?xml")


def test_a_finished_comparison_does_nothing_again(compared: Path) -> None:
    run = compared / "run"
    before = {file: file.stat().st_mtime_ns for file in run.rglob("best.pt")}
    table = (run / "comparison.json").read_bytes(), (run / "comparison.svg").read_bytes()
    text = compare(compared / "comparison.toml", run, workers=1, resume=True)
    assert {file: file.stat().st_mtime_ns for file in run.rglob("best.pt")} == before
    assert ((run / "comparison.json").read_bytes(), (run / "comparison.svg").read_bytes()) == table
    assert "test: 5 samples of 5 molecules" in text
    with pytest.raises(RequestError, match="holds a comparison already: add --resume"):
        compare(compared / "comparison.toml", run, workers=1, resume=False)


def test_a_comparison_on_other_data_is_refused(store: Path, compared: Path, tmp_path: Path) -> None:
    record = json.loads((compared / "run/comparison_config.json").read_text())
    assert record["variants.narrow.data"] == [fingerprint(store)]
    shutil.copytree(compared / "run", tmp_path / "run")
    record["variants.narrow.data"] = ["another"]
    (tmp_path / "run/comparison_config.json").write_text(json.dumps(record))
    with pytest.raises(RequestError, match=r"was begun with variants.narrow.data = \['another'\]"):
        compare(write_config(tmp_path, store), tmp_path / "run", workers=1, resume=True)


def test_cells_in_processes_of_their_own_give_the_same(store: Path, tmp_path: Path) -> None:
    """Three cells, two at a time."""
    one_variant = (("[variants.wide]\nwidth = 4\n", ""), ("[4, 8]", "4"), ("[1, 2]", "[1, 2, 3]"))
    config = write_config(tmp_path, store, *one_variant)
    for workers in (1, 2):
        compare(config, tmp_path / str(workers), workers=workers, resume=False)
    assert (tmp_path / "2/comparison.json").read_bytes() == (tmp_path / "1/comparison.json").read_bytes()


def test_seeds_may_be_added_to_a_comparison(store: Path, compared: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    compare(write_config(tmp_path, store, ("[1, 2]", "[1]")), run, workers=1, resume=False)
    first = {file: file.stat().st_mtime_ns for file in run.rglob("best.pt")}
    compare(write_config(tmp_path, store), run, workers=1, resume=True)
    assert {file: file.stat().st_mtime_ns for file in first} == first
    for name in ("comparison.json", "comparison_config.json"):
        assert (run / name).read_bytes() == (compared / "run" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("[1, 2]", "[2, 1, 3]")], r"seeds = \[1, 2\], not \[2, 1, 3\].*new seeds may stand behind those"),
        ([("[1, 2]", "[1]")], r"was begun with seeds = \[1, 2\], not \[1\]"),
        ([("[1, 2]", "[1, 2, 3]"), ("width = 4", "width = 6")], r"was begun with variants.wide.width = 4, not 6"),
    ],
)
def test_other_seeds_and_other_changes_are_refused(
    store: Path, compared: Path, tmp_path: Path, changes: list[tuple[str, str]], message: str
) -> None:
    before = (compared / "run/comparison_config.json").read_bytes()
    with pytest.raises(RequestError, match=message):
        compare(write_config(tmp_path, store, *changes), compared / "run", workers=1, resume=True)
    assert (compared / "run/comparison_config.json").read_bytes() == before


def test_seeds_are_not_added_to_a_comparison_that_another_holds(store: Path, compared: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(compared / "run", run)
    holder = (
        "import sys; from pathlib import Path; from storage.claims import claim_store\n"
        f"with claim_store(Path({str(run)!r})): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        before = (run / "comparison_config.json").read_bytes()
        with pytest.raises(StoreError, match="is being worked on by"):
            compare(write_config(tmp_path, store, ("[1, 2]", "[1, 2, 3]")), run, workers=1, resume=True)
        assert (run / "comparison_config.json").read_bytes() == before


def test_a_killed_comparison_goes_on_to_the_same_table(store: Path, compared: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, store)
    script = (
        "import torch; torch.set_num_threads(1); from pathlib import Path; "
        "from flows.comparison.compare import compare; "
        f"compare(Path({str(config)!r}), Path({str(tmp_path / 'run')!r}), 1, True)"
    )
    for wanted in ("narrow/4/1/checkpoint.pt", "narrow/8/1/judged.json", "wide/4/2/best.pt"):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL) as process:
            while not (tmp_path / "run" / wanted).exists():
                assert process.poll() is None
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "run/wide/8/2/judged.json").exists()
    compare(config, tmp_path / "run", workers=1, resume=True)
    assert (tmp_path / "run/comparison.json").read_bytes() == (compared / "run/comparison.json").read_bytes()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("width = 4", "width = 6", r"was begun with variants.wide.width = 4, not 6: restore the config"),
        ("[4, 8]", "[4, 9]", r"was begun with molecules = \[4, 8\], not \[4, 9\]"),
        ("[variants.wide]", "[judges.again]\nrotations = 2\n[variants.wide]", r"judges.test.store = False, not None"),
    ],
)
def test_a_changed_config_is_refused_by_its_key(
    store: Path, compared: Path, tmp_path: Path, before: str, after: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        compare(write_config(tmp_path, store, (before, after)), compared / "run", workers=1, resume=True)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("title", "titel", r"comparison.toml: titel = 'Two widths': unknown key; did you mean title\?"),
        ("width = 4", "widht = 4", r"comparison.toml: variants.wide: widht = 4: unknown key; did you mean width\?"),
        ("title", 'kind = "supper"\ntitle', r"kind = 'supper': use superres"),
        ("[4, 8]", "[4, 4]", r"molecules = \[4, 4\]: each number once"),
        ("[4, 8]", "[4, -8]", r"molecules = \[4, -8\]: each must be 0 or greater"),
        ("[4, 8]", '["4"]', r"molecules = '4': must be whole numbers"),
        ("[4, 8]", "[0]", r"molecules = \[0\]: no training at all needs a model to start from"),
        ("width = 4", "width = 4\nseed = 3", r"variants.wide.seed = 3: the comparison's own seeds says it"),
        ("title", "seconds = 3\ntitle", r"train.steps = 6: the comparison's own seconds says it"),
        ("title", "seconds = 0\ntitle", r"seconds = 0: must be above 0"),
        ("[variants.wide]", "[variants.'a/b']", r"variants.'a/b': names a folder"),
        ("[variants.wide]", "[judges.x]\nsplits = 3\n[variants.wide]", r"judges.x: splits = 3: unknown key; did you"),
        ("[4, 8]", "[4, 9999]", r"\[variants.narrow\]: molecules = 9999: .* has \d+ in its training split"),
        ("[variants.wide]", "[judges.x]\nrotations = -1\n[variants.wide]", r"judges.x: rotations = -1: must be 0"),
    ],
)
def test_a_wrong_config_names_file_key_value_and_remedy(
    store: Path, tmp_path: Path, before: str, after: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        compare(write_config(tmp_path, store, (before, after)), tmp_path / "run", workers=1, resume=False)
    assert not (tmp_path / "run").exists()


def test_more_molecules_are_always_the_same_ones_and_others(tmp_path: Path) -> None:
    first = read_catalog([write_store(tmp_path / "first.zarr", {"train": 12})], "train", ())
    grown = read_catalog([write_store(tmp_path / "grown.zarr", {"train": 20})], "train", ())
    subsets = [set(choose_molecules(first, count).ids) for count in (3, 7, 12)]
    assert [len(subset) for subset in subsets] == [3, 7, 12]
    assert subsets[0] < subsets[1] < subsets[2]
    assert subsets[0] != set(first.ids[:3])
    old = [set(choose_molecules(grown, count).ids) & set(first.ids) for count in range(1, 21)]
    assert all(chosen == set(choose_molecules(first, len(chosen)).ids) for chosen in old if chosen)
    with pytest.raises(RequestError, match=r"molecules = 13: .*first.zarr has 12 in its training split"):
        choose_molecules(first, 13)


def test_a_subset_holds_all_conformers_of_its_molecules(store: Path) -> None:
    catalog = read_catalog([store], "train", ())
    twins = replace(catalog, table=catalog.table.assign(group=[str(k // 2) for k in range(16)]))
    chosen = choose_molecules(twins, 3).table["group"].tolist()
    assert len(chosen) == 6
    assert all(chosen.count(group) == 2 for group in chosen)


def test_only_the_subset_counts_as_seen(compared: Path) -> None:
    origin = load_model(compared / "run/wide/4/1").origin
    assert sum(group.startswith("train") for group in origin.groups) == 4
    assert sum(group.startswith("validation") for group in origin.groups) == 3
    assert len(evaluate_superres(compared / "run/wide/4/1", write_store_of_unseen(compared, origin.groups)).scores) == 1


def write_store_of_unseen(folder: Path, seen: list[str]) -> Path:
    assert "other-test-0" not in seen
    return write_store(folder / "unseen.zarr", {"test": 1}, prefix="other-")


def test_a_training_starts_from_another_and_has_seen_what_that_saw(store: Path, compared: Path, tmp_path: Path) -> None:
    started = compared / "run/wide/4/1"
    other = write_store(tmp_path / "other.zarr", {"train": 4, "validation": 1, "test": 1}, prefix="other-")
    config = replace(QUICK, store=(other,), start=str(started), learning_rate=1e-9)
    train_superres(config, tmp_path / "run")
    model, before = load_model(tmp_path / "run"), load_model(started)
    assert model.network.architecture == before.network.architecture  # its normalisation too
    for name, weights in model.network.state_dict().items():
        assert np.allclose(weights, before.network.state_dict()[name], atol=1e-6)
    assert set(before.origin.groups) < set(model.origin.groups)
    assert {"other-train-0", "other-validation-0"} <= set(model.origin.groups)
    assert set((model.origin.distances or {}).keys()) >= set((before.origin.distances or {}).keys()) > set()
    with pytest.raises(StoreError, match="samples are molecules that the model was trained on"):
        evaluate_superres(tmp_path / "run", store, split="train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 6}, r'start = ".*wide/4/1": has width = 4, not 6: make the config like it'),
        ({"model": "published", "crop": 0}, r"has kind = 'unet', not 'published'"),
        ({"input": "target", "target": "guess"}, r"has input = 'guess', not 'target'"),
    ],
)
def test_starting_from_something_else_is_refused(
    store: Path, compared: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = replace(QUICK, store=(store,), start=str(compared / "run/wide/4/1"), **change)
    with pytest.raises(RequestError, match=message):
        train_superres(config, tmp_path / "run")
    with pytest.raises(RequestError, match="neither the folder of a training run nor a model that comes with rhoflow"):
        train_superres(replace(config, start="nowhere"), tmp_path / "run")


def test_what_a_comparison_starts_from_may_move_but_not_change(store: Path, compared: Path, tmp_path: Path) -> None:
    run, started = tmp_path / "run", tmp_path / "started"
    shutil.copytree(compared / "run/wide/4/1", started)
    change = ("width = 4", f'width = 4\nstart = "{started}"')
    early = write_config(tmp_path, store, ("width = 4", 'width = 4\nstart = "later"'))
    with pytest.raises(RequestError, match="neither the folder of a training run nor a model that comes with rhoflow"):
        compare(early, run, workers=1, resume=False)
    assert not run.exists()
    compare(write_config(tmp_path, store, change), run, workers=1, resume=False)
    moved = started.rename(tmp_path / "moved")
    config = write_config(tmp_path, store, ("width = 4", f'width = 4\nstart = "{moved}"'))
    compare(config, run, workers=1, resume=True)
    shutil.copy(compared / "run/wide/4/2/best.pt", moved)
    with pytest.raises(RequestError, match=r"was begun with variants.wide.weights at the start = "):
        compare(config, run, workers=1, resume=True)


def test_a_comparison_that_is_older_than_a_key_goes_on(store: Path, compared: Path, tmp_path: Path) -> None:
    shutil.copytree(compared / "run", tmp_path / "run")
    begun = dict(read_record(tmp_path / "run", COMPARED))
    del begun["variants.narrow.charges"]
    write_record(tmp_path / "run", COMPARED, {**begun, "variants.narrow.start": ""})
    compare(write_config(tmp_path, store), tmp_path / "run", workers=1, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("width = 4", 'width = 4\ninput = "sad"'), r"\[variants.wide\]: .* has no channel 'sad'"),
        (("[variants.narrow]", "[judges.turned]\nrotations = 2\n[variants.narrow]"), "keeps no wavefunctions"),
        (("[variants.narrow]", '[judges.all]\nsplit = "train"\n[variants.narrow]'), "that the model was trained on"),
        (
            ("[variants.narrow]", "[judges.a]\nconformers_of_training = true\n[variants.narrow]"),
            "was not trained on",
        ),
    ],
)
def test_what_would_be_refused_hours_later_is_refused_at_once(
    store: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        compare(write_config(tmp_path, store, change), tmp_path / "run", workers=1, resume=False)
    assert not (tmp_path / "run").exists()


def test_trials_in_different_places_are_not_mixed(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.comparison.trial.LONGEST", 0.1)
    config = write_config(tmp_path, store, ("title", "seconds = 0.3\ntitle"), ("steps = 6\n", ""), ("[4, 8]", "8"))
    comparison, run = read_comparison(config), tmp_path / "run"
    for variant in comparison.variants:
        try_out(comparison, run, variant)
    cell, threads = next(comparison.cells()), torch.get_num_threads()
    assert configure_cell(comparison, run, cell).steps > 0
    for change, place in (
        ({"clock": "wall time"}, "wall time"),
        ({"threads": threads + 1}, rf"CPU .*, {threads + 1} threads"),
    ):
        narrow = read_record(run, "narrow/trial.json")
        write_record(run, "wide/trial.json", {**narrow, **change})
        with pytest.raises(
            RequestError, match=rf"different places \(narrow: CPU time .*, {threads} threads, wide: {place}\)"
        ):
            configure_cell(comparison, run, cell)
    write_record(run, "narrow/trial.json", {**narrow, "threads": threads + 1})
    with pytest.raises(
        RequestError, match=rf"tried out with {threads + 1} threads, but here are {threads}: go on with"
    ):
        configure_cell(comparison, run, cell)


def test_what_validates_in_one_store_and_trains_in_another_is_left_out(store: Path, tmp_path: Path) -> None:
    conformers = [("train", make_conformer("validation-0")), ("validation", make_conformer("other"))]
    other = write_conformers(tmp_path / "other.zarr", conformers)
    with assemble_team("cpu") as team:
        task = SuperresTask(replace(QUICK, store=(store, other)), tmp_path / "run", team)
    assert set(task.validation.ids) == {"validation-1#0", "validation-2#0", "other#0"}
    alone = read_catalog([store], "validation", ())
    with pytest.raises(RequestError, match="every validation molecule is trained on too"):
        leave_out(alone, list_groups(alone))


def test_what_the_started_model_was_trained_on_does_not_choose_the_checkpoint(compared: Path, tmp_path: Path) -> None:
    started = load_model(compared / "run/wide/8/1").origin
    assert {group.split("-")[0] for group in started.trained} == {"train"}
    assert started.trained | set(started.chosen_by) == set(started.groups)
    assert replace(started, chosen_by=[]).trained == set(started.groups)  # of an earlier version: not known
    seen = sorted(started.trained)[0]
    conformers = [("train", "validation-0"), ("validation", seen), ("validation", "other")]
    other = write_conformers(tmp_path / "other.zarr", [(split, make_conformer(name)) for split, name in conformers])
    config = replace(QUICK, store=(other,), start=str(compared / "run/wide/8/1"))
    with assemble_team("cpu") as team:
        task = SuperresTask(config, tmp_path / "run", team)
    assert task.validation.ids == ["other#0"]
    assert task.origin.trained == started.trained | {"validation-0"}
    assert set(task.origin.chosen_by) == {"other", "validation-1", "validation-2"}


def test_no_molecules_is_the_started_model_itself(store: Path, compared: Path, tmp_path: Path) -> None:
    started = compared / "run/wide/4/1"
    config = write_config(tmp_path, store, ("[4, 8]", "[0, 8]"), ("width = 4", f'width = 4\nstart = "{started}"'))
    assert [cell.folder for cell in read_comparison(config).cells()] == [
        "narrow/8/1", "narrow/8/2", "wide/0/1", "wide/8/1", "wide/8/2"
    ]  # fmt: skip
    *_, jobs = list_stages(read_comparison(config), tmp_path / "run")
    assert [job.name for job in jobs] == ["narrow/8/1", "wide/0/1", "wide/8/1", "narrow/8/2", "wide/8/2"]
    compare(config, tmp_path / "run", workers=1, resume=False)
    assert read_calibration(tmp_path / "run/wide/0/1") == read_calibration(started)
    weights = [read_tensors(run, "best.pt")["weights"] for run in (started, tmp_path / "run/wide/0/1")]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    rows = json.loads((tmp_path / "run/comparison.json").read_text())["rows"]
    (row,) = [row for row in rows if row["molecules"] == 0 and row["measure"] == "NMAE, %"]
    assert row["mean"] == pytest.approx(100 * evaluate_superres(started, store).model_nmae)


def test_learning_rates_are_chosen_by_validation(store: Path, tmp_path: Path) -> None:
    config = write_config(
        tmp_path, store, ("molecules", "learning_rates = [1e-9, 3e-3]\nmolecules"), ("steps = 6", "steps = 60")
    )
    compare(config, tmp_path / "run", workers=1, resume=False)
    tuned = json.loads((tmp_path / "run/wide/tuning/0.003/tuned.json").read_text())
    assert tuned["steps"] == 6
    assert json.loads((tmp_path / "run/wide/tuning/0.003/config.json").read_text())["molecules"] == 8
    untouched = json.loads((tmp_path / "run/wide/tuning/1e-09/tuned.json").read_text())
    assert tuned["lowest_validation"] < untouched["lowest_validation"]
    table = json.loads((tmp_path / "run/comparison.json").read_text())["variants"]["wide"]
    scores = table["lowest_validations"]
    assert [*scores][:3] == ["1e-09", "0.003", "0.009"]  # the best was at an end: one more was tried
    assert scores["0.003"] == tuned["lowest_validation"]
    best = min(scores, key=lambda rate: scores[rate])
    assert best != [*scores][-1] or len(scores) == 5
    assert table["learning_rate"] == float(best)
    assert json.loads((tmp_path / "run/wide/4/2/config.json").read_text())["learning_rate"] == float(best)
    assert not (tmp_path / f"run/wide/tuning/{best}/calibration.json").exists()


def test_rates_beyond_an_end_are_tried_while_the_best_is_there(store: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, store, ("molecules", "learning_rates = [1e-3, 3e-3, 1e-2]\nmolecules"))
    comparison, run = read_comparison(config), tmp_path / "run"

    def tell(scores: dict[float, float | None]) -> list[float]:
        for variant in comparison.variants:
            for rate, score in scores.items():
                tuned = {"learning_rate": rate, "lowest_validation": score}
                write_record(run, f"{variant}/tuning/{rate:g}/tuned.json", tuned)
        return list_rates(comparison, run, "wide")

    assert tell({1e-3: 3.0}) == [1e-3, 3e-3, 1e-2]
    assert tell({3e-3: 2.0, 1e-2: 1.0}) == [1e-3, 3e-3, 1e-2, 3e-2]
    assert tell({3e-2: None}) == [1e-3, 3e-3, 1e-2, 3e-2]
    assert tell({1e-3: 0.5}) == [3e-4, 1e-3, 3e-3, 1e-2]
    assert tell({3e-4: 0.4}) == [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    assert tell({1e-4: 0.3, 3e-5: 0.2}) == [3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2]  # and no further
    assert read_chosen(run, "wide") == {}
    (cells,) = list_stages(comparison, run)
    assert len(cells) == 8
    chosen = read_chosen(run, "wide")
    assert chosen["learning_rate"] == 3e-5
    assert [*chosen["lowest_validations"]] == ["3e-05", "0.0001", "0.0003", "0.001", "0.003", "0.01"]
    tell({1e-3: 0.1})  # what is chosen stays so
    (cells,) = list_stages(comparison, run)
    assert configure_cell(comparison, run, next(comparison.cells())).learning_rate == 3e-5


def test_where_every_rate_diverges_lower_ones_are_tried_and_then_it_is_told(store: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, store, ("molecules", "learning_rates = [1e-3, 3e-3]\nmolecules"))
    comparison, run = read_comparison(config), tmp_path / "run"
    for variant in comparison.variants:
        for rate in (3e-5, 1e-4, 3e-4, 1e-3, 3e-3):
            tuned = {"learning_rate": rate, "lowest_validation": None}
            write_record(run, f"{variant}/tuning/{rate:g}/tuned.json", tuned)
    with pytest.raises(RequestError, match=r"narrow: training diverged at every one of learning_rates: try lower"):
        list(list_stages(comparison, run))


def test_seconds_become_steps_once(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.comparison.trial.LONGEST", 0.1)
    config = write_config(tmp_path, store, ("title", "seconds = 0.3\ntitle"), ("steps = 6\n", ""), ("[4, 8]", "8"))
    compare(config, tmp_path / "run", workers=1, resume=False)
    trial = Trial(**json.loads((tmp_path / "run/wide/trial.json").read_text()))
    assert trial.step > 0
    assert trial.validation > 0
    assert trial.clock == "CPU time of all threads over their number"
    steps = [json.loads((tmp_path / f"run/wide/8/{seed}/config.json").read_text())["steps"] for seed in (1, 2)]
    assert steps == [trial.count_steps(0.3, 3)] * 2
    (tmp_path / "run/wide/8/2/judged.json").unlink()
    before = (tmp_path / "run/comparison.json").read_bytes()
    compare(config, tmp_path / "run", workers=1, resume=True)
    assert (tmp_path / "run/comparison.json").read_bytes() == before


def test_steps_fill_the_time_with_their_validations() -> None:
    trial = Trial(step=0.5, validation=10, clock="", threads=1, timed_steps=9, parameters=1)
    assert trial.count_steps(seconds=610, checkpoint_steps=100) == 1000  # 500 s of steps, 11 validations


def test_conformers_of_training_are_judged_only_as_such(store: Path, compared: Path, tmp_path: Path) -> None:
    run = compared / "run/wide/8/1"
    seen = [make_conformer(group) for group in load_model(run).origin.groups if group.startswith("train")][:2]
    same = write_conformers(tmp_path / "same.zarr", [("test", replace(one, positions=-one.positions)) for one in seen])
    bent = write_conformers(
        tmp_path / "bent.zarr", [("test", replace(one, positions=1.1 * one.positions)) for one in seen]
    )
    with pytest.raises(StoreError, match=r"5 test samples are of molecules that the model was not trained on"):
        evaluate_superres(run, store, conformers_of_training=True)
    with pytest.raises(StoreError, match=r"same.zarr: 2 test samples have the very geometries that the model was"):
        evaluate_superres(run, same, conformers_of_training=True)
    with pytest.raises(StoreError, match=r"bent.zarr: 2 test samples are molecules that the model was trained on"):
        evaluate_superres(run, bent)
    evaluation = evaluate_superres(run, bent, conformers_of_training=True)
    assert "on 2 samples of molecules it was trained on" in str(evaluation)


@pytest.mark.parametrize(
    "study", sorted((Path(__file__).parents[2] / "deploy/studies").glob("*.toml")), ids=lambda study: study.stem
)
def test_the_studies_say_how_they_are_run(study: Path) -> None:
    assert f"# rhoflow compare deploy/studies/{study.name} {study.stem}" in study.read_text()
    assert list(read_comparison(study).cells())


def test_the_page_of_a_comparison_holds_plot_and_tables(compared: Path, tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["report", str(compared / "run"), str(tmp_path / "page.html")])
    assert printed.exit_code == 0
    page = (tmp_path / "page.html").read_text()
    assert "<h1>Two widths</h1>" in page
    assert page.count("<svg ") == 1
    assert "5 samples of 5 molecules, test split of the store of each variant" in page
    assert page.count("<td>narrow</td>") == 2
