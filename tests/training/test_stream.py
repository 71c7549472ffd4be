"""Which crops a training sees, in which order."""

from pathlib import Path

import numpy as np
import pytest

import training.pairs
from storage.errors import StoreError
from storage.reader import open_dataset
from tests.training.gaussians import CELLS, make_conformer, sum_gaussians
from training.pairs import Pairs, split_ids
from training.stream import Stream, cut


def make_stream(store: Path, seed: int = 1, batch: int = 4, crop: int = 12) -> Stream:
    dataset = open_dataset(store)
    return Stream(Pairs(dataset, "guess", "target"), split_ids(dataset, "train"), batch, crop, 2, seed)


def test_a_step_sees_the_same_crops_whatever_was_read_before(store: Path) -> None:
    stream = make_stream(store)
    early = [stream.read(step) for step in range(6)]
    late = make_stream(store).read(5)
    assert np.array_equal(early[5].guess, late.guess)
    assert np.array_equal(early[5].target, late.target)


def test_steps_epochs_and_seeds_differ(store: Path) -> None:
    seen = [make_stream(store, seed).read(step).guess.tobytes() for seed in (1, 2) for step in (0, 1, 4)]
    assert len(set(seen)) == len(seen)


def test_every_epoch_takes_each_sample_once(store: Path) -> None:
    # A crop as large as the box is the whole box, turned: its sorted values name the sample.
    stream = make_stream(store, batch=16, crop=CELLS)
    samples = {np.sort(stream.pairs[id].guess.ravel()).tobytes() for id in stream.ids}
    assert len(samples) == 16
    for epoch in range(3):
        assert {np.sort(crop.ravel()).tobytes() for crop in stream.read(epoch).guess} == samples


def test_guess_and_target_are_cut_and_turned_alike(store: Path) -> None:
    crops = make_stream(store).read(3)
    for guess, target in zip(crops.guess, crops.target, strict=True):
        # Both have their nuclei in the same cells.
        assert np.corrcoef(guess.ravel(), target.ravel())[0, 1] > 0.95


def test_a_crop_larger_than_the_box_is_filled_with_vacuum(store: Path) -> None:
    crops = make_stream(store, crop=CELLS + 4).read(0)
    assert crops.guess.shape == (4, CELLS + 4, CELLS + 4, CELLS + 4)
    assert np.count_nonzero(crops.guess[0]) <= CELLS**3
    assert cut(np.ones((2, 2, 2), dtype=np.float32), (0, 0, 0), 3).sum() == 8


def test_pairs_beyond_the_memory_bound_are_read_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.pairs, "KEPT_BYTES", 3 * 2 * 4 * CELLS**3)
    dataset = open_dataset(store)
    pairs = Pairs(dataset, "guess", "target")
    for id in [*dataset.ids, *dataset.ids]:
        expected = sum_gaussians(make_conformer(id.removesuffix("#0")), "target")
        assert np.array_equal(pairs[id].target, expected)
    assert len(pairs._kept) == 3


def test_a_missing_channel_is_named_with_those_there_are(store: Path) -> None:
    with pytest.raises(StoreError, match=r"no channel 'sad', only guess, target: .*config"):
        Pairs(open_dataset(store), "sad", "target")
