"""What tests of flows start from: Prefect's homes, a Prefect server, a store with a trained model."""

import contextlib
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
def own_home(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home on a machine that has used it before: every build starts a server of its own."""
    home = tmp_path_factory.mktemp("prefect")
    shutil.copy(database, home)
    return home


@pytest.fixture(scope="session")
def home(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prefect's home of a user with a server, which saves each build the start of its own."""
    home = tmp_path_factory.mktemp("prefect")
    with serve_prefect(database, home) as address:
        (home / "profiles.toml").write_text(f'active = "test"\n[profiles.test]\nPREFECT_API_URL = "{address}"\n')
        yield home


@pytest.fixture
def api(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a real Prefect server, at which a new schedule is seen at once."""
    with serve_prefect(database, tmp_path, PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="2") as address:
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
