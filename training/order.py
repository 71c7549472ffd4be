"""Which samples meet in which step: a pure function of seed, epoch and step, whoever reads them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import PCG64

from storage.schema import IntArray


@dataclass(frozen=True)
class Order:
    """An epoch takes each sample once. Shards come in a new order, samples in a new one within a window of shards.

    A batch holds samples of one class; those that do not fill one wait for more of their class, in later windows, and
    make a short batch at the epoch's end.
    """

    shards: IntArray  # (samples,) where each lies: equal for those of one stored object
    classes: IntArray  # (samples,) samples of different ones never meet
    batch: int  # samples
    window: int  # shards
    seed: int

    @cached_property
    def steps(self) -> int:
        """In an epoch."""
        counts = np.unique(self.classes, return_counts=True)[1]
        return int((-(-counts // self.batch)).sum())

    def batches(self, step: int) -> Iterator[tuple[int, IntArray]]:
        """Epoch and samples of every step from `step` on, for ever."""
        epoch, begin = divmod(step, self.steps)
        while True:
            for samples in self._arrange(epoch, begin):
                yield epoch, samples
            epoch, begin = epoch + 1, 0

    def _arrange(self, epoch: int, begin: int) -> Iterator[IntArray]:
        """The epoch's batches from its step `begin` on: as if samples were dealt to their classes until one is full."""
        order = self._shuffle(epoch)
        classes = self.classes[order]
        dealt = np.argsort(classes, kind="stable")  # places in `order`, class by class
        first = np.searchsorted(classes[dealt], classes[dealt])
        starts = np.flatnonzero((np.arange(len(order)) - first) % self.batch == 0)
        ends = np.append(starts[1:], len(order))
        is_short = ends - starts < self.batch
        for k in np.lexsort((dealt[ends - 1], is_short))[begin:]:
            yield order[dealt[starts[k] : ends[k]]]

    def _shuffle(self, epoch: int) -> IntArray:
        """All samples, window by window."""
        bits = PCG64((self.seed, epoch))
        shards, number = np.unique(self.shards, return_inverse=True)
        window = _permute(bits, len(shards))[number] // self.window
        return np.lexsort((_permute(bits, len(number)), window))


def _permute(bits: PCG64, count: int) -> IntArray:
    """A permutation that no version of NumPy draws otherwise: raw bits are the same in all."""
    return np.argsort(bits.random_raw(count), kind="stable")
