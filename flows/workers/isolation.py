"""A child process for native code: what crashes, hangs or eats memory there costs one call, by name."""

import ctypes
import multiprocessing
import os
import pickle
import re
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Generic, TypeVar

from flows.workers.attempts import CRASHES, KILLS, OVERRUNS, STARTS
from pipeline.failures import Crashed, MoleculeFailed, OutOfMemory, TimedOut
from storage.errors import RhoflowError

T = TypeVar("T")

GIB = 2**30
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
# Memory once had is kept: Dask has its workers return it at once, which cost DFT 40 % of its time in page faults.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(GIB), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
PR_SET_PDEATHSIG = 1
SECONDS_TO_READ = 600.0  # at most, to import and to read a call's arguments: longer than any disk that is alive
SECONDS_TO_EXIT = 10.0
LONGEST = 1e6  # seconds that one wait may be asked for
READY, BEGUN = b"ready", b"begun"  # what the child says before it answers, and before it computes
KILLED = {-signal.SIGKILL, -signal.SIGTERM}

# A child is killed when the thread that started it ends: this one outlives all others, until the process itself ends,
# which else would wait for its children. It also waits for their ends: an exit code is told once, to who asks first.
_starter = ThreadPoolExecutor(1)
Finalize(None, _starter.shutdown, exitpriority=1)


@dataclass(frozen=True)
class Report(Generic[T]):
    """How a call in the child ended, with the CPU seconds it took there."""

    end: T | MoleculeFailed
    seconds: float
    attempts: int = 1
    peak_gib: float = 0.0  # the most memory that the child has used so far


class _Overran(Exception):
    """The call took longer than it was allowed."""


class _Ended(Exception):
    """The process ended, before it was ready for the call or in it."""

    def __init__(self, exit_code: int, *, was_ready: bool) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code
        self.was_ready = was_ready


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
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        line, its_end = context.Pipe()
        arguments = (its_end, int(self.memory_gib * GIB), os.getpid())
        process = context.Process(target=_serve, args=arguments, daemon=True)
        _starter.submit(process.start).result()
        its_end.close()  # ours is a copy: with it open, the child's end would go unseen
        self._line, self._process, self._is_ready = line, process, False

    def run(self, function: Callable[..., T], *arguments: Any, seconds: float) -> Report[T]:
        """Call `function` in the child. A MoleculeFailed is its end like any value; faults of the machine are raised.

        Whoever interrupts this has to close the child.
        """
        call = pickle.dumps((function, arguments), pickle.HIGHEST_PROTOCOL)
        spent, crashes, kills, overruns, breaks = 0.0, 0, 0, 0, 0
        while True:
            allowed = seconds * 2**overruns
            started = time.monotonic()
            try:
                report = self._call(call, allowed)
                return replace(report, seconds=spent + report.seconds, attempts=1 + crashes + kills + overruns)
            except _Overran:
                overruns += 1
                if overruns == OVERRUNS:
                    failure: MoleculeFailed = TimedOut(
                        f"not done within {allowed:g} s: raise limits.seconds_per_molecule"
                    )
                    return Report(failure, spent + time.monotonic() - started, crashes + kills + overruns)
            except _Ended as ended:
                if not ended.was_ready:
                    breaks += 1
                    if breaks == STARTS:
                        raise RhoflowError(
                            f"a child process ends before it can compute ({ended}): check the memory of this machine, "
                            f"and that limits.memory_gib ({self.memory_gib:g}) is not more than it allows (ulimit -d)"
                        ) from ended
                    continue
                is_kill = ended.exit_code in KILLED
                crashes, kills = crashes + (not is_kill), kills + is_kill
                if crashes == CRASHES or kills == KILLS:
                    failure = Crashed(
                        f"its process ended {crashes + kills} times (the last time with {ended}), "
                        f"or was refused memory beyond {self.memory_gib:g} GiB (limits.memory_gib)"
                    )
                    return Report(failure, spent + time.monotonic() - started, crashes + kills + overruns)
            spent += time.monotonic() - started

    def _call(self, call: bytes, seconds: float) -> Report[Any]:
        """Raises _Ended, _Overran, and what is the machine's fault. The next call finds a child in any case."""
        if self._is_ready and self._line.poll():  # it was asked nothing: this is its end, killed while idle
            self._replace()
        was_ready = has_begun = False
        try:
            if not self._is_ready:
                self._hear(SECONDS_TO_READ)
            was_ready = self._is_ready = True
            self._line.send_bytes(call)
            answer = self._hear(SECONDS_TO_READ)
            has_begun = True
            if answer == BEGUN:
                answer = self._hear(seconds)
        except (EOFError, OSError):  # of the line: those of the function are answers
            raise _Ended(self._replace(), was_ready=was_ready) from None
        except _Overran:
            self._process.kill()
            exit_code = self._replace()
            if has_begun:
                raise
            raise _Ended(exit_code, was_ready=False) from None
        report = pickle.loads(answer)
        if isinstance(report, Exception):
            raise report
        assert isinstance(report, Report)
        return report

    def _hear(self, seconds: float) -> bytes:
        """What the child says next. Raises _Overran, and EOFError or OSError where its end of the line is closed."""
        if not self._line.poll(min(seconds, LONGEST)):
            raise _Overran
        return self._line.recv_bytes()

    def _replace(self) -> int:
        """Start another process in place of one that has ended or is about to; returns its exit code."""
        exit_code = _starter.submit(_wait_for_end, self._process).result()
        self._line.close()
        self._start()
        return exit_code

    def close(self) -> None:
        """End the process; a call under way is lost."""
        self._process.kill()
        self._process.join()
        self._line.close()


def _wait_for_end(process: BaseProcess) -> int:
    """Its exit code, even where somebody else is just being told it."""
    for seconds in (SECONDS_TO_EXIT, 1.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if process.exitcode is not None:
                return process.exitcode
            time.sleep(0.01)
        process.kill()
    return -signal.SIGKILL


_free: list[Child] = []  # those that have nothing to do


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


def _serve(line: Connection, memory: int, parent: int) -> None:
    """The child: answers calls until its parent hangs up."""
    _limit_process(memory, parent)
    os.set_inheritable(line.fileno(), False)  # what it starts itself must not keep the line open after its end
    line.send_bytes(READY)
    while True:
        try:
            call = line.recv_bytes()
        except EOFError:
            return
        line.send_bytes(_measure(call, line))


def _limit_process(memory: int, parent: int) -> None:
    """It may not outgrow its memory, nor outlive its parent, which is the one to hear of Ctrl-C."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def _measure(call: bytes, line: Connection) -> bytes:
    """A report of the call, with its CPU seconds and the process's largest memory until now; or the machine's fault.

    It keeps nothing of the call, least of all a traceback: the arrays of one molecule are the next one's memory.
    """
    started = time.process_time()
    try:
        function, arguments = pickle.loads(call)
        line.send_bytes(BEGUN)  # what its arguments import is imported: its time begins
        started = time.process_time()
        return _report(function(*arguments), started)
    except MoleculeFailed as failure:
        return _report(failure, started)
    except MemoryError:
        return _report(
            OutOfMemory("needs more memory than limits.memory_gib allows: raise it, or use a smaller grid or basis"),
            started,
        )
    except (ImportError, OSError, RhoflowError) as fault:  # the machine's, not the molecule's
        return _pickle_fault(fault)
    except Exception as error:  # no molecule, however odd, stops a build of a million others
        traceback.print_exc()
        text = f"{type(error).__name__}: {error} (a fault of rhoflow or of a library: please report it)"
        return _report(Crashed(text), started)


def _report(end: Any, started: float) -> bytes:
    report = Report(end, time.process_time() - started, peak_gib=_find_peak())
    return pickle.dumps(report, pickle.HIGHEST_PROTOCOL)


def _find_peak() -> float:
    """GiB. The kernel's ru_maxrss would begin with the memory of the parent."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / GIB if found else 0.0


def _pickle_fault(fault: Exception) -> bytes:
    try:
        told = pickle.dumps(fault)
        pickle.loads(told)
    except Exception:  # an exception may hold anything
        return pickle.dumps(OSError(f"{type(fault).__name__}: {fault}"))
    return told
