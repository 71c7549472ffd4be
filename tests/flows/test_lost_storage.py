"""Storage that is full, closed, cut off or damaged costs time, and nothing else; in buckets as on disks."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sized
from pathlib import Path

import pytest

from storage.buckets import Bucket
from storage.claims import CLAIM, claim_store
from storage.errors import StoreError
from storage.identity import identify
from storage.layout import generation_key
from storage.objects import delete_object, has_object, list_keys, read_object, write_object
from storage.reader import open_dataset
from tests.flows.small_build import build_here, command, environment, rhoflow, rhoflow_here, write_recipe
from tests.object_storage import BUCKET, SECRET, Line, serve_buckets

TERM = 1.0

# In a mount namespace of its own, where root may mount: a small disk is filled, closed and enlarged in turn.
SCRIPT = """
set -u
mount -t tmpfs -o size=64m disk "$DISK" || exit 77
rhoflow() { "$PYTHON" -m flows.cli "$@" >> "$LOG" 2>&1; echo $? >> "$LOG"; }
rhoflow plan "$RECIPE" "$DISK/store.zarr"
mount -o remount,ro "$DISK"
rhoflow run "$DISK/store.zarr"
rhoflow plan "$RECIPE" "$DISK/other.zarr"
rhoflow status "$DISK/store.zarr"
mount -o remount,rw,size=$(( $(df --output=used "$DISK" | tail -1) + 60 ))k "$DISK"
rhoflow run "$DISK/store.zarr"
mount -o remount,size=64m "$DISK"
find "$DISK/store.zarr/work/receipts" -name '*.json' -exec cp {} "$KEPT" \\;
rhoflow run "$DISK/store.zarr"
rhoflow seal "$DISK/store.zarr"
cp -r "$DISK/store.zarr" "$COPY"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve_buckets(TERM) as address:
        yield address


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    return write_recipe(folder)


@pytest.fixture(scope="module")
def expected(recipe: Path, folder: Path) -> dict[str, str]:
    """What a store of that recipe holds when nothing disturbs its making, on disk."""
    return identify(build_here(recipe, folder / "store.zarr"))


@pytest.fixture(scope="module")
def built(server: str, home: Path, scheduler: str, recipe: Path) -> Bucket:  # noqa: ARG001
    """A dataset whose build was killed once, and run again."""
    store = Bucket(BUCKET, "built/store.zarr")
    build = command("build", recipe, str(store), "--workers", 1)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(build, env=environment(home), start_new_session=True, **quiet)
    wait_for(lambda: has_object(store, generation_key(1)), running)  # its source is read: it works on it
    with pytest.raises(StoreError, match=f"worked on by process {running.pid} on "), claim_store(store):
        pass
    wait_for(lambda: list_keys(store, "work/receipts"), running)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not has_object(store, "work/seal.json")
    rhoflow(home, "build", recipe, str(store), "--cluster", scheduler)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)  # the Prefect server that the killed flow left behind
    return store


def wait_for(condition: Callable[[], bool | Sized], running: "subprocess.Popen[bytes]") -> None:
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


def test_damaged_and_lost_objects_are_named_and_mended(built: Bucket, expected: dict[str, str]) -> None:
    shard, table = (next(key for key in expected if word in key) for word in ("/target/c.0", "/spacing/c"))
    content = read_object(built, shard)
    write_object(built, shard, content[:100] + bytes([content[100] ^ 1]) + content[101:])
    delete_object(built, table)
    found = rhoflow_here("verify", str(built), code=1)
    assert f"damaged {shard} (shard " in found
    assert f"missing {table}" in found
    assert "2 restored" in rhoflow_here("verify", str(built), "--repair")
    assert identify(built) == expected


def test_a_lost_connection_ends_the_command_and_the_next_one_goes_on(
    server: str, recipe: Path, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Bucket(BUCKET, "cut/store.zarr")
    rhoflow_here("plan", recipe, str(store))
    line = Line(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.address)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command("run", str(store)), env=environment(tmp_path), text=True, **pipes) as running:
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
    rhoflow_here("run", str(store))
    rhoflow_here("seal", str(store))
    line.cut()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    assert identify(store) == expected
    assert {key: read_object(store, key) for key in kept} == kept  # nothing is computed twice


def test_full_and_read_only_disks_end_commands_clearly_and_nothing_is_lost(
    home: Path, recipe: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    log, kept, copy = tmp_path / "log", tmp_path / "kept", tmp_path / "copy.zarr"
    disk = tmp_path / "disk"
    disk.mkdir()
    kept.mkdir()
    places = {"DISK": disk, "LOG": log, "RECIPE": recipe, "KEPT": kept, "COPY": copy}
    variables = {"PYTHON": sys.executable, **{name: str(path) for name, path in places.items()}}
    enter = ["unshare", "--map-root-user", "--mount", "sh", "-c", SCRIPT]
    ended = subprocess.run(enter, env=environment(home) | variables, capture_output=True, text=True, check=False)
    if not log.exists():
        pytest.skip(f"no disk may be mounted here: {ended.stderr}")
    said = log.read_text()
    assert [line for line in said.splitlines() if line.isdigit()] == ["0", "1", "1", "0", "1", "0", "0"], said
    assert "Traceback" not in said
    assert f"{disk}/store.zarr/work/claim.json: Read-only file system: make it writable" in said
    assert f"rhoflow: {disk}/other.zarr: Read-only file system" in said
    assert f"rhoflow: {disk}/store.zarr: No space left on device: make room there. What is made is kept" in said
    assert identify(copy) == expected
    for receipt in kept.iterdir():  # what was made before the disk was full is not made again
        assert receipt.read_bytes() == (copy / "work/receipts" / receipt.name).read_bytes()
