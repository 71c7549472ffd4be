"""Every rank, reader and resumed run sees its part of the same batches, and faults come in their turn."""

import re
import threading
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.errors import StoreError
from tests.training.gaussians import GRID, make_grid, write_store
from training.batch import Batch, Draw
from training.catalog import Catalog, read_catalog
from training.progress import Meter
from training.stored import Cutting, StoredBoxes
from training.stream import Stream, StreamSettings

CHANNELS = ("guess", "target")
Ids = list[tuple[str, ...]]


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """23 samples in two size classes."""
    grids = [GRID, make_grid((12,) * 3), GRID]
    store = write_store(tmp_path_factory.mktemp("stream") / "some.zarr", {"train": 23}, grids=grids)
    return read_catalog([store], "train", CHANNELS)


def open_stream(catalog: Catalog, *, crop: int = 0, rank: int = 0, world: int = 1, workers: int = 0) -> Stream:
    boxes = StoredBoxes(catalog, *CHANNELS, Cutting(crop, 2, turn=True, seed=4))
    settings = StreamSettings(6, 2, 9, by_class=not crop, rank=rank, world=world, workers=workers)
    return Stream(boxes, catalog, settings)


def take(stream: Stream, first: int, last: int) -> list[Batch]:
    batches = stream.batches(first)
    taken = list(islice(batches, last - first))
    batches.close()
    return taken


def gather(catalog: Catalog, world: int, workers: int, first: int, last: int, crop: int = 0) -> Ids:
    """Ids of every step from `first` to `last` (exclusive), put together from all ranks."""
    parts = [
        take(open_stream(catalog, crop=crop, rank=rank, world=world, workers=workers), first, last)
        for rank in range(world)
    ]
    steps = []
    for step in range(last - first):
        ids = [""] * sum(len(part[step].ids) for part in parts)
        for rank in range(world):
            ids[rank::world] = parts[rank][step].ids
        steps.append(tuple(ids))
    return steps


@pytest.mark.parametrize("crop", [0, 8])
def test_every_world_and_any_workers_see_the_same_samples(catalog: Catalog, crop: int) -> None:
    steps = open_stream(catalog, crop=crop).order.steps
    expected = gather(catalog, 1, 0, 0, 2 * steps, crop)
    for epoch in range(2):
        seen = [id for ids in expected[epoch * steps : (epoch + 1) * steps] for id in ids]
        assert sorted(seen) == sorted(catalog.ids)
    assert gather(catalog, 2, 1, 0, 2 * steps, crop) == expected
    assert gather(catalog, 4, 3, 0, 2 * steps, crop) == expected


def test_a_run_resumed_in_mid_epoch_with_another_world_sees_what_was_left(catalog: Catalog) -> None:
    whole = gather(catalog, 1, 0, 0, 10)
    assert gather(catalog, 2, 1, 0, 3) + gather(catalog, 4, 3, 3, 7) + gather(catalog, 1, 2, 7, 10) == whole


def test_readers_change_no_value(catalog: Catalog) -> None:
    for now, ahead in zip(take(open_stream(catalog), 0, 6), take(open_stream(catalog, workers=3), 0, 6), strict=True):
        assert now.ids == ahead.ids
        assert torch.equal(now.guess, ahead.guess)
        assert torch.equal(now.target, ahead.target)
        assert torch.equal(now.judged, ahead.judged)


def test_whole_boxes_come_in_batches_of_one_class(catalog: Catalog) -> None:
    classes = dict(zip(catalog.ids, catalog.cells.tolist(), strict=True))
    for batch in take(open_stream(catalog), 0, 10):
        assert {classes[id] for id in batch.ids} == {batch.guess.shape[1]}


def test_a_rank_for_which_no_sample_is_left_gets_an_empty_batch(catalog: Catalog) -> None:
    world = 6  # classes of 15 and 8 samples leave 3 and 2 of them
    steps = open_stream(catalog).order.steps
    last = [take(open_stream(catalog, rank=rank, world=world), steps - 2, steps) for rank in range(world)]
    assert sorted(sum(len(part[step].ids) for part in last) for step in range(2)) == [2, 3]
    for part in last:
        for batch in part:
            assert len(batch.ids) == len(batch.guess) == len(batch.target) == len(batch.judged)
            assert batch.guess.ndim == 4


class SlowBoxes:
    """Counts what it reads, and cannot read one sample."""

    def __init__(self, broken: int = -1) -> None:
        self.broken, self.reads = broken, 0

    def read(self, draws: Sequence[Draw]) -> Batch:
        self.reads += 1
        time.sleep(0.01)
        if self.broken in [draw.sample for draw in draws]:
            raise StoreError("shard 3 is damaged")
        box = torch.zeros(len(draws), 2, 2, 2)
        return Batch(tuple(str(draw.sample) for draw in draws), box, box, box > 0, (1.0,) * len(draws))


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_fault_comes_after_the_batches_before_it(catalog: Catalog, workers: int) -> None:
    settings = StreamSettings(1, 100, 0, by_class=False, workers=workers)
    order = [int(batch.ids[0]) for batch in take(Stream(SlowBoxes(), catalog, settings), 0, 8)]
    batches = Stream(SlowBoxes(order[5]), catalog, settings).batches(0)
    assert [int(next(batches).ids[0]) for _ in range(5)] == order[:5]
    with pytest.raises(StoreError, match="shard 3 is damaged"):
        next(batches)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_stream_that_is_left_leaves_no_thread_and_reads_no_further(catalog: Catalog) -> None:
    boxes = SlowBoxes()
    batches = Stream(boxes, catalog, StreamSettings(1, 100, 0, by_class=False, workers=2)).batches(0)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert boxes.reads <= 4
    read = boxes.reads
    time.sleep(0.05)
    assert boxes.reads == read


@pytest.mark.parametrize("workers", [0, 2])
def test_waiting_is_counted_where_reading_is_slower_than_learning(catalog: Catalog, workers: int) -> None:
    stream = Stream(SlowBoxes(), catalog, StreamSettings(1, 100, 0, by_class=False, workers=workers))
    batches, meter = stream.batches(0), Meter(0, 20, 1, silent=True)
    for _ in range(20):
        meter.draw(batches)
        if workers:
            time.sleep(0.02)
        meter.advance("")
    assert meter.lap.wait_share < 0.5 if workers else meter.lap.wait_share > 0.9


def test_a_validation_counts_for_the_time_left_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.progress.SECONDS_BETWEEN_LINES", 0)
    meter = Meter(0, 101, 4, silent=False)
    with meter.pause():
        time.sleep(0.3)
    meter.draw(iter([None]))
    time.sleep(0.05)
    meter.advance("well")
    told = re.fullmatch(
        r"train: 1/101 steps, well, (.*) samples/s, 0 % data-wait, (.*) s left\n", capsys.readouterr().err
    )
    assert told
    assert 20 < float(told[1]) <= 4 / 0.05
    assert float(told[2]) >= 100 * 0.35 - 1


def test_a_damaged_store_ends_a_training_by_name(tmp_path: Path) -> None:
    store = write_store(tmp_path / "damaged.zarr", {"train": 6})
    shard = store / "cells_20/target/c.1.0.0.0"
    shard.write_bytes(shard.read_bytes()[:1000])
    stream = open_stream(read_catalog([store], "train", CHANNELS), workers=2)
    message = rf"{shard} is damaged.*sample 'train-[45]#0' cannot be read: `rhoflow verify {store} --repair`"
    with pytest.raises(StoreError, match=message):
        take(stream, 0, stream.order.steps)


def test_epochs_are_mixed_anew(catalog: Catalog) -> None:
    steps = open_stream(catalog).order.steps
    ids = gather(catalog, 1, 0, 0, 2 * steps)
    assert ids[:steps] != ids[steps:]
    assert np.unique([len(step) for step in ids]).tolist() == [2, 3, 6]
