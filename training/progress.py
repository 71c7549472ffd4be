"""How far a training is: a bar on a terminal, plain lines in a log."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 10.0


class Meter:
    """Counts steps, with samples per second of this run and the time left."""

    def __init__(self, step: int, steps: int, batch: int) -> None:
        self.step, self.steps, self.batch = step, steps, batch
        self._begun_at, self._started, self._last_line = step, time.monotonic(), time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
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

    @property
    def samples_per_second(self) -> float:
        return (self.step - self._begun_at) * self.batch / max(1e-9, time.monotonic() - self._started)

    def advance(self, note: str) -> None:
        """One more step has been taken; `note` says how well it goes."""
        self.step += 1
        rate = self.samples_per_second
        line = f"{note}, {rate:.1f} samples/s, {(self.steps - self.step) * self.batch / rate:.0f} s left"
        if self._bar:
            self._bar.update(self._task, completed=self.step, note=line)
        elif self.step == self.steps or time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            print(f"train: {self.step}/{self.steps} steps, {line}", file=sys.stderr, flush=True)
