"""Boxes made from wavefunctions against stored voxels, and against the turned state's own density."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.collocation import density_in_cells
from pipeline.rotation import rotate_state
from pipeline.voxels import sample_density
from storage.errors import StoreError
from storage.reader import Dataset, StoredSample, open_dataset
from storage.schema import FloatArray, Grid
from tests.training.wavefunction_store import build_store
from training.batch import Batch, Draw
from training.catalog import Catalog, read_catalog
from training.expansions import Expansions
from training.stored import Cutting
from training.stream import Stream, StreamSettings
from training.wavefunctions import Frame, WavefunctionBoxes, draw_rotation

CPU = torch.device("cpu")
CHANNELS = ("guess", "target")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


@pytest.fixture(scope="module", params=["cell", "point"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build_store(tmp_path_factory.mktemp("boxes") / request.param, request.param)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Cell averages in generous boxes."""
    return build_store(tmp_path_factory.mktemp("generous") / "store", margin=4.0)


def spacing_of(dataset: Dataset) -> float:
    return float(dataset.table["spacing_x_bohr"].iloc[0])


def catalog_of(dataset: Dataset) -> Catalog:
    return read_catalog([dataset.store], "train", ("guess", "target"))


def make_boxes(dataset: Dataset, **cutting: Any) -> WavefunctionBoxes:
    return WavefunctionBoxes(catalog_of(dataset), "guess", "target", Cutting(**{"turn": True, **cutting}), CPU)


def nmae(values: Tensor, expected: FloatArray) -> float:
    return float(np.abs(values.numpy() - expected).sum() / np.abs(expected).sum())


def grid_of(frame: Frame, shape: Sequence[int]) -> Grid:
    nx, ny, nz = shape
    x, y, z = (frame.corner((nx, ny, nz)) + frame.spacing / 2).tolist()
    return Grid((nx, ny, nz), (frame.spacing,) * 3, (x, y, z))


def test_an_unturned_box_is_the_stored_one(dataset: Dataset) -> None:
    boxes = make_boxes(dataset, multiple=2, turn=False)
    for place, id in enumerate(boxes.catalog.ids):
        batch, sample = boxes.read([Draw(place, 5)]), dataset[id]
        inner = tuple(  # stored boxes are cubes about the same centre
            slice((whole - n) // 2, (whole + n) // 2)
            for whole, n in zip(sample.grid.shape, batch.guess.shape[1:], strict=True)
        )
        assert batch.ids == (id,)
        assert batch.volumes == pytest.approx([sample.grid.cell_volume])
        assert nmae(batch.guess[0], sample.channels["guess"][inner]) < 1e-6
        assert nmae(batch.target[0], sample.channels["target"][inner]) < 1e-6
        assert batch.judged.all()


@pytest.mark.parametrize("spacing_range", [0.0, 0.3])
@pytest.mark.parametrize("placing", [{"crop": 12, "multiple": 2}, {"multiple": 4}], ids=["crops", "whole boxes"])
def test_guess_and_target_are_those_of_the_turned_molecule_in_one_frame(
    dataset: Dataset, placing: dict[str, int], spacing_range: float
) -> None:
    cutting = Cutting(turn=True, **placing)
    boxes = WavefunctionBoxes(catalog_of(dataset), "guess", "target", cutting, CPU, spacing_range=spacing_range)
    draws = [Draw(place, 3) for place in range(len(dataset))]
    batch = boxes.read(draws)
    for place, (id, draw) in enumerate(zip(batch.ids, draws, strict=True)):
        frame = boxes.frame(draw)
        grid = grid_of(frame, batch.guess.shape[1:])
        for name, values in (("guess", batch.guess), ("target", batch.target)):
            turned = rotate_state(dataset[id].states[name], frame.rotation)
            sampling = dataset.attributes["recipe"]["grid"]["sampling"]
            assert nmae(values[place], sample_density(turned, grid, sampling)) < 1e-6
        assert batch.volumes[place] == pytest.approx(grid.cell_volume)


def test_cells_are_as_wide_as_the_range_allows(dataset: Dataset) -> None:
    cutting, width = Cutting(crop=12, turn=True), spacing_of(dataset)
    boxes = WavefunctionBoxes(catalog_of(dataset), "guess", "target", cutting, CPU, spacing_range=0.3)
    ratios = [boxes.frame(Draw(0, epoch)).spacing / width for epoch in range(100)]
    assert 0.7 <= min(ratios) < 0.75
    assert 1.25 < max(ratios) <= 1.3


class QuarterTurned(WavefunctionBoxes):
    """Every draw turns the molecule, and the box with it, about z."""

    def frame(self, draw: Draw) -> Frame:
        still = super().frame(draw)
        quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        x, y, z = still.cells
        return Frame(quarter, quarter @ still.centre, (y, x, z), still.spacing)


def test_a_quarter_turn_turns_the_array(dataset: Dataset) -> None:
    still, turned = (
        kind(catalog_of(dataset), "guess", "target", Cutting(), CPU).read([Draw(0, 0)])
        for kind in (WavefunctionBoxes, QuarterTurned)
    )
    assert nmae(turned.guess[0], torch.rot90(still.guess[0], dims=(0, 1)).numpy()) < 1e-6
    assert nmae(turned.target[0], torch.rot90(still.target[0], dims=(0, 1)).numpy()) < 1e-6


def test_turned_boxes_hold_every_electron(cells: Dataset) -> None:
    boxes = make_boxes(cells)
    for epoch in range(3):
        batch = boxes.read([Draw(0, epoch)])
        for name, values in (("guess", batch.guess), ("target", batch.target)):
            held = float(values.double().sum()) * batch.volumes[0]
            assert held == pytest.approx(float(cells.table.loc[batch.ids[0], f"{name}_electrons"]), abs=1e-4)


def test_a_batch_has_the_largest_box_and_every_box_its_margin(cells: Dataset) -> None:
    boxes = make_boxes(cells, multiple=4)
    draws = [Draw(place, 1) for place in range(len(cells))]
    needed = np.array([boxes.frame(draw).cells for draw in draws])
    shape = np.array(boxes.read(draws).guess.shape[1:])
    assert (shape == needed.max(axis=0)).all()
    assert not (shape % 4).any()
    spacing, margin = spacing_of(cells), 4.0 / 0.529177210903
    for draw, id in zip(draws, boxes.catalog.ids, strict=True):
        frame = boxes.frame(draw)
        from_corner = cells[id].positions @ frame.rotation.T - frame.corner(tuple(shape.tolist()))
        assert from_corner.min() > margin - spacing  # the shift is half a cell at most
        assert (shape * spacing - from_corner).min() > margin - spacing


def test_a_crops_outermost_cells_are_not_judged(dataset: Dataset) -> None:
    batch = make_boxes(dataset, crop=12, multiple=2).read([Draw(1, 0), Draw(2, 0)])
    assert batch.judged.shape == batch.guess.shape == batch.target.shape == (2, 12, 12, 12)
    assert batch.judged[:, 2:-2, 2:-2, 2:-2].all()
    assert int(batch.judged.sum()) == 2 * 8**3


def test_crops_lie_near_atoms_and_differ_from_epoch_to_epoch(dataset: Dataset) -> None:
    boxes = make_boxes(dataset, crop=12)
    frames = [boxes.frame(Draw(0, epoch)) for epoch in range(40)]
    positions = boxes.catalog.positions_of(0)
    away = [np.linalg.norm(positions @ one.rotation.T - one.centre, axis=1).min() for one in frames]
    assert np.median(away) < 12 * spacing_of(dataset) / 3
    assert len({one.centre.tobytes() for one in frames}) == 40


def test_the_same_draws_give_the_same_bits_alone_or_with_others(dataset: Dataset) -> None:
    draws = [Draw(place, epoch) for epoch in (0, 7) for place in (2, 0, 1)]
    batch = make_boxes(dataset, crop=10, seed=4).read(draws)
    again = make_boxes(dataset, crop=10, seed=4)
    for place in (5, 1, 3):
        alone = again.read([draws[place]])
        assert torch.equal(alone.guess[0], batch.guess[place])
        assert torch.equal(alone.target[0], batch.target[place])
    assert not torch.equal(make_boxes(dataset, crop=10, seed=5).read(draws).guess, batch.guess)


def test_a_stream_that_reads_ahead_gives_the_same_batches(cells: Dataset) -> None:
    def read_batches(workers: int) -> list[Batch]:
        boxes = make_boxes(cells, crop=8)
        settings = StreamSettings(batch=2, window=2, seed=1, by_class=False, workers=workers)
        with closing(Stream(boxes, boxes.catalog, settings).batches(1)) as batches:
            return list(islice(batches, 5))

    for ahead, direct in zip(read_batches(2), read_batches(0), strict=True):
        assert ahead.ids == direct.ids
        assert torch.equal(ahead.guess, direct.guess)
        assert torch.equal(ahead.target, direct.target)


def test_crops_are_parts_of_a_larger_box(cells: Dataset) -> None:
    boxes = make_boxes(cells, crop=10)
    frame = boxes.frame(Draw(1, 2))
    large = grid_of(frame, (30, 30, 30))  # about the same centre
    state = rotate_state(cells[boxes.catalog.ids[1]].states["target"], frame.rotation)
    whole = density_in_cells(state, (large.edges(0), large.edges(1), large.edges(2)), 1e-9)
    assert nmae(boxes.read([Draw(1, 2)]).target[0], whole[10:20, 10:20, 10:20]) < 1e-6


def test_rotations_are_proper_and_uniform() -> None:
    """Uniform over SO(3): every entry has mean 0 and variance 1/3, and the trace, 1 + 2 cos, has mean 0, variance 1."""
    random = np.random.default_rng(0)
    drawn = np.array([draw_rotation(random) for _ in range(4000)])
    assert drawn @ drawn.transpose(0, 2, 1) == pytest.approx(np.broadcast_to(np.eye(3), drawn.shape), abs=1e-12)
    assert np.linalg.det(drawn) == pytest.approx(np.ones(4000))
    assert drawn.mean(axis=0) == pytest.approx(np.zeros((3, 3)), abs=0.05)
    assert drawn.var(axis=0) == pytest.approx(np.full((3, 3), 1 / 3), abs=0.03)
    assert np.trace(drawn, axis1=1, axis2=2).var() == pytest.approx(1, abs=0.08)


class NothingLeaves(TorchFunctionMode):
    """Fails where voxels would travel from the device to NumPy, or to Python."""

    LEAVING = (Tensor.numpy, Tensor.cpu, Tensor.tolist, Tensor.__array__)

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert func not in self.LEAVING, func
        return func(*args, **(kwargs or {}))


class NothingWaits(TorchDispatchMode):
    """Fails where the CPU would wait for what a GPU computes; counts what that is asked to do."""

    WAITING = ("aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default")
    asked = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert str(func) not in self.WAITING, func
        self.asked += 1
        return func(*args, **(kwargs or {}))


def test_voxels_are_made_where_they_are_wanted(dataset: Dataset) -> None:
    boxes = make_boxes(dataset, crop=10)
    with NothingLeaves(), NothingWaits() as work:
        batch = boxes.read([Draw(0, 0), Draw(1, 0)])
        asked = work.asked
        with pytest.raises(AssertionError):
            np.asarray(batch.guess)
        with pytest.raises(AssertionError):
            bool(batch.guess.any())
    assert asked > 100
    assert batch.guess.dtype == batch.target.dtype == torch.float32
    assert not batch.guess.requires_grad


def test_mixed_precision_around_it_does_not_reach_the_voxels(dataset: Dataset) -> None:
    boxes = make_boxes(dataset, crop=10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = boxes.read([Draw(0, 0)])
    assert torch.equal(inside.guess, boxes.read([Draw(0, 0)]).guess)


def test_samples_beyond_the_memory_bound_are_read_again(cells: Dataset) -> None:
    draws = [Draw(place, 0) for place in (0, 1, 0)]
    expected = make_boxes(cells, crop=8).read(draws[:2])
    bounded = WavefunctionBoxes(catalog_of(cells), "guess", "target", Cutting(crop=8, turn=True), CPU, kept_bytes=1)
    batch = bounded.read(draws)
    assert torch.equal(batch.guess[:2], expected.guess)
    assert torch.equal(batch.guess[2], expected.guess[0])


def test_expansions_are_kept_while_there_is_room(cells: Dataset) -> None:
    catalog = catalog_of(cells)
    sizes = [sum(one.nbytes for one in Expansions(catalog, CHANNELS, 0).read(k)) for k in range(2)]
    for room, held in ((0, 0), (sizes[0], sizes[0]), (sum(sizes) - 1, sizes[0]), (sum(sizes), sum(sizes))):
        expansions = Expansions(catalog, CHANNELS, room)
        first = expansions.read(0)
        expansions.read(1)
        assert expansions.kept.bytes == held
        assert (expansions.read(0) is first) == (room >= sizes[0])


@pytest.mark.parametrize("damage", [flip, remove])
def test_damaged_wavefunctions_are_named_with_the_remedy(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    dataset = build_store(tmp_path / "damaged")
    damage(next(dataset.store.glob("cells_*/orbitals_target/c.0*")))
    boxes = make_boxes(open_dataset(dataset.store), crop=8)
    told = r"/cells_\d+, shard 0: wavefunctions of sample '.*' are (damaged|missing) .*: `rhoflow verify .* --repair`"
    with pytest.raises(StoreError, match=told):
        boxes.read([Draw(place, 0) for place in range(len(boxes.catalog))])


def test_a_store_without_wavefunctions_is_refused_with_the_remedy(tmp_path: Path) -> None:
    without = build_store(tmp_path / "without", wavefunctions=False)
    with pytest.raises(StoreError, match=r"keeps no wavefunctions of 'guess'.*voxels = \"stored\".*wavefunctions = tr"):
        make_boxes(without)


def test_a_density_that_the_store_does_not_keep_is_named(cells: Dataset) -> None:
    with pytest.raises(StoreError, match="no wavefunctions of 'sad', only of: guess, target"):
        WavefunctionBoxes(catalog_of(cells), "sad", "target", Cutting(), CPU)


class PeriodicStore:
    """A store whose states were computed in a box of 9 bohr."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.store = dataset, dataset.store
        self.attributes, self.densities = dataset.attributes, dataset.densities

    def __getitem__(self, id: str) -> StoredSample:
        sample = self.dataset[id]
        return replace(
            sample, states={name: replace(state, cell=(9.0, 9.0, 9.0)) for name, state in sample.states.items()}
        )


def test_a_periodic_state_is_refused_by_name(cells: Dataset) -> None:
    stores: Any = (PeriodicStore(cells),)
    boxes = WavefunctionBoxes(replace(catalog_of(cells), datasets=stores), "guess", "target", Cutting(), CPU)
    with pytest.raises(StoreError, match=r"'guess' of \S+#0 is periodic, .*9.0.* cannot be turned: .*\"stored\""):
        boxes.read([Draw(0, 0)])
