"""How far a training is: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 10.0

B = TypeVar("B")


class Stopwatch:
    """How long steps take, and how much of that they wait for their batch to be read.

    What a GPU copies, and voxels that it makes itself, are part of its work.
    """

    def __init__(self) -> None:
        self.steps, self.waited, self.idle, self._started = 0, 0.0, 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        return max(1e-9, time.monotonic() - self._started)

    @property
    def rate(self) -> float:
        """Steps per second, while there are any."""
        return self.steps / (self.seconds - self.idle)

    @property
    def wait_share(self) -> float:
        return self.waited / (self.seconds - self.idle)

    def count(self, waited: float) -> None:
        self.steps += 1
        self.waited += waited


class Meter:
    """Counts steps, with samples per second, the share of data-wait, and the time left."""

    def __init__(self, step: int, steps: int, batch: int, *, silent: bool) -> None:
        self.step, self.steps, self.batch, self.silent = step, steps, batch, silent
        self.lap = Stopwatch()
        self._whole = Stopwatch()
        self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty() and not silent:
            columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
            self._task = self._bar.add_task("train", total=steps, completed=step, note="")

    def __enter__(self) -> "Meter":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def draw(self, batches: Iterator[B]) -> B:
        """The next batch."""
        asked = time.monotonic()
        batch = next(batches)
        for watch in (self.lap, self._whole):
            watch.count(time.monotonic() - asked)
        return batch

    @contextmanager
    def pause(self) -> Iterator[None]:
        """For what is no step; the time that is left counts it, and a lap ends before it."""
        begun = time.monotonic()
        yield
        self._whole.idle += time.monotonic() - begun

    def start_lap(self) -> None:
        self.lap = Stopwatch()

    def advance(self, note: str) -> None:
        """One more step has been taken; `note` says how well it goes."""
        self.step += 1
        if self._bar:
            self._bar.update(self._task, completed=self.step, note=self._describe(note))
        elif not self.silent and (self.step == self.steps or self._is_time()):
            self._last_line = time.monotonic()
            print(f"train: {self.step}/{self.steps} steps, {self._describe(note)}", file=sys.stderr, flush=True)

    def _describe(self, note: str) -> str:
        whole = self._whole
        return (
            f"{note}, {whole.rate * self.batch:.1f} samples/s, {100 * whole.wait_share:.0f} % data-wait, "
            f"{(self.steps - self.step) * whole.seconds / whole.steps:.0f} s left"
        )

    def _is_time(self) -> bool:
        return time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES
