"""Plan, write, seal, read: what goes in comes out, and nothing half-done passes for done."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr

from storage.errors import RequestError, StoreError
from storage.generations import Generation, write_generation
from storage.header import Header, begin_store, read_header
from storage.identity import identify
from storage.layout import plan_key
from storage.outcomes import read_row_outcomes
from storage.plan import read_basis, read_plan, read_shard_samples
from storage.reader import open_dataset
from storage.receipts import read_receipt
from storage.seal import is_sealed, seal
from tests.storage.small_store import BASIS, CELLS, NAMES, finish_shard, make_conformer, make_sample, plan_store

Builder = Callable[[str], Path]


def test_a_sample_is_read_as_it_was_written(build_store: Builder) -> None:
    store = build_store("a.zarr")
    seal(store)
    dataset = open_dataset(store)
    assert dataset.ids == [f"{name}#0" for name in NAMES if name != "broken"]
    written = make_sample(make_conformer("größe", atoms=2 + 5 % 3))
    sample = dataset["größe#0"]
    np.testing.assert_array_equal(sample.channels["guess"], written.channels["guess"])
    np.testing.assert_array_equal(sample.positions, written.conformer.positions)
    np.testing.assert_array_equal(sample.numbers, written.conformer.numbers)
    assert sample.grid == written.grid
    state = sample.states["guess"]
    np.testing.assert_array_equal(state.orbitals, written.states["guess"].orbitals)
    np.testing.assert_array_equal(state.occupations, written.states["guess"].occupations)
    assert state.energy == -1.25
    assert np.isnan(state.homo)


def test_a_box_that_is_no_cube_is_read_without_its_padding(build_store: Builder) -> None:
    store = build_store("a.zarr")
    seal(store)
    sample = open_dataset(store)["g#0"]
    assert sample.grid.shape == (CELLS, 3, CELLS - 1)
    written = make_sample(make_conformer("g", atoms=2 + 1 % 3)).channels["guess"]
    np.testing.assert_array_equal(sample.channels["guess"], written)
    padded = zarr.open_array(store / f"cells_{CELLS}/guess", mode="r")[NAMES.index("g")]
    assert np.count_nonzero(padded) == np.count_nonzero(written)


def test_the_basis_is_read_as_it_was_written(build_store: Builder) -> None:
    basis = read_basis(build_store("a.zarr"), "guess")
    assert set(basis.shells) == set(BASIS.shells)
    for number, shells in BASIS.shells.items():
        for stored, shell in zip(basis.shells[number], shells, strict=True):
            assert stored.angular_momentum == shell.angular_momentum
            np.testing.assert_array_equal(stored.exponents, shell.exponents)
            np.testing.assert_array_equal(stored.coefficients, shell.coefficients)


def test_planned_samples_are_read_as_they_were_written(build_store: Builder) -> None:
    store = build_store("a.zarr")
    planned = read_shard_samples(store, read_plan(store).shards()[1])
    assert [sample.conformer.id for sample in planned] == ["broken#0", "e#0", "f#0"]
    expected = make_conformer("broken", atoms=2)
    np.testing.assert_array_equal(planned[0].conformer.positions, expected.positions)
    assert planned[0].conformer.group == "GROUP-broken"
    assert planned[0].key == bytes([3] * 16)
    assert planned[0].state_keys == (bytes([103] * 16),)


def test_every_row_has_one_outcome(build_store: Builder) -> None:
    store = build_store("a.zarr")
    rows = list(read_row_outcomes(store, read_plan(store)))
    assert [row.row for row in rows] == list(range(10))
    ends = {row.id: row.outcome for row in rows}
    assert ends["broken"] == "not_converged"
    assert ends["nonsense"] == "invalid_input"
    assert ends["giant"] == "too_large"
    assert ends["twin"] == "ok"
    assert {row.id: row.duplicate_of for row in rows}["twin"] == "water#0"


def test_a_duplicate_keeps_its_own_labels(build_store: Builder) -> None:
    store = build_store("a.zarr")
    seal(store)
    rows = open_dataset(store).rows
    assert rows.loc["twin", "dG"] == 9.0
    assert rows.loc["twin", "samples"] == "water#0"
    assert rows.loc["twin", "kind"] == "c"


def test_building_twice_gives_identical_stores(build_store: Builder) -> None:
    first, second = build_store("a.zarr"), build_store("b.zarr")
    seal(first)
    seal(second)
    assert identify(first) == identify(second)
    seal(second)
    assert identify(first) == identify(second)


def test_a_missing_receipt_stops_sealing_and_reading(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    plan = plan_store(store)
    finish_shard(store, plan, 0)
    finish_shard(store, plan, 2)
    with pytest.raises(StoreError, match=r"1 shards have no receipt \(1\)"):
        seal(store)
    with pytest.raises(StoreError, match="not sealed yet"):
        open_dataset(store)


def test_another_recipe_is_refused_by_key(build_store: Builder) -> None:
    store = build_store("a.zarr")
    other = Header({"source": {"path": "elsewhere/x.csv"}, "grid": {"spacing_angstrom": 0.3}}, "text")
    with pytest.raises(RequestError, match=r"grid\.spacing_angstrom was 0\.2, is 0\.3"):
        begin_store(store, other)


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RequestError, match="is no rhoflow store"):
        begin_store(tmp_path, Header({}, ""))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_receipts_hold_the_checksum_of_every_object_of_their_shard(build_store: Builder) -> None:
    store = build_store("a.zarr")
    objects = {key for shard in read_plan(store).shards() for key in read_receipt(store, shard.number).objects}
    stored = {
        path.relative_to(store).as_posix()
        for name in ("guess", "orbitals_guess", "occupations_guess")
        for path in (store / f"cells_{CELLS}" / name).glob("c.*")
    }
    assert objects == stored
    assert len(stored) == 9


def test_statistics_come_from_the_training_split_alone(build_store: Builder) -> None:
    store = build_store("a.zarr")
    seal(store)
    dataset = open_dataset(store)
    training = [id for id in dataset.ids if dataset.table.loc[id, "split"] == "train"]
    assert 0 < len(training) < len(dataset.ids)
    values = np.stack([dataset[id].channels["guess"] for id in training]).astype(np.float64)
    statistics = dataset.attributes["statistics"]["guess"]
    assert statistics["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert statistics["standard_deviation"] == pytest.approx(values.std(), rel=1e-9)
    assert statistics["maximum"] == values.max()


def test_xarray_shows_every_channel_with_ids_coordinates_and_units(build_store: Builder) -> None:
    store = build_store("a.zarr")
    seal(store)
    node = open_dataset(store).to_xarray()[f"cells_{CELLS}"]
    assert list(node.data_vars) == ["guess"]
    assert node["guess"].dims == ("sample", "x", "y", "z")
    assert node["guess"].attrs["units"] == "electrons bohr-3"
    assert node["x"].attrs["units"] == "bohr"
    assert list(node["id"].values) == [f"{name}#0" for name in NAMES if name != "broken"]
    np.testing.assert_array_equal(node["x"].values, 0.5 * np.arange(CELLS))
    written = make_sample(make_conformer("e", atoms=3)).channels["guess"]
    np.testing.assert_array_equal(node["guess"].values[3], written)


def test_tensorstore_reads_every_array(build_store: Builder) -> None:
    store = build_store("a.zarr")
    seal(store)
    paths = [path.parent for path in store.rglob("zarr.json") if json.loads(path.read_text())["node_type"] == "array"]
    assert len(paths) > 30
    for path in paths:
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
        values = tensorstore.open(spec).result().read().result()
        np.testing.assert_array_equal(values, zarr.open_array(path, mode="r")[...])


@pytest.mark.parametrize("name", ["guess", "orbitals_guess", "id", "position"])
def test_zarrs_reads_what_zarr_python_reads(build_store: Builder, name: str) -> None:
    store = build_store("a.zarr")
    seal(store)
    path = store / f"cells_{CELLS}" / name
    expected = zarr.open_array(path, mode="r")[...]
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarrs announces fallbacks as warnings
        values = zarr.open_array(path, mode="r")[...]
    np.testing.assert_array_equal(values, expected)


def test_a_flipped_byte_is_an_error_not_a_density(build_store: Builder) -> None:
    store = build_store("a.zarr")
    seal(store)
    stored = store / f"cells_{CELLS}/guess/c.0.0.0.0"
    content = bytearray(stored.read_bytes())
    content[5] ^= 1
    stored.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        open_dataset(store)["water#0"].channels["guess"]


def test_a_kill_while_planning_leaves_a_store_that_plans_again(build_store: Builder, tmp_path: Path) -> None:
    expected = build_store("undisturbed.zarr")
    seal(expected)
    store = tmp_path / "killed.zarr"
    plan_store(store)
    (store / plan_key(1)).unlink()  # written last
    shutil.rmtree(store / f"cells_{CELLS}/occupations_guess")
    plan = plan_store(store)
    for shard in plan.shards():
        finish_shard(store, plan, shard.number)
    seal(store)
    assert identify(store) == identify(expected)


def test_a_kill_while_the_first_record_is_written_leaves_the_folder_usable(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    (store / "work").mkdir(parents=True)
    (store / "work/.header.json.0123.partial").write_bytes(b"{")
    plan_store(store)


def test_a_kill_while_sealing_is_sealed_again(build_store: Builder) -> None:
    store = build_store("a.zarr")
    seal(store)
    expected = identify(store)
    (store / "work/seal.json").unlink()  # written last
    (store / f"cells_{CELLS}/guess/c.0.0.0.0.0123.partial").write_bytes(b"half a shard")
    assert not is_sealed(store)
    seal(store)
    assert identify(store) == expected


def test_a_torn_object_of_a_killed_worker_is_written_anew(build_store: Builder) -> None:
    store = build_store("a.zarr")
    expected = read_receipt(store, 0).objects
    torn = store / f"cells_{CELLS}/guess/c.0.0.0.0"
    torn.write_bytes(torn.read_bytes()[:40])
    finish_shard(store, read_plan(store), 0)
    assert read_receipt(store, 0).objects == expected


def test_an_object_that_is_gone_stops_sealing(build_store: Builder) -> None:
    store = build_store("a.zarr")
    (store / f"cells_{CELLS}/guess/c.1.0.0.0").unlink()
    with pytest.raises(StoreError, match=r"1 stored objects are gone.*c\.1\.0\.0\.0"):
        seal(store)


def test_other_limits_are_taken_over_and_other_recipes_replace_one_that_read_nothing(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    begin_store(store, Header({"grid": {"h": 1}, "limits": {"s": 5}}, ""))
    begin_store(store, Header({"grid": {"h": 2}, "limits": {"s": 5}}, ""))
    assert read_header(store).recipe["grid"] == {"h": 2}
    write_generation(store, Generation(1, "", "", None, 0, 0, []))
    begin_store(store, Header({"grid": {"h": 2}, "limits": {"s": 500}}, ""))
    assert read_header(store).recipe["limits"] == {"s": 500}
    with pytest.raises(RequestError, match=r"grid\.h was 2, is 3"):
        begin_store(store, Header({"grid": {"h": 3}, "limits": {"s": 500}}, ""))
