"""What goes wrong in native code costs one call, by name."""

import ctypes
import errno
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest

from flows.workers.attempts import KILLS
from flows.workers.isolation import Child, Report, borrow_child
from pipeline.failures import Crashed, NotConverged, OutOfMemory, TimedOut


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child(memory_gib=1.0)
    yield child
    child.close()


def square(x: int) -> int:
    return x * x


def fail() -> None:
    raise NotConverged("after 50 cycles")


def break_ours() -> None:
    raise ZeroDivisionError("a bug")


def break_machine() -> None:
    raise OSError("no such device")


def crash(log: Path) -> None:
    with log.open("a") as file:
        file.write("x")
    ctypes.string_at(0)


def crash_once(log: Path) -> str:
    if not log.exists():
        log.write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die_until(times: int, log: Path, by: signal.Signals) -> str:
    with log.open("a") as file:
        file.write("x")
    if log.stat().st_size <= times:
        os.kill(os.getpid(), by)
        time.sleep(10)
    return "done"


def make_large(count: int) -> bytes:
    return b"x" * count


def read_slowly() -> int:
    time.sleep(1)
    return 3


def read_nothing() -> None:
    raise ImportError("no such library")


class AbortsWhenRead:
    def __reduce__(self) -> Any:
        return os.abort, ()


class SlowToRead:
    def __reduce__(self) -> Any:
        return read_slowly, ()


class Unreadable:
    def __reduce__(self) -> Any:
        return read_nothing, ()


def fail_with(count: int) -> None:
    held = np.ones(count)
    try:
        held[0] = 1 / held[1:0].sum(dtype=int).item()
    except ZeroDivisionError as error:
        raise NotConverged("with much in memory") from error


def fill(count: int) -> float:
    return float(np.ones(count).sum())


def time_out_on_disk() -> None:
    raise TimeoutError(errno.ETIMEDOUT, "the disk does not answer")


class Locked(OSError):
    def __init__(self) -> None:
        super().__init__("a lock")
        self.lock = Lock()


def lock_up() -> None:
    raise Locked


def refuse_to_end() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def crash_beside_another() -> None:
    subprocess.Popen(["sleep", "60"], close_fds=False)
    os.abort()


def hang() -> None:
    time.sleep(60)


def eat() -> float:
    return float(np.ones(2**28).sum())  # 2 GiB


def name_slowly() -> int:
    time.sleep(1)
    return os.getpid()


def borrow_to_name() -> Report[int]:
    with borrow_child(0.9) as child:
        return child.run(name_slowly, seconds=30)


def borrow_and_end() -> None:
    with borrow_child(0.9) as child:
        child.run(os.abort, seconds=30)  # replaced three times
        child.run(refuse_to_end, seconds=30)


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_value_comes_back(child: Child) -> None:
    assert child.run(square, 7, seconds=30).end == 49


def test_a_failed_molecule_is_a_value(child: Child) -> None:
    end = child.run(fail, seconds=30).end
    assert isinstance(end, NotConverged)
    assert str(end) == "after 50 cycles"


def test_an_unforeseen_exception_is_its_molecules_own_and_a_fault_of_the_machine_is_raised(child: Child) -> None:
    end = child.run(break_ours, seconds=30).end
    assert isinstance(end, Crashed)
    assert str(end).startswith("ZeroDivisionError: a bug (a fault of rhoflow or of a library")
    with pytest.raises(OSError, match="no such device"):
        child.run(break_machine, seconds=30)


def test_a_crash_is_the_molecules_own_only_after_three_attempts(child: Child, tmp_path: Path) -> None:
    report = child.run(crash, tmp_path / "log", seconds=30)
    assert isinstance(report.end, Crashed)
    assert (tmp_path / "log").read_text() == "xxx"
    assert child.run(square, 3, seconds=30).end == 9


def test_a_child_that_dies_with_half_an_argument_is_replaced(child: Child) -> None:
    pid = child.run(os.getpid, seconds=30).end
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        end = threads.submit(child.run, len, b"x" * 10**7, seconds=30)
        time.sleep(0.5)  # the pipe is full
        os.kill(pid, signal.SIGKILL)
        assert end.result(60).end == 10**7


def test_an_answer_too_large_to_send_is_named_and_a_large_one_comes_back(child: Child) -> None:
    assert isinstance(child.run(make_large, 6 * 10**8, seconds=30).end, OutOfMemory)  # twice that does not fit
    assert child.run(make_large, 10**7, seconds=30).end == b"x" * 10**7


def test_arguments_that_kill_their_reader_are_their_calls_own(child: Child) -> None:
    report = child.run(square, AbortsWhenRead(), seconds=30)
    assert isinstance(report.end, Crashed)
    assert report.attempts == 3
    assert child.run(square, 4, seconds=30).end == 16


def test_reading_the_arguments_costs_no_call_its_time(child: Child) -> None:
    assert child.run(square, SlowToRead(), seconds=0.5) == Report(9, pytest.approx(0, abs=0.1), 1, ANY)


def test_arguments_that_cannot_be_read_are_told(child: Child) -> None:
    with pytest.raises(ImportError, match="no such library"):
        child.run(square, Unreadable(), seconds=30)
    assert child.run(square, 4, seconds=30).end == 16


def test_what_failed_leaves_its_memory_to_the_next(child: Child) -> None:
    size = 6 * 10**7  # 0.45 GiB: twice that does not fit
    for _ in range(2):
        assert isinstance(child.run(fail_with, size, seconds=30).end, NotConverged)
        assert child.run(fill, size, seconds=30).end == size


def test_a_disk_that_does_not_answer_is_no_molecules_overrun(child: Child) -> None:
    with pytest.raises(TimeoutError, match="the disk does not answer"):
        child.run(time_out_on_disk, seconds=30)
    with pytest.raises(OSError, match="Locked: a lock"):
        child.run(lock_up, seconds=30)


@pytest.mark.parametrize("seconds", [1e8, float("inf")])
def test_a_limit_may_be_as_long_as_anyone_likes(child: Child, seconds: float) -> None:
    assert child.run(square, 4, seconds=seconds).end == 16


def test_what_a_call_starts_itself_does_not_hide_its_end(child: Child) -> None:
    started = time.monotonic()
    assert isinstance(child.run(crash_beside_another, seconds=30).end, Crashed)
    assert time.monotonic() - started < 30


def test_the_peak_is_the_childs_own() -> None:
    large = np.ones(10**8)  # of the parent
    fresh = Child(memory_gib=1.0)
    assert 0 < fresh.run(square, 2, seconds=30).peak_gib < large.nbytes / 2**30 / 2
    fresh.close()


def test_a_kill_from_outside_costs_nobody_anything(child: Child, tmp_path: Path) -> None:
    report = child.run(crash_once, tmp_path / "log", seconds=30)
    assert report.end == "done"
    assert report.attempts == 2


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_no_number_of_kills_that_chance_can_explain_is_blamed_on_a_molecule(
    child: Child, tmp_path: Path, by: signal.Signals
) -> None:
    report = child.run(die_until, 5, tmp_path / "log", by, seconds=30)
    assert report.end == "done"
    assert report.attempts == 6


def test_what_is_killed_time_after_time_is_crashed(child: Child, tmp_path: Path) -> None:
    report = child.run(die_until, KILLS, tmp_path / "log", signal.SIGKILL, seconds=30)
    assert isinstance(report.end, Crashed)
    assert report.attempts == KILLS
    assert (tmp_path / "log").read_text() == "x" * KILLS


def test_a_hanging_call_ends_after_its_second_and_longer_chance(child: Child) -> None:
    started = time.monotonic()
    report = child.run(hang, seconds=0.5)
    assert isinstance(report.end, TimedOut)
    assert report.attempts == 2
    assert time.monotonic() - started < 20


def test_memory_beyond_the_limit_is_named(child: Child) -> None:
    assert isinstance(child.run(eat, seconds=30).end, OutOfMemory)


def test_the_seconds_are_those_computed_in_the_child(child: Child) -> None:
    assert child.run(spin, 0.3, seconds=30).seconds == pytest.approx(0.3, abs=0.1)


def test_a_child_killed_while_idle_is_replaced(child: Child) -> None:
    os.kill(child.run(os.getpid, seconds=30).end, signal.SIGKILL)  # type: ignore[arg-type]
    assert child.run(square, 5, seconds=30).end == 25
    os.kill(child.run(os.getpid, seconds=30).end, signal.SIGKILL)  # type: ignore[arg-type]
    time.sleep(1)
    assert child.run(square, 6, seconds=30).end == 36


def test_a_child_outlives_the_thread_that_borrowed_it_first() -> None:
    seen: list[Report[int]] = []
    for _ in range(2):
        thread = Thread(target=lambda: seen.append(borrow_to_name()))
        thread.start()
        thread.join()
    first, second = seen
    assert first.end == second.end
    assert second.attempts == 1


def test_threads_compute_side_by_side_each_in_a_child_of_its_own() -> None:
    with ThreadPoolExecutor(2) as threads:
        ends = [threads.submit(borrow_to_name) for _ in range(2)]
    assert len({end.result().end for end in ends}) == 2


def test_a_process_ends_although_it_has_a_child() -> None:
    process = multiprocessing.get_context("spawn").Process(target=borrow_and_end)
    process.start()
    process.join(60)
    code = process.exitcode
    process.kill()
    assert code == 0
