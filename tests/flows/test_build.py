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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from flows.cli import app
from storage.identity import identify
from storage.layout import generation_key
from storage.objects import has_object
from storage.outcomes import read_row_outcomes
from storage.plan import read_plan
from storage.reader import open_dataset
from tests.flows.small_build import command, environment, rhoflow, rhoflow_here, write_recipe

EXTRA = ("broken,C(C)(C)(C)(C)C,1.5", "twin,OC,9.5", "giant,CCCCCCCCCCCCCCCCCCCC,2.5")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store built in three commands by one process, with neither Prefect nor Dask."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe, store = write_recipe(folder, EXTRA), folder / "store.zarr"
    rhoflow_here("plan", recipe, store)
    rhoflow_here("run", store, "--parts", "2/2")
    rhoflow_here("run", store, "--parts", "1/2")
    rhoflow_here("seal", store)
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


@dataclass(frozen=True)
class Watched:
    """A build that started a Prefect server and two Dask workers of its own, and where its processes listened."""

    recipe: Path
    store: Path
    printed: str
    addresses: dict[int, set[str]]  # of each process


@pytest.fixture(scope="module")
def watched(own_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    recipe, store = write_recipe(folder, EXTRA), folder / "store.zarr"
    build = command("build", recipe, store, "--workers", 2)
    heard: dict[int, set[str]] = {}
    with (
        (folder / "printed").open("w") as printed,
        subprocess.Popen(build, env=environment(own_home), stdout=printed, stderr=printed) as building,
    ):
        while building.poll() is None:
            for process in [psutil.Process(building.pid), *psutil.Process(building.pid).children(recursive=True)]:
                heard.setdefault(process.pid, set()).update(listening(process))
            time.sleep(0.5)
    said = (folder / "printed").read_text()
    assert building.returncode == 0, said
    return Watched(recipe, store, said, heard)


def listening(process: psutil.Process) -> set[str]:
    """Addresses at which others may connect to it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return {found.laddr.ip for found in process.net_connections("tcp") if found.status == psutil.CONN_LISTEN}
    return set()


def test_a_build_listens_on_loopback_alone(watched: Watched) -> None:
    assert {address for addresses in watched.addresses.values() for address in addresses} == {"127.0.0.1"}
    listeners = [process for process, addresses in watched.addresses.items() if addresses]
    assert len(listeners) >= 3  # Prefect, scheduler, worker


def test_the_flow_on_dask_workers_ends_identical_to_plain_batch_jobs(
    undisturbed: Path, watched: Watched, own_home: Path
) -> None:
    recipe, store = watched.recipe, watched.store
    assert "http://127.0.0.1" in watched.printed  # the dashboard's address
    assert identify(store) == identify(undisturbed)

    computed = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    again = rhoflow(own_home, "build", recipe, store, "--workers", 2)
    assert "13 done" in again
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == computed

    status = json.loads(rhoflow_here("status", store, "--json"))
    assert status["rows"] == 15
    assert status["done"] == 13
    assert status["failed"] == {"invalid_input": 1, "too_large": 1}
    assert status["missing"] == 0
    assert status["workers"] == 2
    assert 0 < status["computing_seconds"] < 2 * status["wall_seconds"]


def test_a_killed_build_resumes_to_the_identical_store(
    undisturbed: Path, own_home: Path, home: Path, scheduler: str, tmp_path: Path
) -> None:
    recipe, store = write_recipe(tmp_path, EXTRA), tmp_path / "store.zarr"
    build = command("build", recipe, store, "--workers", 1)
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
    rhoflow(home, "build", recipe, store, "--cluster", scheduler)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)  # the Prefect server that the killed flow left behind
    assert identify(store) == identify(undisturbed)


def test_of_two_builds_at_once_the_second_is_refused(undisturbed: Path, home: Path, tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path, EXTRA), tmp_path / "store.zarr"
    first = subprocess.Popen(
        command("build", recipe, store, "--workers", 1),
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not has_object(store, generation_key(1)) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    refused = rhoflow(home, "build", recipe, store, "--workers", 1, code=1)
    assert f"is being worked on by process {first.pid} on " in refused
    assert first.wait(200) == 0
    assert identify(store) == identify(undisturbed)


def test_another_recipe_is_refused_and_nothing_is_lost(undisturbed: Path, tmp_path: Path) -> None:
    before = identify(undisturbed)
    recipe = write_recipe(tmp_path, EXTRA)
    recipe.write_text(recipe.read_text().replace("exponent = 0.6", "exponent = 0.7"))
    printed = rhoflow_here("plan", recipe, undisturbed, code=2)
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
def test_a_bad_id_is_refused_by_line_before_any_work(tmp_path: Path, row: str, message: str) -> None:
    recipe = write_recipe(tmp_path, (row,))
    printed = rhoflow_here("plan", recipe, tmp_path / "store.zarr", code=2)
    assert "molecules.csv" in printed
    assert "14" in printed
    assert message in printed


@pytest.mark.parametrize("parts", ["0/2", "3/2", "x", "1/"])
def test_parts_that_are_none_are_refused(undisturbed: Path, parts: str) -> None:
    assert "write i/N" in rhoflow_here("run", undisturbed, "--parts", parts, code=2)


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
    prefect_server: str, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    rhoflow(tmp_path, "build", write_recipe(tmp_path / "a", EXTRA), tmp_path / "seen.zarr", "--cluster", scheduler)
    (run,) = ask(f"{prefect_server}/flow_runs/filter", {"flow_runs": {"name": {"any_": ["build seen"]}}})
    assert run["state"]["name"] == "Completed"
    of_the_run = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    tasks = ask(f"{prefect_server}/task_runs/filter", of_the_run)
    assert {task["name"] for task in tasks} == {"read", "conform", "plan", "compute", "seal"}
    artifacts = {artifact["key"]: artifact for artifact in ask(f"{prefect_server}/artifacts/filter", of_the_run)}
    assert artifacts["seen-densities"]["data"] == 100
    assert [row["id"] for row in json.loads(artifacts["seen-failures"]["data"])] == ["broken", "giant#0"]


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
