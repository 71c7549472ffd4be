"""The batches of a training, in order, read ahead by threads while the last one is learned from."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch

from training.batch import Batch, Boxes, Draw
from training.catalog import Catalog
from training.order import Order

CPU = torch.device("cpu")
AHEAD = 2  # batches ready or in work, beside one for each thread


@dataclass(frozen=True)
class StreamSettings:
    """Which batches come, and who reads them. Only the first four change what is seen when."""

    batch: int  # samples of a step, over all ranks
    window: int  # shards within which samples are mixed
    seed: int
    by_class: bool  # batches hold one size class each, as whole boxes need
    rank: int = 0
    world: int = 1
    workers: int = 0  # threads; 0: every batch is read when it is asked for
    device: torch.device = CPU


@dataclass(frozen=True)
class _Part:
    """A rank's draws of a step, which may be none, and one that tells what its boxes look like."""

    draws: Sequence[Draw]
    any: Draw


@dataclass(frozen=True)
class _Arrival:
    """A batch, and what a GPU has to wait for before it may use it."""

    batch: Batch
    copied: torch.cuda.Event | None


class Stream:
    """A catalogue's samples, epoch after epoch: the same in every step, whatever ranks and workers there are."""

    def __init__(self, boxes: Boxes, catalog: Catalog, settings: StreamSettings) -> None:
        self.boxes, self.settings = boxes, settings
        classes = catalog.cells if settings.by_class else np.zeros(len(catalog), dtype=np.int64)
        self.order = Order(catalog.shards, classes, settings.batch, settings.window, settings.seed)
        is_gpu = settings.device.type == "cuda"
        self._copies = torch.cuda.Stream(settings.device) if is_gpu else None  # type: ignore[no-untyped-call]

    def batches(self, step: int) -> Generator[Batch]:
        """This rank's part of every step's batch from `step` on, for ever.

        At the end of an epoch a part may be short, or even hold no sample where a batch has fewer than there are ranks.
        Raises StoreError where a sample cannot be read, in its turn.
        """
        parts = self._draw_parts(step)
        arrivals = self._read_ahead(parts) if self.settings.workers else (self._read(part) for part in parts)
        with closing(arrivals):
            while True:
                yield self._receive(arrivals)

    def _draw_parts(self, step: int) -> Iterator[_Part]:
        rank, world = self.settings.rank, self.settings.world
        for epoch, samples in self.order.batches(step):
            draws = [Draw(sample, epoch) for sample in samples.tolist()]
            yield _Part(draws[rank::world], draws[0])

    def _read_ahead(self, parts: Iterator[_Part]) -> Generator[_Arrival]:
        workers = self.settings.workers
        pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        try:
            ahead = deque(pool.submit(self._read, next(parts)) for _ in range(workers + AHEAD))
            while True:
                yield ahead.popleft().result()
                ahead.append(pool.submit(self._read, next(parts)))
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, part: _Part) -> _Arrival:
        with torch.cuda.stream(self._copies):
            batch = self.boxes.read(part.draws or [part.any])
            if not part.draws:
                batch = Batch((), batch.guess[:0], batch.target[:0], batch.judged[:0], ())
            device = self.settings.device
            guess, target, judged = (
                values.to(device, non_blocking=True) for values in (batch.guess, batch.target, batch.judged)
            )
            copied = self._copies.record_event() if self._copies else None
        return _Arrival(replace(batch, guess=guess, target=target, judged=judged), copied)

    def _receive(self, arrivals: Iterator[_Arrival]) -> Batch:
        """The next batch, for the GPU's stream that is now in use; its memory stays until that is done with it."""
        arrival = next(arrivals)
        if arrival.copied:
            current = torch.cuda.current_stream(self.settings.device)
            current.wait_event(arrival.copied)
            for values in (arrival.batch.guess, arrival.batch.target, arrival.batch.judged):
                values.record_stream(current)
        return arrival.batch
