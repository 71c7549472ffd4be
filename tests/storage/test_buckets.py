"""A store in object storage is the store it would be on disk, and worked on by one at a time."""

import pickle
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.buckets import Bucket, connect
from storage.claims import CLAIM, JOBS, claim_shard, claim_store
from storage.errors import RequestError, StoreError
from storage.faults import explain_fault
from storage.identity import identify
from storage.layout import give_to_zarr
from storage.objects import (
    checksum_object,
    delete_object,
    has_object,
    list_keys,
    locate,
    measure_object,
    read_object,
    write_object,
)
from storage.reader import open_dataset
from storage.seal import seal
from storage.verify import find_damage
from tests.object_storage import BUCKET, SECRET, serve_buckets
from tests.storage.small_store import finish_shard, plan_store

TERM = 1.0
HOLD = """
import sys
from storage.claims import claim_shard, claim_store
from storage.objects import locate, write_object
store = locate(sys.argv[2])
with eval(sys.argv[1])(store, *eval(sys.argv[3])):
    print("held", flush=True)
    sys.stdin.readline()
    write_object(store, "written", b"late")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve_buckets(TERM) as address:
        yield address


@pytest.fixture
def bucket(server: str, request: pytest.FixtureRequest) -> Bucket:  # noqa: ARG001
    """A place of the test's own."""
    return Bucket(BUCKET, f"{request.node.name}/store.zarr")


def hold(claim: str, bucket: Bucket, *arguments: object) -> "subprocess.Popen[str]":
    """Another process that holds the claim, and writes when it gets a line."""
    command = [sys.executable, "-c", HOLD, claim, str(bucket), repr(arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes, text=True, cwd=Path(__file__).parents[2])  # type: ignore[call-overload]
    assert process.stdout.readline() == "held\n"
    return process  # type: ignore[no-any-return]


def end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_an_object_is_read_as_it_was_written_and_its_folder_is_none(bucket: Bucket) -> None:
    write_object(bucket, "work/a/b.json", b"one")
    write_object(bucket, "work/a/b.json", b"other")
    write_object(bucket, "work/ab", b"")
    assert read_object(bucket, "work/a/b.json") == b"other"
    assert measure_object(bucket, "work/a/b.json") == 5
    assert list_keys(bucket) == ["work/a/b.json", "work/ab"]
    assert list_keys(bucket, "work/a") == ["work/a/b.json"]
    assert not has_object(bucket, "work/a")
    assert checksum_object(bucket, "work/a") == ""
    delete_object(bucket, "work/a/b.json")
    delete_object(bucket, "work/a/b.json")
    assert not has_object(bucket, "work/a/b.json")


def test_a_dataset_is_the_same_in_a_bucket_and_on_disk(bucket: Bucket, build_store: Callable[[str], Path]) -> None:
    on_disk = build_store("store.zarr")
    seal(on_disk)
    plan = plan_store(bucket)
    for shard in plan.shards():
        finish_shard(bucket, plan, shard.number)
    seal(bucket)
    assert identify(bucket) == identify(on_disk)
    dataset, other = open_dataset(str(bucket)), open_dataset(on_disk)
    assert dataset.table.equals(other.table)
    assert np.array_equal(dataset["größe#0"].channels["guess"], other["größe#0"].channels["guess"])
    assert dataset.to_xarray()["cells_4"].sizes["sample"] == len(dataset)

    flipped = "cells_4/guess/c.1.0.0.0"
    content = read_object(bucket, flipped)
    write_object(bucket, flipped, content[:-1] + bytes([content[-1] ^ 1]))
    delete_object(bucket, "rows/id/c.0.0")
    found = {damage.key: damage.fault for damage in find_damage(bucket).damages}
    assert found == {flipped: "damaged", "rows/id/c.0.0": "missing"}


def test_large_objects_travel_in_one_request_which_leaves_no_parts(bucket: Bucket) -> None:
    noise = np.random.default_rng(1).random(2**21)  # 16 MiB
    array = zarr.create_array(give_to_zarr(bucket), shape=noise.shape, chunks=noise.shape, dtype="float64")
    array[...] = noise
    tag = connect(bucket).head("c/0")["e_tag"]
    assert tag is not None
    assert "-" not in tag  # S3 marks with one what came in parts
    assert measure_object(bucket, "c/0") > 10**7


def test_of_two_holders_the_second_is_refused_by_the_name_of_the_first(bucket: Bucket) -> None:
    first = hold("claim_store", bucket)
    for shared in (False, True):
        with pytest.raises(StoreError, match=f"worked on by process {first.pid} on "), claim_store(bucket, shared):
            pass
    end(first)


def test_jobs_share_a_store_and_keep_builders_out(bucket: Bucket) -> None:
    job = hold("claim_store", bucket, True)
    with claim_store(bucket, shared=True):
        pass
    with pytest.raises(StoreError, match="worked on by batch jobs"), claim_store(bucket):
        pass
    end(job)


def test_dead_jobs_are_waited_for_together(bucket: Bucket) -> None:
    jobs = [hold("claim_store", bucket, True) for _ in range(5)]
    for job in jobs:
        end(job)
    began = time.monotonic()
    with claim_store(bucket):
        assert 2 * TERM < time.monotonic() - began < 6 * TERM
        assert not list_keys(bucket, JOBS)


def test_of_many_that_come_to_a_dead_holders_claim_one_takes_it_over(bucket: Bucket) -> None:
    end(hold("claim_store", bucket))
    write_object(bucket, "free", b"")
    began, holders, refused = time.monotonic(), [0, 0], []

    def contend() -> None:
        try:
            with claim_store(bucket):
                holders[0] += 1
                holders[1] = max(holders)
                time.sleep(3 * TERM)  # as long as the others watch
                holders[0] -= 1
        except StoreError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert holders == [0, 1]
    assert len(refused) == 3
    assert time.monotonic() - began < 20 * TERM
    assert not has_object(bucket, CLAIM)


def test_a_holder_that_was_taken_for_dead_writes_no_more(bucket: Bucket) -> None:
    holder = hold("claim_store", bucket)
    holder.send_signal(signal.SIGSTOP)
    with claim_store(bucket):
        holder.send_signal(signal.SIGCONT)
        _, said = holder.communicate("write\n")
        assert "this process had not renewed its claim" in said
        assert not has_object(bucket, "written")
        assert has_object(bucket, CLAIM)


def test_a_shard_waits_for_its_holder_and_takes_it_from_the_dead(bucket: Bucket) -> None:
    holder = hold("claim_shard", bucket, 5)
    with claim_shard(bucket, 4):  # its neighbour is free
        pass
    entered = threading.Event()

    def wait() -> None:
        with claim_shard(bucket, 5):
            entered.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not entered.wait(4 * TERM)  # longer than a dead holder's claim lasts
    end(holder)
    thread.join(20 * TERM)
    assert entered.is_set()


@pytest.mark.parametrize(
    ("text", "remedy"), [("s3://", "s3://BUCKET"), ("s3://x", "s3://BUCKET"), ("gs://x/y", "s3://")]
)
def test_what_is_no_place_is_refused(text: str, remedy: str) -> None:
    with pytest.raises(RequestError, match=remedy):
        locate(text)
    assert locate("a/b.zarr") == Path("a/b.zarr")
    assert str(locate("s3://a/b/c.zarr/")) == "s3://a/b/c.zarr"


def test_refusals_name_the_remedy_and_no_secret(bucket: Bucket, server: str) -> None:
    with pytest.raises(FileNotFoundError) as gone:
        write_object(Bucket("nowhere", "x"), "key", b"")
    told = str(explain_fault(gone.value))
    assert "PUT" in told
    assert "nowhere/x/key" in told
    assert "there is no such bucket: make it" in told

    ask = urllib.request.Request(f"{server}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
    urllib.request.urlopen(ask).close()  # from now on credentials count
    with pytest.raises(Exception, match="403") as denied:
        write_object(bucket, "key", b"")
    ask = urllib.request.Request(f"{server}/moto-api/reset-auth", b"inf", {"Content-Type": "text/plain"})
    urllib.request.urlopen(ask).close()
    told = str(explain_fault(denied.value))
    assert "access is denied: check AWS_ACCESS_KEY_ID" in told
    assert SECRET not in told + repr(bucket) + str(pickle.dumps(bucket))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)  # an import raises ModuleNotFoundError
    with pytest.raises(RequestError, match=r"pip install 'rhoflow\[s3\]'"):
        open_dataset("s3://anywhere/store.zarr")
