"""A child process for native code: what crashes, hangs or eats memory there costs one call, by name."""

import ctypes
import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from pebble import ProcessExpired, ProcessPool

from flows.attempts import CRASHES, KILLS, OVERRUNS, STARTS
from pipeline.failures import Crashed, MoleculeFailed, OutOfMemory, TimedOut
from storage.errors import RhoflowError

T = TypeVar("T")

GIB = 2**30
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
# Memory once had is kept: Dask has its workers return it at once, which cost DFT 40 % of its time in page faults.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(GIB), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
PR_SET_PDEATHSIG = 1
# SIGTERM ends the child in pebble's handler, with the signal's number, or before that is installed.
KILLED = {-signal.SIGKILL, -signal.SIGTERM, int(signal.SIGTERM)}

_starter = ThreadPoolExecutor(1)  # a child is killed when the thread that started it ends: this one outlives all others


@dataclass(frozen=True)
class Report(Generic[T]):
    """How a call in the child ended, with the CPU seconds it took there."""

    end: T | MoleculeFailed
    seconds: float
    attempts: int = 1
    peak_gib: float = 0.0  # the most memory that the child has used so far


class Child:
    """One process that computes one call at a time, with limits on memory and on the time of each call."""

    def __init__(self, memory_gib: float) -> None:
        os.environ.update(ONE_THREAD | KEEP_MEMORY)  # inherited: BLAS and malloc read it when the child starts
        if multiprocessing.current_process().daemon:
            raise RhoflowError(
                "this Dask worker may not start child processes: start workers with "
                "DASK_DISTRIBUTED__WORKER__DAEMON=False in their environment"
            )
        self.memory_gib = memory_gib
        self._pool = self._start()
        _living.add(self)

    def _start(self) -> ProcessPool:
        context = multiprocessing.get_context("spawn")
        limits = (int(self.memory_gib * GIB), os.getpid())
        pool = ProcessPool(max_workers=1, initializer=_limit_process, initargs=limits, context=context)
        _starter.submit(getattr, pool, "active").result()  # looked at for the first time, it starts
        return pool

    def _schedule(self, function: Callable[..., Any], arguments: tuple[Any, ...], seconds: float) -> Any:
        """A future. A process that was killed while it had nothing to do is replaced first."""
        if not self._pool.active:
            self.close()
            self._pool = self._start()
        return self._pool.schedule(function, arguments, timeout=seconds)

    def run(self, function: Callable[..., T], *arguments: Any, seconds: float) -> Report[T]:
        """Call `function` in the child. A MoleculeFailed is its end like any value; other exceptions are raised."""
        spent, crashes, kills, overruns, breaks = 0.0, 0, 0, 0, 0
        while True:
            allowed = seconds * 2**overruns
            started = time.monotonic()
            try:
                end, used, peak = self._schedule(_measure, (function, *arguments), allowed).result()
                return Report(end, spent + used, 1 + crashes + kills + overruns, peak)
            except TimeoutError:
                overruns += 1
                if overruns == OVERRUNS:
                    failure: MoleculeFailed = TimedOut(
                        f"not done within {allowed:g} s: raise limits.seconds_per_molecule"
                    )
                    return Report(failure, spent + time.monotonic() - started, crashes + kills + overruns)
            except BrokenProcessPool as error:
                breaks += 1
                if breaks == STARTS:
                    raise RhoflowError(
                        f"a child process ends before it can compute ({error}): check the memory of this machine, and "
                        f"that limits.memory_gib ({self.memory_gib:g}) is not more than it allows (ulimit -d)"
                    ) from error
            except ProcessExpired as error:
                is_kill = error.exitcode in KILLED
                crashes, kills = crashes + (not is_kill), kills + is_kill
                if crashes == CRASHES or kills == KILLS:
                    failure = Crashed(
                        f"its process ended {crashes + kills} times (the last time with exit code {error.exitcode}), "
                        f"or was refused memory beyond {self.memory_gib:g} GiB (limits.memory_gib)"
                    )
                    return Report(failure, spent + time.monotonic() - started, crashes + kills + overruns)
            spent += time.monotonic() - started

    def close(self) -> None:
        """End the process; a call under way is lost."""
        self._pool.stop()
        self._pool.join()


_living: WeakSet[Child] = WeakSet()  # of this process
_free: list[Child] = []  # those that have nothing to do


def _end_children() -> None:
    """A process that multiprocessing started, as Dask's workers are, waits at its end for children of its own."""
    for child in list(_living):
        child.close()


Finalize(None, _end_children, exitpriority=1)


@contextmanager
def borrow_child(memory_gib: float) -> Iterator[Child]:
    """A child that nobody else uses, for a while. It outlives the call: starting one costs seconds of imports."""
    try:
        child = _free.pop()
    except IndexError:
        child = Child(memory_gib)
    if child.memory_gib != memory_gib:
        child.close()
        child = Child(memory_gib)
    try:
        yield child
    except BaseException:  # its call may still be under way
        child.close()
        raise
    _free.append(child)


def _limit_process(memory: int, parent: int) -> None:
    """Runs first in the child: it may not outgrow its memory, nor outlive its parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def _measure(function: Callable[..., T], *arguments: Any) -> tuple[T | MoleculeFailed, float, float]:
    """How the call ended, its CPU seconds, and the process's largest memory until now, GiB."""
    started = time.process_time()
    try:
        end: T | MoleculeFailed = function(*arguments)
    except MoleculeFailed as failure:
        end = failure
    except MemoryError:
        end = OutOfMemory("needs more memory than limits.memory_gib allows: raise it, or use a smaller grid or basis")
    except (ImportError, OSError):  # the machine's fault, not the molecule's
        raise
    except Exception as error:  # no molecule, however odd, stops a build of a million others
        traceback.print_exc()
        end = Crashed(f"{type(error).__name__}: {error} (a fault of rhoflow or of a library: please report it)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    return end, time.process_time() - started, peak
