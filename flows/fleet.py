"""Dask workers: a cluster to run on, and a window of futures that keeps it busy."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import dask
from distributed import CancelledError, Client, KilledWorker, LocalCluster, as_completed

from flows.isolation import ONE_THREAD
from storage.errors import RhoflowError

Key = TypeVar("Key")
Result = TypeVar("Result")

IN_FLIGHT_PER_SLOT = 2  # enough to keep every worker busy, few enough that a dead scheduler loses little

SETTINGS = {
    "distributed.worker.daemon": False,  # workers start children for native code
    "distributed.scheduler.allowed-failures": 10,  # lost workers are no fault of a shard: native code is in children
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
def open_cluster(workers: int, address: str | None) -> Iterator[Client]:
    """A client of the cluster at `address`, or of one on this machine with `workers` single-threaded processes."""
    with dask.config.set(SETTINGS):
        if address is not None:
            try:
                client = Client(address, timeout=20)
            except OSError as error:
                raise FleetError(f"no Dask scheduler answers at {address} ({error}): check --cluster") from error
            with client:
                yield client
            return
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


def count_slots(client: Client) -> int:
    """Calls that can run at once."""
    return sum(client.nthreads().values())


def run_everywhere(
    client: Client,
    function: Callable[[Path, Key], Result],
    store: Path,
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
        while len(names) < IN_FLIGHT_PER_SLOT * max(1, count_slots(client)) and submit_next():
            pass
