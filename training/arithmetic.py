"""How numbers are computed while a network is trained: the same way every time where that is to be had."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def set_arithmetic(device: torch.device) -> Iterator[None]:
    """On a CPU the same bits every time, for the same number of threads.

    On a GPU the fastest convolutions are searched for, and sums may be taken in another order at each run.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.benchmark = True
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
