"""A build ends the same however it is run, and however often it is interrupted."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from storage.identity import identify
from storage.outcomes import read_row_outcomes
from storage.plan import read_plan
from storage.reader import open_dataset
from tests.flows.small_build import command, environment, rhoflow, write_recipe

EXTRA = ("broken,C(C)(C)(C)(C)C,1.5", "twin,OC,9.5", "giant,CCCCCCCCCCCCCCCCCCCC,2.5")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    """A store built in three commands by one process, with neither Prefect nor Dask."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe, store = write_recipe(folder, EXTRA), folder / "store.zarr"
    rhoflow(home, "plan", recipe, store)
    rhoflow(home, "run", store, "--parts", "2/2")
    rhoflow(home, "run", store, "--parts", "1/2")
    rhoflow(home, "seal", store)
    return store


def test_every_row_has_one_outcome_and_keeps_its_labels(undisturbed: Path) -> None:
    rows = {row.id: row for row in read_row_outcomes(undisturbed, read_plan(undisturbed))}
    assert len(rows) == 15
    assert rows["broken"].outcome == "invalid_input"
    assert rows["giant"].outcome == "too_large"
    assert rows["twin"].duplicate_of == "m4#0"
    assert [rows[f"m{k}"].outcome for k in range(12)] == ["ok"] * 12
    table = open_dataset(undisturbed).rows
    assert table.loc["twin", "charge_of_label"] == 9.5
    assert table.loc["m4", "charge_of_label"] == 4 / 7


def test_the_flow_on_dask_workers_ends_identical_to_plain_batch_jobs(
    undisturbed: Path, own_home: Path, tmp_path: Path
) -> None:
    recipe, store = write_recipe(tmp_path, EXTRA), tmp_path / "store.zarr"
    printed = rhoflow(own_home, "build", recipe, store, "--workers", 2)
    assert "http://127.0.0.1" in printed  # the dashboard's address
    assert identify(store) == identify(undisturbed)

    computed = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    again = rhoflow(own_home, "build", recipe, store, "--workers", 2)
    assert "13 done" in again
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == computed

    status = json.loads(rhoflow(own_home, "status", store, "--json"))
    assert status["rows"] == 15
    assert status["done"] == 13
    assert status["failed"] == {"invalid_input": 1, "too_large": 1}
    assert status["missing"] == 0
    assert status["workers"] == 2
    assert 0 < status["computing_seconds"] < 2 * status["wall_seconds"]


def test_a_killed_build_resumes_to_the_identical_store(undisturbed: Path, own_home: Path, tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path, EXTRA), tmp_path / "store.zarr"
    build = command("build", recipe, store, "--workers", 2)
    running = subprocess.Popen(
        build, env=environment(own_home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    receipts = store / "work/receipts"
    deadline = time.monotonic() + 120
    while not list(receipts.glob("*.json")) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)  # the flow alone: workers and server find out by themselves
    running.wait()
    assert list(receipts.glob("*.json"))
    assert not (store / "rows").exists()  # not sealed: the kill came in the middle
    rhoflow(own_home, "build", recipe, store, "--workers", 2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)  # the Prefect server that the killed flow left behind
    assert identify(store) == identify(undisturbed)


def test_of_two_builds_at_once_the_second_is_refused(undisturbed: Path, home: Path, tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path, EXTRA), tmp_path / "store.zarr"
    first = subprocess.Popen(
        command("build", recipe, store, "--workers", 2),
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    claim = store / "work/claim.json"
    deadline = time.monotonic() + 120
    while not (claim.exists() and claim.read_text()) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    refused = rhoflow(home, "build", recipe, store, "--workers", 2, code=1)
    assert f"is being worked on by process {first.pid} on " in refused
    assert first.wait(200) == 0
    assert identify(store) == identify(undisturbed)


def test_another_recipe_is_refused_and_nothing_is_lost(undisturbed: Path, home: Path, tmp_path: Path) -> None:
    before = identify(undisturbed)
    recipe = write_recipe(tmp_path, EXTRA)
    recipe.write_text(recipe.read_text().replace("exponent = 0.6", "exponent = 0.7"))
    printed = rhoflow(home, "plan", recipe, undisturbed, code=2)
    assert "densities.guess.exponent was 0.6, is 0.7" in printed
    assert identify(undisturbed) == before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("m3,C,1", r"m3"),
        ("a#b,C,1", r"a#b"),
        (",C,1", "id"),
    ],
)
def test_a_bad_id_is_refused_by_line_before_any_work(home: Path, tmp_path: Path, row: str, message: str) -> None:
    recipe = write_recipe(tmp_path, (row,))
    printed = rhoflow(home, "plan", recipe, tmp_path / "store.zarr", code=2)
    assert "molecules.csv" in printed
    assert "14" in printed
    assert message in printed


@pytest.mark.parametrize("parts", ["0/2", "3/2", "x", "1/"])
def test_parts_that_are_none_are_refused(home: Path, undisturbed: Path, parts: str) -> None:
    assert "write i/N" in rhoflow(home, "run", undisturbed, "--parts", parts, code=2)


def test_every_command_has_help_with_an_example() -> None:
    commands = [command.callback.__name__ for command in app.registered_commands if command.callback]
    promised = {"build", "voxelize", "estimate", "retry", "verify", "diff", "regenerate", "export", "schedule", "demo"}
    assert promised <= set(commands)
    for name in [[name] for name in commands] + [["train", "superres"]]:
        shown = CliRunner().invoke(app, [*name, "--help"])
        assert shown.exit_code == 0
        assert "Example" in shown.output, name


@contextlib.contextmanager
def running(command: list[str], home: Path, **extra: str) -> Iterator[None]:
    """A server for as long as the block lasts."""
    server = subprocess.Popen(
        command,
        env={**environment(home), **extra},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(address: str, question: object = None) -> Any:
    """The JSON answer of a server, which may still be starting."""
    content = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
    for _ in range(600):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(address)


def test_a_running_prefect_server_sees_the_run_and_its_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    serve = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with running(serve, tmp_path, PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1"):
        ask(f"{api}/health")
        monkeypatch.setenv("PREFECT_API_URL", api)
        recipe = write_recipe(tmp_path / "a", EXTRA)
        rhoflow(tmp_path, "build", recipe, tmp_path / "store.zarr", "--workers", 1)
        runs = ask(f"{api}/flow_runs/filter", {})
        assert [(run["name"], run["state"]["name"]) for run in runs] == [("build store", "Completed")]
        tasks = ask(f"{api}/task_runs/filter", {})
        assert {task["name"] for task in tasks} == {"read", "conform", "plan", "compute", "seal"}
        artifacts = {artifact["key"]: artifact for artifact in ask(f"{api}/artifacts/filter", {})}
        assert artifacts["store-densities"]["data"] == 100
        assert [row["id"] for row in json.loads(artifacts["store-failures"]["data"])] == ["broken", "giant#0"]


def test_a_build_uses_a_cluster_that_is_already_running(undisturbed: Path, home: Path, tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m", "dask"]
    recipe, store = write_recipe(tmp_path, EXTRA), tmp_path / "store.zarr"
    scheduler = [*dask, "scheduler", "--host", address, "--no-dashboard"]
    worker = [*dask, "worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)]
    with running(scheduler, home), running(worker, home, DASK_DISTRIBUTED__WORKER__DAEMON="False"):
        rhoflow(home, "build", recipe, store, "--cluster", address)
    assert identify(store) == identify(undisturbed)


def test_a_cluster_that_does_not_answer_is_named(home: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    address = f"tcp://127.0.0.1:{free_port()}"
    printed = rhoflow(home, "build", recipe, tmp_path / "store.zarr", "--cluster", address, code=1)
    assert f"no Dask scheduler answers at {address}" in printed
