"""Decoded boxes, kept in memory while there is room for them: a small dataset is decoded once, not in every epoch."""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

GIB = 2**30
KEPT_BYTES = 2 * GIB  # unless a config says otherwise


class KeptBoxes:
    """By sample and channel. None is dropped for another: in an epoch each is wanted once, so none is worth more."""

    def __init__(self, room: int) -> None:
        """`room`: bytes."""
        self._room = room
        self._boxes: dict[tuple[int, str], NDArray[np.float32]] = {}
        self._bytes = 0
        self._lock = Lock()

    def find(self, sample: int, channel: str) -> NDArray[np.float32] | None:
        return self._boxes.get((sample, channel))

    def add(self, sample: int, channel: str, box: NDArray[np.float32]) -> None:
        """Keep a copy, if there is room."""
        with self._lock:
            if self._bytes + box.nbytes > self._room:
                return
            self._bytes += box.nbytes
        self._boxes[sample, channel] = box.copy()
