"""Boxes of a batch are the stored ones, cut and turned alike in guess and target, and judged where they are whole."""

from pathlib import Path

import numpy as np
import pytest
import torch

from storage.buckets import Bucket
from storage.objects import copy_object, list_keys
from storage.reader import open_dataset
from tests.object_storage import BUCKET, serve_buckets
from tests.training.gaussians import CELLS, GRID, make_conformer, make_grid, sum_gaussians, write_store
from training.batch import Draw
from training.catalog import read_catalog
from training.kept import Kept
from training.stored import Cutting, StoredBoxes
from training.symmetries import COUNT, turn

CHANNELS = ("guess", "target")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every box in one size class, of 24 cells."""
    grids = [make_grid(shape) for shape in ((24, 24, 24), (24, 18, 11), (9, 24, 16))]
    return write_store(tmp_path_factory.mktemp("stored") / "shapes.zarr", {"train": 9}, grids=grids)


def open_boxes(store: Path, cutting: Cutting) -> StoredBoxes:
    return StoredBoxes(read_catalog([store], "train", CHANNELS), *CHANNELS, cutting)


def find_turn(box: np.ndarray, turned: np.ndarray) -> list[int]:
    return [k for k in range(COUNT) if turn(box, k).shape == turned.shape and np.array_equal(turn(box, k), turned)]


@pytest.mark.parametrize("multiple", [1, 4, 16])
def test_whole_boxes_are_the_stored_ones_filled_up_with_vacuum(shapes: Path, multiple: int) -> None:
    boxes, dataset = open_boxes(shapes, Cutting(multiple=multiple)), open_dataset(shapes)
    for samples in ([1, 4], [2, 1], [0, 1, 2]):
        batch = boxes.read([Draw(sample, 0) for sample in samples])
        stored = [dataset[id] for id in batch.ids]
        largest = np.max([sample.grid.shape for sample in stored], axis=0)
        assert batch.guess.shape == (len(samples), *(-(-largest // multiple) * multiple))
        assert batch.volumes == pytest.approx([GRID.cell_volume] * len(batch.ids))
        for k, sample in enumerate(stored):
            inside = tuple(map(slice, sample.grid.shape))
            assert np.array_equal(batch.guess[k].numpy()[inside], sample.channels["guess"])
            assert np.array_equal(batch.target[k].numpy()[inside], sample.channels["target"])
            assert batch.guess[k].count_nonzero() == np.count_nonzero(sample.channels["guess"])
            assert batch.judged[k].numpy()[inside].all()
            assert batch.judged[k].sum() == sample.channels["guess"].size


def test_whole_boxes_are_turned_alike(shapes: Path) -> None:
    boxes, dataset = open_boxes(shapes, Cutting(turn=True, multiple=2, seed=3)), open_dataset(shapes)
    symmetries = set()
    for epoch in range(12):
        batch = boxes.read([Draw(sample, epoch) for sample in (0, 4, 8)])
        for k, id in enumerate(batch.ids):
            sizes = [int(batch.judged[k].any(dim=axes[0]).any(dim=axes[1]).sum()) for axes in ((1, 1), (0, 1), (0, 0))]
            inside = (k, *map(slice, sizes))
            assert batch.judged[inside].all()
            guess, target = (dataset[id].channels[name] for name in CHANNELS)
            turns = find_turn(guess, batch.guess[inside].numpy())
            assert turns == find_turn(target, batch.target[inside].numpy())
            assert len(turns) == 1
            symmetries.add(turns[0])
    assert len(symmetries) > 12


def find_judged(corner: tuple[int, ...], crop: int, margin: int, shape: tuple[int, ...]) -> np.ndarray:
    """Where a crop's surroundings were not cut away."""
    judged = np.ones((crop,) * 3, dtype=bool)
    for axis, (first, n) in enumerate(zip(corner, shape, strict=True)):
        along = np.moveaxis(judged, axis, 0)
        along[: margin if first else 0] = False
        along[crop - (margin if first + crop < n else 0) :] = False
    return judged


@pytest.mark.parametrize("turned", [False, True])
def test_crops_are_cut_from_the_stored_boxes(shapes: Path, turned: bool) -> None:
    boxes, dataset = open_boxes(shapes, Cutting(8, 4, turned, seed=5)), open_dataset(shapes)
    for number in range(9):
        sample = dataset[boxes.catalog.ids[number]]
        shape, (guess, target) = sample.grid.shape, (sample.channels[name] for name in CHANNELS)
        for epoch in range(3):
            crop = boxes.read([Draw(number, epoch)])
            found = 0
            for corner in np.ndindex(*((n - 8) // 4 + 1 for n in shape)):
                first = tuple(4 * cell for cell in corner)
                piece = tuple(slice(cell, cell + 8) for cell in first)
                for symmetry in find_turn(guess[piece], crop.guess[0].numpy()) if turned else [0]:
                    if np.array_equal(turn(guess[piece], symmetry), crop.guess[0].numpy()):
                        assert np.array_equal(turn(target[piece], symmetry), crop.target[0].numpy())
                        judged = find_judged(first, 8, 4, shape)
                        assert np.array_equal(turn(judged, symmetry), crop.judged[0].numpy())
                        found += 1
            assert found == 1


def test_a_crop_larger_than_the_box_is_filled_with_vacuum(shapes: Path) -> None:
    boxes, dataset = open_boxes(shapes, Cutting(32, 2)), open_dataset(shapes)
    batch = boxes.read([Draw(1, 0), Draw(2, 5)])
    for k, id in enumerate(batch.ids):
        values = dataset[id].channels["target"]
        inside = tuple(map(slice, values.shape))
        assert np.array_equal(batch.target[k].numpy()[inside], values)
        assert batch.target[k].count_nonzero() == np.count_nonzero(values)
        assert batch.judged[k].numpy()[inside].all()
        assert batch.judged[k].sum() == values.size


def test_crops_lie_near_atoms(store: Path) -> None:
    """The more so the smaller they are: their centres are a sixth of an edge from one, in one standard deviation."""
    boxes = open_boxes(store, Cutting(4, 1, seed=2))
    catalog, target = boxes.catalog, [boxes.read([Draw(k, 0)]).target.mean() for k in range(16)]
    whole = StoredBoxes(catalog, *CHANNELS, Cutting())
    mean = [whole.read([Draw(k, 0)]).target.mean() for k in range(16)]
    assert torch.stack(target).mean() > 5 * torch.stack(mean).mean()


def test_a_turn_of_a_sample_is_the_same_in_any_batch_and_another_in_the_next_epoch(store: Path) -> None:
    boxes = open_boxes(store, Cutting(8, 2, turn=True, seed=2))
    alone, again = boxes.read([Draw(3, 1)]), open_boxes(store, Cutting(8, 2, turn=True, seed=2))
    among = again.read([Draw(5, 1), Draw(3, 1), Draw(3, 2)])
    assert torch.equal(alone.guess[0], among.guess[1])
    assert torch.equal(alone.judged[0], among.judged[1])
    assert not torch.equal(among.guess[1], among.guess[2])


def test_boxes_come_from_several_stores(store: Path, shapes: Path) -> None:
    catalog = read_catalog([store, shapes], "train", CHANNELS)
    boxes = StoredBoxes(catalog, *CHANNELS, Cutting())
    for k, id in enumerate(catalog.ids):
        dataset = open_dataset([store, shapes][catalog.stores[k]])
        assert np.array_equal(boxes.read([Draw(k, 0)]).target[0], dataset[id].channels["target"])


def test_boxes_of_a_store_in_a_bucket_are_those_on_disk(store: Path) -> None:
    with serve_buckets(60):
        bucket = Bucket(BUCKET, "gaussians.zarr")
        for key in list_keys(store):
            copy_object(store, bucket, key)
        there, here = (
            StoredBoxes(read_catalog([one], "train", CHANNELS), *CHANNELS, Cutting(8, 2, True))
            for one in (bucket, store)
        )
        assert there.catalog.fingerprints == here.catalog.fingerprints
        draws = [Draw(sample, 3) for sample in (1, 15, 7)]
        assert torch.equal(there.read(draws).guess, here.read(draws).guess)
        assert torch.equal(there.read(draws).target, here.read(draws).target)


@pytest.mark.parametrize("room", [0, 3 * 4 * CELLS**3, 2**30])
def test_boxes_are_the_same_whether_kept_or_read_again(store: Path, room: int) -> None:
    boxes = StoredBoxes(read_catalog([store], "train", CHANNELS), *CHANNELS, Cutting(), kept_bytes=room)
    for sample in [*range(16), *range(16)]:
        batch = boxes.read([Draw(sample, 0)])
        for values, name in ((batch.guess, "guess"), (batch.target, "target")):
            expected = sum_gaussians(make_conformer(batch.ids[0].removesuffix("#0")), name)
            assert np.array_equal(values[0], expected)
            values.zero_()  # a batch is its reader's own


def test_no_more_is_kept_than_there_is_room_for() -> None:
    kept = Kept[str, int](100)
    made = []
    for number, key in enumerate(["one", "two", "two", "three"]):
        kept.add(key, 48, lambda number=number: made.append(number) or number)
    assert [kept.find(key) for key in ("one", "two", "three", "four")] == [0, 1, None, None]
    assert made == [0, 1]
    assert kept.bytes == 96


def test_a_kept_dataset_is_read_once(tmp_path: Path) -> None:
    store = write_store(tmp_path / "some.zarr", {"train": 4})
    boxes = open_boxes(store, Cutting(8, 2))
    draws = [Draw(sample, 7) for sample in range(4)]
    before = boxes.read(draws)
    for file in (store / f"cells_{CELLS}" / "target").glob("c.*"):
        file.write_bytes(b"")
    assert torch.equal(boxes.read(draws).target, before.target)
