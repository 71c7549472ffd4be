"""What several tests of flows start from: a Prefect server, a small store with a trained model."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.test_build import ask, free_port, running


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a real Prefect server."""
    port = free_port()
    serve = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    address = f"http://127.0.0.1:{port}/api"
    quick = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2"}  # a new schedule is seen at once
    with running(serve, tmp_path, PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1", **quick):
        ask(f"{address}/health")
        monkeypatch.setenv("PREFECT_API_URL", address)
        yield address


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's, of commands that need no server."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    from tests.flows.small_model import build_store

    return build_store(tmp_path_factory.mktemp("small-model"), home)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """A training on that store."""
    from tests.flows.small_model import train_model

    return train_model(tmp_path_factory.mktemp("trained"), store)
