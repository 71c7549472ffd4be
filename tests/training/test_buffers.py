"""Memory is used again only when nobody can see it any more."""

import gc

import numpy as np
import torch

from training.buffers import KEPT, Buffers


def test_memory_in_use_is_nobody_elses() -> None:
    buffers = Buffers()
    first = buffers.take((4, 5), np.float32).fill_(1)
    row, flat = first[2], first.numpy().ravel()  # views, whose tensor is gone
    del first
    for _ in range(3):
        buffers.take((4, 5), np.float32).fill_(7)
    assert row.eq(1).all()
    assert (flat == 1).all()


def test_memory_is_used_again_once_it_is_free() -> None:
    buffers = Buffers()
    place = buffers.take((64, 64), np.float32).data_ptr()
    gc.collect()
    assert buffers.take((60, 64), np.float32).data_ptr() == place
    assert buffers.take((4, 4), np.float32).data_ptr() != place  # much smaller: it would be held for nothing
    assert buffers.take((65, 64), np.float32).data_ptr() != place


def test_no_more_than_a_few_blocks_wait() -> None:
    buffers = Buffers()
    held = [buffers.take((8,), np.float32) for _ in range(3 * KEPT)]
    places = {values.data_ptr() for values in held}
    del held
    again = [buffers.take((8,), np.float32) for _ in range(3 * KEPT)]
    assert len(buffers._free) == 0
    assert len(places & {values.data_ptr() for values in again}) >= KEPT


def test_tensors_are_of_the_kind_asked_for() -> None:
    buffers = Buffers()
    assert buffers.take((2, 3), np.bool_).dtype == torch.bool
    assert buffers.take((2, 3), np.float32).dtype == torch.float32
    assert buffers.take((0, 3), np.float32).shape == (0, 3)
