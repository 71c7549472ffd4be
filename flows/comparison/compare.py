"""A comparison's jobs, stage by stage: one after another, or several at once in processes of their own."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from storage.claims import CLAIM, claim_store
from storage.errors import RhoflowError
from training.comparison.config import Comparison, read_comparison
from training.comparison.jobs import Job, add_seeds, claim_comparison, list_stages
from training.comparison.table import write_table
from training.comparison.text import describe_comparison

PLOT = "comparison.svg"
CPUS = len(os.sched_getaffinity(0))

Do = Callable[[Job], None]  # does a job, here or elsewhere
DoAll = Callable[[list[Job], Do], None]


def compare(config: Path, run: Path, workers: int, resume: bool, do_all: DoAll | None = None) -> str:
    """Train and judge what is not done yet; the table as text. RUN/comparison.json, .csv and .svg hold it as well.

    Raises RequestError where the config is wrong, or not the one that `run` was begun with.
    """
    comparison = read_comparison(config)
    claim_comparison(comparison, run, resume)
    do = partial(_do_and_note, choose_place(workers), comparison, run)
    (run / CLAIM).parent.mkdir(exist_ok=True)
    with claim_store(run):
        add_seeds(comparison, run)
        for stage in list_stages(comparison, run):
            left = [job for job in stage if not job.is_done]
            do_all(left, do) if do_all else do_in_turn(left, do, workers)
        return show(comparison, run)


def do_in_turn(jobs: list[Job], do: Do, workers: int) -> None:
    """So many at once; where one fails, those under way are finished, and its error is raised."""
    if workers == 1 or len(jobs) == 1:
        for job in jobs:
            do(job)
        return
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(do, job) for job in jobs]
        try:
            for future in futures:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def choose_place(workers: int) -> Do:
    """This process for one job at a time; for several a process each, which share the cores."""
    return partial(_do_in_process, threads=max(1, CPUS // workers)) if workers > 1 else _do_here


def show(comparison: Comparison, run: Path) -> str:
    """Write table and plot of what is done; the table as text."""
    rows = write_table(comparison, run)
    if find_spec("matplotlib") is None:
        return f"{describe_comparison(comparison, rows)}\n\nno {PLOT}: it needs the extra `report`"
    from flows.comparison.plot import plot_comparison

    plot_comparison(comparison, rows, run / PLOT)
    return describe_comparison(comparison, rows)


def _do_and_note(do: Do, comparison: Comparison, run: Path, job: Job) -> None:
    print(f"compare: {job.name}", flush=True)
    do(job)
    write_table(comparison, run)


def _do_here(job: Job) -> None:
    job.work()


def _do_in_process(job: Job, threads: int) -> None:
    """Raises RhoflowError where its process is killed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _begin_process, (os.getpid(), threads)) as pool:
        try:
            pool.submit(job.work).result()
        except BrokenProcessPool as error:
            raise RhoflowError(f"{job.name}: its process was killed: go on with --resume") from error


def _begin_process(parent: int, threads: int) -> None:
    """Runs first in a job's process, which does not outlive its parent: a resumed comparison would meet it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from training.device import limit_threads

    limit_threads(threads)
