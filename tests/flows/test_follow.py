"""A store follows its source: what is new is computed, what was computed stays."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.care.compare_stores import compare_stores
from flows.care.recompute import recompute_samples
from flows.prepare import plan_source
from flows.recipe import read_recipe, recipe_values
from flows.shard import compute_shard
from flows.source import describe_changes
from flows.status import RunRecord
from storage.errors import RequestError
from storage.header import Header, begin_store
from storage.identity import fingerprint, identify
from storage.layout import generation_key, receipt_key
from storage.outcomes import read_version
from storage.plan import read_plan
from storage.reader import open_dataset
from storage.receipts import Receipt, read_receipt
from storage.seal import seal
from storage.verify import find_damage
from tests.flows.small_build import command, environment, rhoflow, rhoflow_here, write_recipe

Edit = Callable[[str], str]


def build(recipe: Path, store: Path, limit: int | None = None, reuse: Path | None = None) -> str:
    """The stages of a build, in this process; what has changed in the source, in words."""
    values = read_recipe(recipe)
    begin_store(store, Header(recipe_values(values), recipe.read_text()))
    plan, changes = plan_source(store, values, limit, reuse, RunRecord(store, 1, time.time()))
    for shard in plan.shards():
        compute_shard(store, shard.number)
    seal(store)
    return describe_changes(changes)


def follow(folder: Path, edit: Edit) -> tuple[str, Path, Path]:
    """Build twelve molecules, change the source, build again; what has changed, the store, and one built at once."""
    recipe, store, source = write_recipe(folder), folder / "store.zarr", folder / "molecules.csv"
    build(recipe, store)
    source.write_text(edit(source.read_text()))
    printed = build(recipe, store)
    fresh = folder / "fresh.zarr"
    build(recipe, fresh)
    return printed, store, fresh


def list_objects(store: Path) -> dict[str, str]:
    return {key: digest for receipt in read_receipts(store) for key, digest in receipt.objects.items()}


def read_receipts(store: Path) -> list[Receipt]:
    return [read_receipt(store, shard.number) for shard in read_plan(store).shards()]


def check_equal(store: Path, fresh: Path) -> None:
    """The store that followed says the same as one built of the source at once."""
    assert compare_stores(store, fresh).is_identical
    followed, direct = open_dataset(store), open_dataset(fresh)
    assert followed.ids == direct.ids
    assert list(followed.rows.index) == list(direct.rows.index)
    assert followed.attributes["splits"] == direct.attributes["splits"]
    for name, values in direct.attributes["statistics"].items():
        assert followed.attributes["statistics"][name] == pytest.approx(values, rel=1e-14)
    for channel in direct.channels:
        np.testing.assert_array_equal(followed["m5#0"].channels[channel], direct["m5#0"].channels[channel])
    assert not find_damage(store).damages


def test_added_rows_are_computed_alone_and_touch_no_finished_shard(tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path), tmp_path / "store.zarr"
    build(recipe, store)
    before, shards = list_objects(store), len(read_plan(store).shards())
    stamps = {key: (store / key).stat().st_mtime_ns for key in before}
    with (tmp_path / "molecules.csv").open("a") as file:
        file.write("big,CC(C)C,1\nbromide,CBr,2\ntwin,OC,3\nbroken,C(C)(C)(C)(C)C,4\n")
    printed = build(recipe, store)
    assert "4 rows added" in printed
    assert {key: (store / key).stat().st_mtime_ns for key in before} == stamps
    new = {outcome.id for receipt in read_receipts(store)[shards:] for outcome in receipt.outcomes}
    assert new == {"big#0", "bromide#0"}
    assert open_dataset(store).rows.loc["twin", "duplicate_of"] == "m4#0"
    assert open_dataset(store).rows.loc["broken", "outcome"] == "invalid_input"
    build(recipe, tmp_path / "fresh.zarr")
    check_equal(store, tmp_path / "fresh.zarr")
    state = open_dataset(store)["big#0"].states["target"]  # more orbitals and functions than any before
    assert state.orbitals.shape == (14, 14)
    assert open_dataset(store).attributes["version"] == 2


def test_an_edited_row_is_computed_anew_and_its_old_sample_is_of_no_row(tmp_path: Path) -> None:
    printed, store, fresh = follow(tmp_path, lambda text: text.replace("m3,N,", "m3,P,"))
    assert "1 rows edited" in printed
    check_equal(store, fresh)
    version = read_version(store, read_plan(store))
    assert len(version.outcomes) == 13
    assert len(version.owners) == 12
    assert open_dataset(store)["m3#0"].numbers.tolist().count(15) == 1


def test_a_removed_row_leaves_the_dataset_and_comes_back_at_no_cost(tmp_path: Path) -> None:
    row = "m7,CCC,1.0\n"
    printed, store, fresh = follow(tmp_path, lambda text: text.replace(row, ""))
    assert "1 rows removed" in printed
    check_equal(store, fresh)
    assert "m7#0" not in open_dataset(store).ids
    source = tmp_path / "molecules.csv"
    shards = len(read_plan(store).shards())
    source.write_text(source.read_text() + row)
    assert "1 rows added" in build(tmp_path / "recipe.toml", store)
    assert len(read_plan(store).shards()) == shards
    assert open_dataset(store).ids[-1] == "m7#0"


def test_a_row_whose_twin_was_removed_keeps_the_sample(tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path, ("twin,OC,9.5",)), tmp_path / "store.zarr"
    build(recipe, store)
    assert open_dataset(store).rows.loc["twin", "samples"] == "m4#0"
    source = tmp_path / "molecules.csv"
    source.write_text(source.read_text().replace("m4,CO,", "m4,CS,"))
    build(recipe, store)
    dataset = open_dataset(store)
    assert dataset["twin#0"].numbers.tolist().count(8) == 1
    assert dataset["m4#0"].numbers.tolist().count(16) == 1
    assert dataset.rows.loc["twin", "duplicate_of"] == ""
    build(recipe, tmp_path / "fresh.zarr")
    check_equal(store, tmp_path / "fresh.zarr")


def test_new_labels_and_new_places_cost_nothing(tmp_path: Path) -> None:
    def edit(text: str) -> str:
        head, *rows = text.splitlines()
        rows = [rows[-1], *rows[:-1]]  # the last row comes first
        return "\n".join([head, *rows]).replace("m6,C#C,", "m6,C#C,7") + "\n"

    printed, store, fresh = follow(tmp_path, edit)
    assert "rows moved" in printed
    assert "1 rows relabelled" in printed
    check_equal(store, fresh)
    dataset = open_dataset(store)
    assert dataset.ids[0] == "m11#0"
    assert dataset.table.loc["m6#0", "charge_of_label"] == pytest.approx(70.857142857, abs=1e-6)
    assert len(read_plan(store).generations) == 2
    assert len(read_plan(store).shards()) == len(read_plan(fresh).shards())


def test_a_renamed_row_takes_its_sample_along(tmp_path: Path) -> None:
    printed, store, fresh = follow(tmp_path, lambda text: text.replace("m9,", "fluoride,"))
    assert "1 rows added, 1 rows removed" in printed
    check_equal(store, fresh)
    assert len(read_plan(store).shards()) == len(read_plan(fresh).shards())


def test_the_same_rows_in_other_words_are_no_change(tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path), tmp_path / "store.zarr"
    build(recipe, store)
    whole, source = identify(store), tmp_path / "molecules.csv"
    source.write_text(source.read_text().replace("\n", "\r\n"))
    assert "nothing to compute" not in rhoflow_here("plan", recipe, store)
    assert "nothing to compute" in rhoflow(tmp_path / "home", "build", recipe, store)
    assert identify(store) == whole
    assert not (store / generation_key(2)).exists()
    assert "0 not as they were written" in rhoflow_here("verify", store)


def test_a_sealed_version_can_be_read_when_the_source_has_moved_on(tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path), tmp_path / "store.zarr"
    build(recipe, store)
    shutil.copytree(store, tmp_path / "first.zarr")
    source = tmp_path / "molecules.csv"
    edited = source.read_text().replace("m3,N,", "m3,P,").replace("m7,CCC,1.0\n", "").replace("m6,C#C,", "m6,C#C,7")
    source.write_text(edited + "late,CCO,1\n")
    build(recipe, store)
    was, then, now = open_dataset(tmp_path / "first.zarr"), open_dataset(store, version=1), open_dataset(store)
    assert then.ids == was.ids != now.ids
    assert then.attributes == was.attributes != now.attributes
    pd.testing.assert_frame_equal(then.rows, was.rows, check_like=True, check_dtype=False)
    pd.testing.assert_frame_equal(then.table, was.table, check_like=True, check_dtype=False)
    for id in was.ids:
        np.testing.assert_array_equal(then[id].channels["guess"], was[id].channels["guess"])
        np.testing.assert_array_equal(then[id].numbers, was[id].numbers)
        np.testing.assert_array_equal(then[id].states["target"].orbitals, was[id].states["target"].orbitals)
        assert then[id].states["target"].dipole == was[id].states["target"].dipole
        assert then[id].id == id
    assert sorted(then.to_xarray()["cells_16"]["id"].values) == sorted(was.to_xarray()["cells_16"]["id"].values)
    with pytest.raises(RequestError, match="no sealed version 3: the last is 2"):
        open_dataset(store, version=3)


NUMBERED = """
[source]
path = "molecules.csv"
[densities.target]
engine = "gaussian"
[grid]
spacing_angstrom = 0.5
classes = [16, 20, 24]
"""


def test_rows_known_by_their_numbers_may_shift(tmp_path: Path) -> None:
    source, recipe, store = tmp_path / "molecules.csv", tmp_path / "recipe.toml", tmp_path / "store.zarr"
    recipe.write_text(NUMBERED)
    source.write_text("smiles\nCO\nOC\nN\nCC\n")
    build(recipe, store)
    shutil.copytree(store, tmp_path / "first.zarr")
    shards = len(read_plan(store).shards())
    source.write_text("smiles\nOC\nN\nCC\n")  # every row has another number
    build(recipe, store)
    assert len(read_plan(store).shards()) == shards
    build(recipe, tmp_path / "fresh.zarr")
    assert compare_stores(store, tmp_path / "fresh.zarr").is_identical
    was, then = open_dataset(tmp_path / "first.zarr"), open_dataset(store, version=1)
    for id in was.ids:
        assert then[id].states["target"].dipole == was[id].states["target"].dipole
        np.testing.assert_array_equal(then[id].numbers, was[id].numbers)
    assert all(sample.is_sound for sample in recompute_samples(store, 3))


def test_a_source_without_rows_is_refused_and_the_dataset_stays_sealed(tmp_path: Path) -> None:
    recipe, store, source = write_recipe(tmp_path), tmp_path / "store.zarr", tmp_path / "molecules.csv"
    build(recipe, store)
    source.write_text(source.read_text().splitlines()[0] + "\n")
    assert "holds no molecules" in rhoflow_here("plan", recipe, store, code=2)
    assert len(open_dataset(store)) == 12


def test_a_voxelized_store_follows_no_source(scheduler: str, tmp_path: Path) -> None:
    recipe, store, source = write_recipe(tmp_path), tmp_path / "store.zarr", tmp_path / "molecules.csv"
    build(recipe, store)
    rhoflow_here("voxelize", store, tmp_path / "coarse.zarr", "--spacing-angstrom", "1", "--cluster", scheduler)
    source.write_text(source.read_text() + "late,CCO,1\n")
    coarse = tmp_path / "coarse.toml"
    coarse.write_text(recipe.read_text().replace("spacing_angstrom = 0.5", "spacing_angstrom = 1"))
    assert "follows no source (1 rows added" in rhoflow_here("plan", coarse, tmp_path / "coarse.zarr", code=2)
    assert len(open_dataset(tmp_path / "coarse.zarr")) == 12


def test_what_is_no_store_cannot_be_retried(tmp_path: Path) -> None:
    assert "is no rhoflow store" in rhoflow(tmp_path / "home", "retry", tmp_path / "typo.zarr", code=2)
    assert not (tmp_path / "typo.zarr").exists()


def test_a_grown_limit_appends(tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path), tmp_path / "store.zarr"
    build(recipe, store, limit=5)
    first = fingerprint(store)
    assert "7 rows added" in build(recipe, store)
    assert fingerprint(store) != first
    build(recipe, tmp_path / "fresh.zarr")
    check_equal(store, tmp_path / "fresh.zarr")


def test_a_source_that_changes_before_the_first_build_is_done_is_followed_too(tmp_path: Path) -> None:
    recipe, store, source = write_recipe(tmp_path), tmp_path / "store.zarr", tmp_path / "molecules.csv"
    rhoflow_here("plan", recipe, store)
    rhoflow_here("run", store, "--parts", "1/3")
    source.write_text(source.read_text().replace("m3,N,", "m3,P,") + "late,CCO,1\n")
    build(recipe, store)
    build(recipe, tmp_path / "fresh.zarr")
    check_equal(store, tmp_path / "fresh.zarr")


def test_a_killed_build_of_a_grown_source_ends_as_an_undisturbed_one(
    home: Path, scheduler: str, tmp_path: Path
) -> None:
    grown = "\n".join(f"x{k},{'C' * (k + 2)}O,{k}" for k in range(6)) + "\n"
    stores = []
    for name in ("killed", "undisturbed"):
        recipe, store = write_recipe(tmp_path / name), tmp_path / name / "store.zarr"
        build(recipe, store)
        with (tmp_path / name / "molecules.csv").open("a") as file:
            file.write(grown)
        stores.append((recipe, store))
    (recipe, killed), (other, undisturbed) = stores
    shards = len(read_plan(killed).shards())
    running = subprocess.Popen(
        command("build", recipe, killed, "--workers", "1"),
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (killed / receipt_key(shards)).exists():
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    rhoflow(home, "build", recipe, killed, "--cluster", scheduler)
    build(other, undisturbed)
    assert identify(killed) == identify(undisturbed)
    assert fingerprint(killed) == fingerprint(undisturbed)


CHEMISTRY = """
[source]
path = "molecules.smi"
[conformers]
optimise = "gfn2"
[densities.guess]
engine = "gfn2"
[densities.target]
engine = "dft"
functional = "PBE"
basis = "gth-dzvp"
[grid]
spacing_angstrom = 0.5
margin_angstrom = 2.0
classes = [16, 20]
[channels]
atom_types = false
[store]
shard_samples = 2
"""


def write_chemistry(folder: Path, name: str, change: Edit, rows: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "molecules.smi").write_text(rows)
    path = folder / f"{name}.toml"
    path.write_text(change(CHEMISTRY))
    return path


ROWS = "O water\nC methane\nN ammonia\n"


@pytest.fixture(scope="module")
def chemistry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three molecules with GFN2 and PBE."""
    folder = tmp_path_factory.mktemp("chemistry")
    build(write_chemistry(folder, "old", lambda text: text, ROWS), folder / "old.zarr")
    return folder / "old.zarr"


def read_circumstance(store: Path, name: str) -> list[float]:
    return [float(receipt.circumstances[name]) for receipt in read_receipts(store)]


def test_reuse_takes_over_samples_that_are_the_same_and_computes_the_rest(chemistry: Path, tmp_path: Path) -> None:
    recipe = write_chemistry(tmp_path, "grown", lambda text: text, "C methane\nF fluoride\nN ammonia\nO wasser\n")
    fresh, new = tmp_path / "fresh.zarr", tmp_path / "new.zarr"
    build(recipe, fresh)
    build(recipe, new, reuse=chemistry)
    assert sum(read_circumstance(new, "taken_over")) == 3
    assert identify(new) == identify(fresh)
    assert sum(read_circumstance(new, "states_taken_over")) == 0  # they came with the samples


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        (lambda text: text.replace("atom_types = false", 'gradient_magnitude = ["target"]\natom_types = true'), 6),
        (lambda text: text.replace('"PBE"', '"BLYP"'), 3),
    ],
    ids=["channel", "functional"],
)
def test_reuse_costs_only_what_has_changed(chemistry: Path, tmp_path: Path, change: Edit, taken: int) -> None:
    recipe = write_chemistry(tmp_path, "changed", change, ROWS)
    fresh, new = tmp_path / "fresh.zarr", tmp_path / "new.zarr"
    build(recipe, fresh)
    build(recipe, new, reuse=chemistry)
    assert identify(new) == identify(fresh)
    assert read_circumstance(new, "taken_over") == [0.0] * len(read_receipts(new))
    assert sum(read_circumstance(new, "states_taken_over")) == taken


def test_what_is_taken_from_a_store_that_has_gone_is_computed(home: Path, chemistry: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.zarr", tmp_path / "new.zarr"
    shutil.copytree(chemistry, old)
    recipe = write_chemistry(tmp_path, "same", lambda text: text, ROWS)
    rhoflow_here("plan", recipe, new, "--reuse", old)
    shutil.rmtree(old)
    assert "gone or has changed" in rhoflow_here("run", new)
    rhoflow(home, "seal", new)
    assert identify(new) == identify(chemistry)


def test_what_a_store_has_lost_is_not_taken_from_it(chemistry: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.zarr"
    shutil.copytree(chemistry, old)
    lost = next(key for key in list_objects(old) if "orbitals_target" in key)
    recipe = write_chemistry(tmp_path, "same", lambda text: text, ROWS)
    rhoflow_here("plan", recipe, tmp_path / "new.zarr", "--reuse", old)
    (old / lost).unlink()
    assert f"{lost} is gone" in rhoflow_here("run", tmp_path / "new.zarr", code=1)


def test_reuse_of_what_is_no_other_sealed_store_is_refused(chemistry: Path, tmp_path: Path) -> None:
    recipe = write_chemistry(tmp_path, "same", lambda text: text, ROWS)
    assert "is no rhoflow store" in rhoflow_here("plan", recipe, tmp_path / "a.zarr", "--reuse", tmp_path, code=2)
    assert "name another one" in rhoflow_here("plan", recipe, chemistry, "--reuse", chemistry, code=2)
