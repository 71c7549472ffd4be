"""A child process for native code: what crashes, hangs or eats memory there costs one call, by name."""

import ctypes
import functools
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from pipeline.failures import Crashed, MoleculeFailed, OutOfMemory, TimedOut
from storage.errors import RhoflowError

T = TypeVar("T")

GIB = 2**30
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
# Memory once had is kept: Dask has its workers return it at once, which cost DFT 40 % of its time in page faults.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(GIB), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
CRASH_ATTEMPTS = 3  # a kill from outside looks the same: only three crashes, alone each time, are the molecule's own
TIME_ATTEMPTS = 2  # the second with twice the time
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Report(Generic[T]):
    """How a call in the child ended, with the CPU seconds it took there."""

    end: T | MoleculeFailed
    seconds: float
    attempts: int = 1


class Child:
    """One process that computes one call at a time, with limits on memory and on the time of each call."""

    def __init__(self, memory_gib: float) -> None:
        os.environ.update(ONE_THREAD | KEEP_MEMORY)  # inherited: BLAS and malloc read it when the child starts
        if multiprocessing.current_process().daemon:
            raise RhoflowError(
                "this Dask worker may not start child processes: start workers with "
                "DASK_DISTRIBUTED__WORKER__DAEMON=False in their environment"
            )
        context = multiprocessing.get_context("spawn")
        limits = (int(memory_gib * GIB), os.getpid())
        self._memory_gib = memory_gib
        self._pool = ProcessPool(max_workers=1, initializer=_limit_process, initargs=limits, context=context)

    def run(self, function: Callable[..., T], *arguments: Any, seconds: float) -> Report[T]:
        """Call `function` in the child. A MoleculeFailed is its end like any value; other exceptions are raised."""
        spent, crashes, overruns = 0.0, 0, 0
        while True:
            allowed = seconds * 2**overruns
            started = time.monotonic()
            try:
                end, used = self._pool.schedule(_measure, (function, *arguments), timeout=allowed).result()
                return Report(end, spent + used, 1 + crashes + overruns)
            except TimeoutError:
                overruns += 1
                if overruns == TIME_ATTEMPTS:
                    failure: MoleculeFailed = TimedOut(
                        f"not done within {allowed:g} s: raise limits.seconds_per_molecule and retry"
                    )
                    return Report(failure, spent + time.monotonic() - started, crashes + overruns)
            except ProcessExpired as error:
                crashes += 1
                if crashes == CRASH_ATTEMPTS:
                    failure = Crashed(
                        f"the native code ended its process {CRASH_ATTEMPTS} times (exit code {error.exitcode}), "
                        f"or was refused memory beyond {self._memory_gib:g} GiB (limits.memory_gib)"
                    )
                    return Report(failure, spent + time.monotonic() - started, crashes + overruns)
            spent += time.monotonic() - started

    def close(self) -> None:
        """End the process; a call under way is lost."""
        self._pool.stop()
        self._pool.join()


@functools.cache
def shared_child(memory_gib: float) -> Child:
    """The child of this process: starting one costs seconds of imports, so that it serves every call."""
    return Child(memory_gib)


def _limit_process(memory: int, parent: int) -> None:
    """Runs first in the child: it may not outgrow its memory, nor outlive its parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _measure(function: Callable[..., T], *arguments: Any) -> tuple[T | MoleculeFailed, float]:
    started = time.process_time()
    try:
        end: T | MoleculeFailed = function(*arguments)
    except MoleculeFailed as failure:
        end = failure
    except MemoryError:
        end = OutOfMemory("needs more memory than limits.memory_gib allows: raise it, or use a smaller grid or basis")
    return end, time.process_time() - started
