"""A Prefect server for the tests of flows."""

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
