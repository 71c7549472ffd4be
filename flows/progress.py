"""How far a stage is: a bar on a terminal, plain lines in a log."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10


class Meter:
    """Counts the units of one stage, with their rate and the time left."""

    def __init__(self, title: str, total: int, done: int = 0, unit: str = "molecules") -> None:
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self.failed = 0
        self._begun_at, self._started, self._last_line = done, time.monotonic(), time.monotonic()
        self._bar = self._task = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> "Meter":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None:
            self._print_line()

    def advance(self, count: int, failed: int = 0) -> None:
        """`count` more units have ended, `failed` of them without a result."""
        self.done += count
        self.failed += failed
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=self._note())
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._print_line()

    @property
    def rate(self) -> float:
        """Units per second of this run."""
        return (self.done - self._begun_at) / max(1e-9, time.monotonic() - self._started)

    def _note(self) -> str:
        return f"{self.rate:.2f} {self.unit}/s" + (f", {self.failed} failed" if self.failed else "")

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        left = (self.total - self.done) / self.rate if self.rate > 0 else float("nan")
        print(f"{self.title}: {self.done}/{self.total} {self.unit}, {self._note()}, {left:.0f} s left", file=sys.stderr)
