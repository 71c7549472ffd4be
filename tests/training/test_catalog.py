"""What a training knows of its samples before it reads one."""

from pathlib import Path

import numpy as np
import pytest

from storage.errors import StoreError
from storage.layout import consolidate, open_group
from storage.reader import open_dataset
from tests.training.gaussians import GRID, RECIPE, make_grid, write_store
from training.catalog import read_catalog

CHANNELS = ("guess", "target")


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores of samples of several shapes, in several size classes."""
    folder = tmp_path_factory.mktemp("catalog")
    first = write_store(
        folder / "a.zarr", {"train": 9, "test": 2}, "a", [GRID, make_grid((16, 24, 18)), make_grid((24,) * 3)]
    )
    second = write_store(folder / "b.zarr", {"train": 6}, "b", [make_grid((15, 10, 12)), GRID])
    return [first, second]


def test_samples_of_all_stores_are_where_the_catalogue_says(mixed: list[Path]) -> None:
    catalog = read_catalog(mixed, "train", CHANNELS)
    datasets = [open_dataset(store) for store in mixed]
    assert sorted(catalog.ids) == sorted(id for dataset in datasets for id in dataset.ids if "train" in id)
    for k, id in enumerate(catalog.ids):
        dataset = datasets[catalog.stores[k]]
        sample = dataset[id]
        assert catalog.grid(k) == sample.grid
        assert np.array_equal(catalog.positions_of(k), sample.positions)
        assert (catalog.cells[k], catalog.rows[k]) == tuple(dataset.table.loc[id, ["cells", "sample"]])


def test_samples_share_a_shard_where_they_share_a_stored_object(mixed: list[Path]) -> None:
    catalog = read_catalog(mixed, "train", CHANNELS)
    objects = list(zip(catalog.stores.tolist(), catalog.cells.tolist(), (catalog.rows // 4).tolist(), strict=True))
    numbers = dict(zip(objects, catalog.shards.tolist(), strict=True))
    assert catalog.shards.tolist() == [numbers[key] for key in objects]
    assert len(set(numbers.values())) == len(numbers)


def test_some_samples_are_a_catalogue_too(mixed: list[Path]) -> None:
    whole = read_catalog(mixed, "train", CHANNELS)
    chosen = np.array([11, 2, 7])
    some = whole.take(chosen)
    assert some.ids == [whole.ids[k] for k in chosen]
    for k, place in enumerate(chosen):
        assert some.grid(k) == whole.grid(place)
        assert np.array_equal(some.positions_of(k), whole.positions_of(place))


def test_elements_are_those_of_the_samples_alone(mixed: list[Path]) -> None:
    catalog = read_catalog(mixed, "train", ())
    one = catalog.take(np.array([1]))
    own = catalog.numbers[catalog.first_atoms[1] : catalog.first_atoms[1] + catalog.atoms[1]]
    assert one.elements == sorted(set(own.tolist()))
    assert set(one.elements) <= set(catalog.elements)


def test_electrons_are_those_stored_or_none(store: Path) -> None:
    catalog = read_catalog([store], "train", CHANNELS)
    assert np.isnan(catalog.electrons("guess")).all()
    stored = catalog.take(np.array([1, 0]))
    stored.table["guess_box_electrons"] = [9.5, 8.25]
    assert stored.electrons("guess").tolist() == [9.5, 8.25]


def test_fingerprints_tell_what_stores_hold_not_where(store: Path, tmp_path: Path) -> None:
    same = write_store(tmp_path / "same.zarr", {"train": 16, "validation": 3, "test": 5})
    other = write_store(tmp_path / "other.zarr", {"train": 16, "validation": 3, "test": 4})
    prints = [read_catalog([one], "train", CHANNELS).fingerprints for one in (store, same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_cells_that_differ_are_named(store: Path, tmp_path: Path) -> None:
    wider = write_store(tmp_path / "wide.zarr", {"train": 1}, grids=[make_grid((20, 20, 20), 0.6)])
    message = (
        r"gaussians.zarr: train-0#0 has cells of \(0.5, 0.5, 0.5\) bohr, .*wide.zarr: train-0#0 has cells of \(0.6"
    )
    with pytest.raises(StoreError, match=message):
        read_catalog([store, wider], "train", CHANNELS)


def test_stores_that_mean_other_things_by_a_density_are_not_mixed(store: Path, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other.zarr", {"train": 1})
    dft = {**RECIPE["densities"], "target": {"engine": "dft", "functional": "PBE"}}
    for change, told in (
        ({"grid": {"sampling": "point"}}, r"sampling = 'cell', but .*other.zarr has 'point': bring together"),
        ({"densities": dft}, r"densities.target.engine = 'gaussian', but .*other.zarr has 'dft': bring together"),
    ):
        open_group(other, "r+").attrs["recipe"] = {**RECIPE, **change}
        consolidate(other)
        with pytest.raises(StoreError, match=f"gaussians.zarr has {told}"):
            read_catalog([store, other], "train", CHANNELS)
    assert len(read_catalog([store, other], "train", ("guess",))) == len(read_catalog([store], "train", CHANNELS)) + 1


def test_a_missing_channel_is_named_with_those_there_are(store: Path) -> None:
    with pytest.raises(StoreError, match=r"no channel 'sad', only guess, target: .*config"):
        read_catalog([store], "train", ("sad", "target"))


def test_a_split_without_samples_is_named(mixed: list[Path]) -> None:
    assert len(read_catalog(mixed, "test", CHANNELS)) == 2  # one of the stores has some
    with pytest.raises(StoreError, match=r'a.zarr \+ .*b.zarr has no samples in split "validation": .*\[splits\]'):
        read_catalog(mixed, "validation", CHANNELS)
