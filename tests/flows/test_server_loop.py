"""The server that a build starts ends with it."""

import os
import subprocess
import sys

import pytest

from flows.workers.server_loop import STARTER

SERVE = "from flows.workers.server_loop import new_event_loop; new_event_loop().close(); print('serves')"


def end_of_server(starter: int) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, STARTER: str(starter)}
    return subprocess.run([sys.executable, "-c", SERVE], env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def dead() -> int:
    """Of a process that has ended, and was waited for."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_server_whose_build_was_killed_before_it_was_ready_never_serves(dead: int) -> None:
    server = end_of_server(dead)
    assert (server.returncode, server.stdout) == (1, "")


def test_a_server_serves_while_its_build_lives() -> None:
    server = end_of_server(os.getpid())
    assert (server.returncode, server.stdout) == (0, "serves\n")
