"""A store is built by one at a time; what was killed holds nothing."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from storage.claims import claim_shard, claim_store
from storage.errors import StoreError
from storage.header import Header, begin_store, claim_begun, read_header

HOLD = """
import sys, time
from pathlib import Path
from storage.claims import claim_shard, claim_store
with eval(sys.argv[1])(Path(sys.argv[2]), *eval(sys.argv[3])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path


def hold(claim: str, store: Path, *arguments: object) -> "subprocess.Popen[str]":
    """Another process that holds the claim."""
    command = [sys.executable, "-c", HOLD, claim, str(store), repr(arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_second_builder_is_refused_by_the_name_of_the_first(store: Path) -> None:
    first = hold("claim_store", store)
    for shared in (False, True):
        with pytest.raises(StoreError, match=f"worked on by process {first.pid} on "), claim_store(store, shared):
            pass
    end(first)
    with claim_store(store):  # what is dead holds nothing
        pass


def test_who_works_on_a_store_goes_by_its_recipe(tmp_path: Path) -> None:
    store, begun, limits = tmp_path / "a.zarr", Header({"limits": {"s": 5}}, ""), Header({"limits": {"s": 1}}, "")
    begin_store(store, begun)
    first = hold("claim_store", store)
    begin_store(store, begun)
    with pytest.raises(StoreError, match=f"worked on by process {first.pid} on "):
        begin_store(store, limits)
    assert read_header(store) == begun
    end(first)
    begin_store(store, limits)
    with claim_begun(store, limits):
        pass
    with pytest.raises(StoreError, match="was begun with another recipe just now"), claim_begun(store, begun):
        pass


def test_batch_jobs_share_a_store_and_keep_builders_out(store: Path) -> None:
    first = hold("claim_store", store, True)
    with claim_store(store, shared=True):
        pass
    with pytest.raises(StoreError, match="worked on by batch jobs"), claim_store(store):
        pass
    end(first)


@pytest.mark.parametrize("ended", ["killed", "still at it"])
def test_a_shard_waits_for_its_holder_and_for_no_other(store: Path, ended: str) -> None:
    holder = hold("claim_shard", store, 5)
    with claim_shard(store, 4):  # its neighbour is free
        pass
    waited: list[float] = []

    def wait() -> None:
        with claim_shard(store, 5):
            waited.append(time.monotonic())

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(0.3)
    assert not waited
    if ended == "killed":
        end(holder)
        thread.join(10)
        assert waited
    else:
        assert thread.is_alive()
        end(holder)
        thread.join(10)


def test_threads_of_one_process_exclude_each_other(store: Path) -> None:
    inside, most = [0], [0]

    def compute() -> None:
        with claim_shard(store, 1):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            inside[0] -= 1

    threads = [threading.Thread(target=compute) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
