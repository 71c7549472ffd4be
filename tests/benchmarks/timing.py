"""CPU seconds of ours and of a peer, taken in turns."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Medians over the rounds; `ratio` is that of the rounds' own ratios, peer / ours."""

    ours: float
    peer: float
    ratio: float

    def __str__(self) -> str:
        return f"{self.ratio:6.1f}×  ({self.ours:.3g} s against {self.peer:.3g} s)"


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def compare(ours: Callable[[], object], peer: Callable[[], object], rounds: int = 3) -> Comparison:
    pairs = [(cpu_seconds(ours), cpu_seconds(peer)) for _ in range(rounds)]
    mine, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Comparison(mine, theirs, statistics.median(peer / own for own, peer in pairs))
