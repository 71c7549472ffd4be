"""Memory for batches, used again: asking the system for fresh pages costs as much as reading a batch into them."""

import weakref
from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

KEPT = 16  # blocks that wait for their next use: those of a few batches


class Buffers:
    """Tensors on the CPU; what one lies in comes back when nobody holds it, or a view of it, any more."""

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=KEPT)  # its methods are atomic: no lock, from any thread

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> Tensor:
        """Uninitialised."""
        block = self._find(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        values: NDArray[Any] = np.ndarray(shape, dtype, buffer=block)  # held by the tensor alone
        weakref.finalize(values, self._free.append, block)
        return torch.from_numpy(values)

    def _find(self, size: int) -> NDArray[np.uint8]:
        """One that is not much larger, the last used first, as it may still lie in a cache."""
        for _ in range(len(self._free)):
            try:
                block = self._free.pop()
            except IndexError:  # other threads took the rest
                break
            if size <= block.nbytes <= 2 * size:
                return block
            self._free.appendleft(block)
        return np.empty(size, dtype=np.uint8)
