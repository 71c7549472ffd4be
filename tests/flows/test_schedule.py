"""A run that the schedule fires builds the dataset; the next one finds nothing to do, and says so."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.objects import read_record
from storage.reader import open_dataset
from storage.seal import is_sealed
from tests.flows.small_build import command, environment, rhoflow, write_recipe
from tests.flows.test_build import ask, running

DEPLOY = Path(__file__).parents[2] / "deploy"
TRAINING = "steps = 2\nwidth = 4\ndepth = 1\ncrop = 8\n"
COMPARISON = """
title = "The same twice"
[train]
store = "{store}"
{training}
[variants.one]
[variants.other]
learning_rate = 1e-2
"""


def test_a_run_fired_by_the_schedule_seals_the_store_and_the_next_does_nothing(
    api: str, scheduler: str, tmp_path: Path
) -> None:
    recipe, store = write_recipe(tmp_path / "a"), tmp_path / "molecules.zarr"
    config, runs = tmp_path / "superres.toml", tmp_path / "runs"
    config.write_text(TRAINING)
    every_minute = ("--cron", "* * * * *", "--cluster", scheduler, "--train", config, runs)
    with running(command("schedule", recipe, store, *every_minute), tmp_path):
        await_completed(api, 1)
        assert is_sealed(store)
        assert len(open_dataset(store).ids) == 12
        (run,) = runs.iterdir()
        assert (run / "best.pt").exists()
        written = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
        await_completed(api, 2)
        await_message(api, f"{store} is sealed: nothing to compute")
        await_message(api, f"{run} was trained on what {store} holds: nothing to train")
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == written


def test_a_nightly_run_on_grown_input_appends_seals_and_trains_again(
    home: Path, scheduler: str, tmp_path: Path
) -> None:
    recipe, store = write_recipe(tmp_path / "a"), tmp_path / "molecules.zarr"
    config, runs = tmp_path / "superres.toml", tmp_path / "runs"
    config.write_text(TRAINING)
    nightly = f"from pathlib import Path; from flows.schedule import run_nightly; run_nightly(Path({str(recipe)!r}), "
    nightly += f"{str(store)!r}, cluster={scheduler!r}, config=Path({str(config)!r}), runs=Path({str(runs)!r}))"
    trained = []
    for row in ("", "late,CCO,1\n"):
        with (tmp_path / "a/molecules.csv").open("a") as source:
            source.write(row)
        subprocess.run([sys.executable, "-c", nightly], env=environment(home), check=True, timeout=200)
        trained.append({run.name for run in runs.iterdir()})
    assert open_dataset(store).attributes["version"] == 2
    assert "late#0" in open_dataset(store).ids
    assert len(trained[0]) == 1
    assert trained[0] < trained[1]


def await_message(api: str, message: str) -> None:
    """Wait for a line of a run's log, which arrives some time after it was written."""
    for _ in range(60):
        found = [line["message"] for line in ask(f"{api}/logs/filter", {"limit": 200})]
        if message in found:
            return
        time.sleep(0.5)
    raise AssertionError(f"{message!r} is not among {found}")


def await_completed(api: str, count: int) -> None:
    """Wait for so many nightly runs, created by the schedule itself."""
    question = {"flows": {"name": {"any_": ["rhoflow-nightly"]}}}
    deadline = time.monotonic() + 140
    while True:
        runs = ask(f"{api}/flow_runs/filter", dict(question))
        ended = [run for run in runs if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED")]
        assert all(run["state"]["type"] == "COMPLETED" and run["auto_scheduled"] for run in ended), ended
        if len(ended) >= count:
            return
        assert time.monotonic() < deadline, [run["state"]["name"] for run in runs]
        time.sleep(1)


@pytest.mark.parametrize("cron", ["nonsense", "61 * * * *"])
def test_a_wrong_cron_is_refused_before_anything_starts(tmp_path: Path, cron: str) -> None:
    recipe = write_recipe(tmp_path)
    printed = rhoflow(tmp_path, "schedule", recipe, tmp_path / "store.zarr", "--cron", cron, code=2)
    assert f"--cron '{cron}'" in printed
    assert not (tmp_path / "store.zarr").exists()


def test_the_deployments_run_on_a_worker_of_their_pool(
    prefect_server: str, home: Path, scheduler: str, tmp_path: Path
) -> None:
    recipe, store = write_recipe(tmp_path / "a"), tmp_path / "molecules.zarr"
    recipe.write_text(recipe.read_text() + "[splits]\ntrain = 0.4\nvalidation = 0.3\ntest = 0.3\n")
    prefect = [sys.executable, "-m", "prefect"]
    call(home, *prefect, "work-pool", "create", "cpu", "--type", "process")
    template = ask(f"{prefect_server}/work_pools/cpu")["base_job_template"]
    ask(f"{prefect_server}/work_pools/", {"name": "gpu", "type": "process", "base_job_template": template})
    call(home, *prefect, "--no-prompt", "deploy", "--all", "--prefect-file", DEPLOY / "prefect.yaml")
    deployed = {found["name"]: found for found in ask(f"{prefect_server}/deployments/filter", {})}
    assert {name: found["work_pool_name"] for name, found in deployed.items()} == {
        "build": "cpu",
        "regenerate": "cpu",
        "train": "gpu",
        "compare": "gpu",
    }
    assert [found["schedule"]["cron"] for found in deployed["build"]["schedules"]] == ["0 2 * * *"]

    def begin(name: str, **parameters: object) -> None:
        ask(f"{prefect_server}/deployments/{deployed[name]['id']}/create_flow_run", {"parameters": parameters})

    begin("build", recipe=str(recipe), store=str(store), cluster=scheduler)
    call(home, *prefect, "worker", "start", "--pool", "cpu", "--run-once")
    assert is_sealed(store)
    config, comparison, runs = tmp_path / "superres.toml", tmp_path / "comparison.toml", tmp_path / "runs"
    config.write_text(TRAINING)
    comparison.write_text(COMPARISON.format(store=store, training=TRAINING))
    begin("train", config=str(config), runs=str(runs), store=str(store))
    begin("compare", config=str(comparison), run=str(tmp_path / "compared"), workers=2)
    call(home, *prefect, "worker", "start", "--pool", "gpu", "--run-once")
    assert len([*runs.glob("*/best.pt")]) == 1
    assert {row["method"] for row in read_record(tmp_path / "compared", "comparison.json")["rows"]} >= {"one", "other"}
    tasks = ask(f"{prefect_server}/task_runs/filter", {"task_runs": {"name": {"any_": ["one/all/1", "other/all/1"]}}})
    assert [task["state"]["type"] for task in tasks] == ["COMPLETED"] * 2


def call(home: Path, *words: str | Path) -> None:
    ended = subprocess.run(words, env=environment(home), capture_output=True, text=True, timeout=150, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
