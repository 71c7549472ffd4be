"""What holds for a store on disk holds in object storage: killed, cut off, damaged, it ends the same."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.buckets import Bucket
from storage.claims import CLAIM, claim_store
from storage.errors import StoreError
from storage.identity import identify
from storage.objects import delete_object, has_object, list_keys, read_object, write_object
from storage.reader import open_dataset
from tests.flows.small_build import command, environment, rhoflow, write_recipe
from tests.object_storage import BUCKET, SECRET, Line, serve_buckets

TERM = 1.0


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve_buckets(TERM) as address:
        yield address


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    return write_recipe(folder)


@pytest.fixture(scope="module")
def expected(home: Path, recipe: Path, folder: Path) -> dict[str, str]:
    """What a store of that recipe holds when nothing disturbs its making, on disk."""
    for arguments in (
        ("plan", recipe, folder / "store.zarr"),
        ("run", folder / "store.zarr"),
        ("seal", folder / "store.zarr"),
    ):
        rhoflow(home, *arguments)
    return identify(folder / "store.zarr")


@pytest.fixture(scope="module")
def built(server: str, home: Path, recipe: Path) -> Bucket:  # noqa: ARG001
    """A dataset whose build was killed once, and run again."""
    store = Bucket(BUCKET, "built/store.zarr")
    build = command("build", recipe, str(store), "--workers", 2)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(build, env=environment(home), start_new_session=True, **quiet)
    wait_for(lambda: has_object(store, CLAIM), running)
    with pytest.raises(StoreError, match=f"worked on by process {running.pid} on "), claim_store(store):
        pass
    wait_for(lambda: list_keys(store, "work/receipts"), running)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not has_object(store, "work/seal.json")
    rhoflow(home, "build", recipe, str(store), "--workers", 2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)  # the Prefect server that the killed flow left behind
    return store


def wait_for(condition, running: "subprocess.Popen[bytes]") -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 120
    while not condition():
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_build_resumes_to_the_store_it_would_be_on_disk(built: Bucket, expected: dict[str, str]) -> None:
    assert identify(built) == expected
    assert not [key for key in list_keys(built) if key.endswith(".partial") or key == CLAIM]
    dataset = open_dataset(str(built))
    assert len(dataset) == 12
    assert dataset["m0#0"].channels["target"].sum() > 0


def test_damaged_and_lost_objects_are_named_and_mended(built: Bucket, home: Path, expected: dict[str, str]) -> None:
    shard, table = (next(key for key in expected if word in key) for word in ("/target/c.0", "/spacing/c"))
    content = read_object(built, shard)
    write_object(built, shard, content[:100] + bytes([content[100] ^ 1]) + content[101:])
    delete_object(built, table)
    found = rhoflow(home, "verify", str(built), code=1)
    assert f"damaged {shard} (shard " in found
    assert f"missing {table}" in found
    assert "2 restored" in rhoflow(home, "verify", str(built), "--repair")
    assert identify(built) == expected


def test_a_lost_connection_ends_the_command_and_the_next_one_goes_on(
    server: str, home: Path, recipe: Path, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Bucket(BUCKET, "cut/store.zarr")
    rhoflow(home, "plan", recipe, str(store))
    line = Line(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.address)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command("run", str(store)), env=environment(home), text=True, **pipes) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        wait_for(lambda: list_keys(store, "work/receipts"), running)
        line.cut()
        said, _ = running.communicate(timeout=60)
    assert running.returncode == 1, said
    assert "no answer: check the network and AWS_ENDPOINT_URL" in said
    assert "Traceback" not in said
    assert SECRET not in said
    kept = {key: read_object(store, key) for key in list_keys(store, "work/receipts")}
    assert 0 < len(kept) < 6
    line.mend()
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.address)
    rhoflow(home, "run", str(store))
    rhoflow(home, "seal", str(store))
    line.cut()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    assert identify(store) == expected
    assert {key: read_object(store, key) for key in kept} == kept  # nothing is computed twice
