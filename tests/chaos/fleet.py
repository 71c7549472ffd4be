"""The processes of a build: started, found, killed, and started again."""

import os
import random
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.chaos.watch import Watch

MARK = "RHOFLOW_CHAOS"  # in the environment of every process of a build, also of one that lost its parent
TICK = 0.05
LINGER = 15.0  # seconds that a process may outlive its parent
LOCAL = ("flow", "worker", "child")  # the nannies and the scheduler live in the flow
CLUSTER = ("flow", "scheduler", "nanny", "worker", "child")
TITLES = {"flows.cli": "flow", "scheduler": "scheduler", "worker": "nanny", "uvicorn": "server"}
BELOW = {"flow": "worker", "nanny": "worker", "worker": "child"}


class Stalled(Exception):
    """The build came to no end."""


class Fleet:
    """A build on two workers, with `cluster` those of a Dask scheduler; its parts are started again when they end."""

    def __init__(self, recipe: Path, store: Path, cluster: bool) -> None:
        self._folder = store.parent
        self._commands = _write_commands(recipe, store, cluster)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._mark = uuid.uuid4().hex
        self._orphans: dict[psutil.Process, float] = {}
        self.kinds = CLUSTER if cluster else LOCAL
        self.kills: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self.faults: list[str] = []

    def keep_running(self) -> bool:
        """Start whatever has ended; False once the build itself has ended well."""
        for name, command in self._commands.items():
            code = self._running[name].poll() if name in self._running else -1
            if name == "flow" and code == 0:
                return False
            if code is not None:
                self._running[name] = self._start(command)
                self.starts[name] += 1
        return True

    def _start(self, command: list[str]) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            MARK: self._mark,
            "PREFECT_HOME": str(self._folder / "prefect"),
            "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
        }
        with (self._folder / "build.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self._folder)

    def find(self) -> dict[psutil.Process, str]:
        """Every living process of this build, with its kind: "orphan" where its parent is gone."""
        living = [process for process in psutil.process_iter() if self._owns(process)]
        kinds: dict[int, str] = {}
        for process in sorted(living, key=psutil.Process.create_time):  # parents first
            kinds[process.pid] = _tell_kind(process, kinds)
        return {process: kinds[process.pid] for process in living}

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def kill(self, kind: str, rng: random.Random) -> bool:
        """SIGKILL to one of this kind; False where there is none."""
        found = self.find()
        self._watch_orphans([process for process, name in found.items() if name == "orphan"])
        victims = [process for process, name in found.items() if name == kind]
        if not victims:
            return False
        rng.choice(victims).kill()
        self.kills[kind] += 1
        return True

    def _watch_orphans(self, orphans: Sequence[psutil.Process]) -> None:
        now = time.monotonic()
        self._orphans = {process: self._orphans.get(process, now) for process in orphans}
        for process, since in self._orphans.items():
            if now - since > LINGER:
                self.faults.append(f"{_name(process)} outlives its parent for more than {LINGER:g} s")

    def fire(self, kinds: Sequence[str], rng: random.Random, pause: float, watch: Watch, seconds: float) -> None:
        """Kill one of each of `kinds` in turn, each at a random moment within `pause` s of computing, and finish.

        Raises Stalled where that takes longer than `seconds`.
        """
        waiting, due, deadline = list(kinds), 0.0, time.monotonic() + seconds
        while self.keep_running():
            now = time.monotonic()
            if now > deadline:
                raise Stalled(f"the build has not ended within {seconds:g} s: {self.find()}")
            computing = watch.look()
            if computing and waiting:
                due = due or now + rng.uniform(0, pause)
                if now >= due and self.kill(waiting[0], rng):
                    waiting, due = waiting[1:], 0.0
            time.sleep(TICK)

    def end(self) -> None:
        """Stop the cluster, look for what is left, Prefect's servers too, and end it."""
        for names in (("nanny 1", "nanny 2"), ("scheduler", "flow")):
            ending = [self._running[name] for name in names if name in self._running]
            for process in ending:
                process.terminate()
            for process in ending:
                process.wait(60)
        deadline = time.monotonic() + LINGER
        while (left := self.find()) and time.monotonic() < deadline:
            time.sleep(TICK)
        for process, kind in left.items():
            self.faults.append(f"{_name(process)}, {kind}, is left at the end")
            process.kill()


def _write_commands(recipe: Path, store: Path, cluster: bool) -> dict[str, list[str]]:
    """Of every process that is to be kept running, by name."""
    build = [sys.executable, "-m", "flows.cli", "build", str(recipe), str(store)]
    if not cluster:
        return {"flow": [*build, "--workers", "2"]}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    dask = [sys.executable, "-m", "dask"]
    scratch = str(store.parent / "dask")
    worker = [*dask, "worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", scratch]
    return {
        "scheduler": [*dask, "scheduler", "--host", address, "--no-dashboard"],
        "nanny 1": worker,
        "nanny 2": worker,
        "flow": [*build, "--cluster", address],
    }


def _tell_kind(process: psutil.Process, kinds: dict[int, str]) -> str:
    try:
        words, parent = process.cmdline(), process.ppid()
    except psutil.Error:
        return "ended"
    title = next((TITLES[word] for word in words[2:4] if word in TITLES), None)
    if title:
        return title
    if parent not in kinds:
        return "orphan"
    return BELOW.get(kinds[parent], "other") if any("spawn_main" in word for word in words) else "other"


def _name(process: psutil.Process) -> str:
    try:
        return f"process {process.pid} ({' '.join(process.cmdline())[:120]})"
    except psutil.Error:
        return f"process {process.pid}"
