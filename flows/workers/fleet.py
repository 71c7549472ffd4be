"""Dask workers: a cluster to run on, and a window of futures that keeps it busy."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import dask
from distributed import CancelledError, Client, KilledWorker, LocalCluster, Security, as_completed

from flows.workers.attempts import LOST_WORKERS
from flows.workers.cluster import Address, Local, Slurm, Tls, check_address, read_workers
from flows.workers.isolation import ONE_THREAD
from storage.errors import RhoflowError
from storage.objects import Location

Key = TypeVar("Key")
Result = TypeVar("Result")

IN_FLIGHT_PER_SLOT = 2  # enough to keep every worker busy, few enough that a dead scheduler loses little

SETTINGS = {
    "distributed.worker.daemon": False,  # workers start children for native code
    "distributed.scheduler.allowed-failures": LOST_WORKERS,  # no fault of a shard: native code is in children
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.worker-ttl": None,  # a long native call is no lost worker
    # Watching itself every few milliseconds cost Dask several per cent of each core.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.limit": "10s",
}


class FleetError(RhoflowError):
    """The workers cannot go on; what is done is kept, and the same command resumes."""


@contextmanager
def open_cluster(workers: int, cluster: str | None) -> Iterator[Client]:
    """A client of `cluster`, an address or a profile's file, or else of `workers` processes on this machine."""
    with dask.config.set(SETTINGS), _open(workers, cluster) as client:
        yield client


def _open(workers: int, cluster: str | None) -> AbstractContextManager[Client]:
    if cluster is None:
        return _open_local(workers)
    if "://" in cluster:
        check_address(cluster)
        return _connect(cluster, None)
    profile = read_workers(Path(cluster))
    if isinstance(profile, Local):
        return _open_local(profile.workers)
    if isinstance(profile, Address):
        return _connect(profile.address, profile.tls)
    return _open_slurm(profile)


@contextmanager
def _open_local(workers: int) -> Iterator[Client]:
    """Single-threaded processes on this machine."""
    local = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,  # the children have limits of their own
        env=ONE_THREAD,
        silence_logs="ERROR",
    )
    with local, Client(local) as client:
        yield client


@contextmanager
def _connect(address: str, tls: Tls | None) -> Iterator[Client]:
    try:
        client = Client(address, timeout=20, security=_security(tls))
    except OSError as error:
        raise FleetError(f"no Dask scheduler answers at {address} ({error}): check --cluster") from error
    with client:
        yield client


@contextmanager
def _open_slurm(profile: Slurm) -> Iterator[Client]:
    """A scheduler in this process and workers in jobs; goes on as soon as the first has started."""
    from dask_jobqueue import SLURMCluster

    seconds = {"--lifetime": profile.lifetime_minutes, "--lifetime-stagger": profile.stagger_minutes}
    environment = {"DASK_DISTRIBUTED__WORKER__DAEMON": "False", **ONE_THREAD}
    slurm = SLURMCluster(
        queue=profile.queue,
        account=profile.account,
        cores=profile.cores,
        processes=profile.cores,
        memory=f"{profile.memory_gib} GiB",
        walltime=_clock(profile.walltime_minutes),
        interface=profile.interface,
        security=_security(profile.tls),
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        worker_extra_args=[
            *("--memory-limit", "0"),  # the children have limits of their own
            *("--dashboard-address", "127.0.0.1:0"),
            *(word for option, minutes in seconds.items() for word in (option, f"{60 * minutes:g}s")),
        ],
        job_script_prologue=[*(f"export {name}={value}" for name, value in environment.items()), *profile.setup],
        job_extra_directives=[*profile.directives],
        log_directory=str(profile.logs),
    )
    jobs = math.ceil(profile.workers / profile.cores)
    with slurm, Client(slurm) as client:
        slurm.adapt(minimum_jobs=jobs, maximum_jobs=jobs, interval="5s")  # jobs that ended are submitted again
        client.wait_for_workers(1)
        yield client


def _security(tls: Tls | None) -> Security | None:
    """One certificate for every role: who holds it belongs to the cluster."""
    if tls is None:
        return None
    certificate, key = str(tls.certificate), str(tls.key)
    roles = {f"tls_{role}_{name}": file for role in ("client", "scheduler", "worker")
             for name, file in (("cert", certificate), ("key", key))}  # fmt: skip
    return Security(tls_ca_file=str(tls.ca), require_encryption=True, **roles)


def _clock(minutes: float) -> str:
    """Hours, minutes and seconds as SLURM reads them."""
    seconds = round(60 * minutes)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def count_slots(client: Client) -> int:
    """Calls that can run at once."""
    return sum(client.nthreads().values())


def run_everywhere(
    client: Client,
    function: Callable[[Location, Key], Result],
    store: Location,
    keys: Iterable[Key],
    on_done: Callable[[Result], None],
) -> None:
    """Call `function(store, key)` for every key on the workers, in order, a window at a time.

    Raises what a call raised, and FleetError where the cluster lost a call for good.
    """
    waiting = iter(keys)
    window = as_completed()
    names = {}

    def submit_next() -> bool:
        for key in waiting:
            future = client.submit(function, store, key, pure=False)
            names[future.key] = key
            window.add(future)
            return True
        return False

    for _ in range(IN_FLIGHT_PER_SLOT * max(1, count_slots(client))):
        submit_next()
    for future in window:
        key = names.pop(future.key)
        try:
            result = future.result()
        except KilledWorker as error:
            raise FleetError(f"{function.__name__} {key}: its workers died again and again ({error})") from error
        except CancelledError as error:
            raise FleetError("the Dask scheduler was lost: run the same command again to resume") from error
        on_done(result)
        future.release()
        wanted = IN_FLIGHT_PER_SLOT * max(1, count_slots(client))
        while len(names) < wanted and submit_next():
            pass
