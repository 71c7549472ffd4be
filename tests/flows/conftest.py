"""What tests of flows start from: a Prefect home for each file, a Prefect server, a store with a trained model."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.small_build import environment
from tests.flows.test_build import ask, free_port, running


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's database with nothing in it, which takes a first run six seconds to make."""
    home = tmp_path_factory.mktemp("database")
    make = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    subprocess.run(make, env=environment(home), check=True, capture_output=True)
    return home / "prefect.db"


@pytest.fixture(scope="module")
def home(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home on a machine that has used it before."""
    home = tmp_path_factory.mktemp("prefect")
    shutil.copy(database, home)
    return home


@pytest.fixture
def api(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a real Prefect server."""
    port = free_port()
    serve = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    address = f"http://127.0.0.1:{port}/api"
    quick = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2"}  # a new schedule is seen at once
    shutil.copy(database, tmp_path)
    with running(serve, tmp_path, PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1", **quick):
        ask(f"{address}/health")
        monkeypatch.setenv("PREFECT_API_URL", address)
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
