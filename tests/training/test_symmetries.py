"""The 48 symmetries of a cube."""

import numpy as np
import pytest

from training.symmetries import COUNT, turn, turn_back

CUBE = np.random.default_rng(0).random((2, 3, 3, 3), dtype=np.float32)


@pytest.mark.parametrize("symmetry", range(COUNT))
def test_turning_back_undoes_turning(symmetry: int) -> None:
    assert np.array_equal(turn_back(turn(CUBE, symmetry), symmetry), CUBE)
    assert np.array_equal(turn(CUBE, symmetry)[1], turn(CUBE[1], symmetry))


def test_there_are_48_different_ones() -> None:
    assert len({turn(CUBE, symmetry).tobytes() for symmetry in range(COUNT)}) == COUNT == 48


def test_neighbours_stay_neighbours() -> None:
    where = np.stack(np.meshgrid(*[np.arange(3.0, dtype=np.float32)] * 3, indexing="ij"))
    for symmetry in range(COUNT):
        turned = turn(where, symmetry)
        for axis in (1, 2, 3):
            assert np.all(np.abs(np.diff(turned, axis=axis)).sum(axis=0) == 1)
