"""What tests of flows start from: Prefect's homes and servers, Dask workers, a store with a trained model."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.small_build import environment
from tests.flows.test_build import ask, free_port, running

IDLE = {
    f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false"
    for service in (
        "SCHEDULER",
        "LATE_RUNS",
        "PAUSE_EXPIRATIONS",
        "CANCELLATION_CLEANUP",
        "FOREMAN",
        "REPOSSESSOR",
        "TRIGGERS",
    )
}


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's database with nothing in it, which takes six seconds to make: the processes that test share it."""
    home = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        home = home.parent  # of this run alone
    made = home / "made" / "prefect.db"
    with (home / "database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
            subprocess.run(make, env=environment(home / "database"), check=True, capture_output=True)
            (home / "database").rename(made.parent)
    return made


@pytest.fixture(scope="module")
def own_home(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home on a machine that has used it before: every build starts a server of its own."""
    home = tmp_path_factory.mktemp("prefect")
    shutil.copy(database, home)
    return home


@pytest.fixture(scope="session")
def prefect_server(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Prefect server, without those of its services that builds have no use for."""
    with serve_prefect(database, tmp_path_factory.mktemp("server"), **IDLE) as address:
        yield address


@pytest.fixture(scope="session")
def home(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home of a user with a server, which saves each build the start of its own."""
    home = tmp_path_factory.mktemp("prefect")
    (home / "profiles.toml").write_text(f'active = "test"\n[profiles.test]\nPREFECT_API_URL = "{prefect_server}"\n')
    return home


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """The address of a Dask scheduler that has one worker; both are threads of this process."""
    import dask
    from distributed import LocalCluster

    from flows.workers.fleet import SETTINGS

    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs="ERROR",
        ) as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture
def api(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a real Prefect server, at which a new schedule is seen at once."""
    schedules = {
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "true",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    }
    with serve_prefect(database, tmp_path, **IDLE | schedules) as address:
        monkeypatch.setenv("PREFECT_API_URL", address)
        yield address


@contextlib.contextmanager
def serve_prefect(database: Path, home: Path, **settings: str) -> Iterator[str]:
    port = free_port()
    serve = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    shutil.copy(database, home)
    with running(serve, home, PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1", **settings):
        address = f"http://127.0.0.1:{port}/api"
        ask(f"{address}/health")
        yield address


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With GFN2 guesses."""
    from tests.flows.small_model import build_store

    return build_store(tmp_path_factory.mktemp("small-model"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """A training on that store."""
    from tests.flows.small_model import train_model

    return train_model(tmp_path_factory.mktemp("trained"), store)
