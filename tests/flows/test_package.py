"""A dataset whose molecules come from a package follows it as one of a file does."""

from pathlib import Path

import pytest

from flows.care.compare_stores import compare_stores
from flows.estimate import estimate_build
from flows.recipe import read_recipe
from flows.report.head import describe
from flows.source import finish_unchanged
from storage.errors import RequestError
from storage.header import read_header
from storage.reader import open_dataset
from tests.flows.small_build import RECIPE, rhoflow_here
from tests.flows.test_follow import build

SOURCE = '[source]\npackage = "qm9"\nheavy_atoms = 4\ncount = 6\nlabels = ["U0_Ha"]\n[conformers]\nkeep = true\n'


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(SOURCE + RECIPE[RECIPE.index("[densities.guess]") :])
    return path


def rewrite(recipe: Path, old: str, new: str) -> None:
    recipe.write_text(recipe.read_text().replace(old, new))


def test_a_larger_count_adds_molecules_and_computes_no_other_again(recipe: Path, tmp_path: Path) -> None:
    store, fresh = tmp_path / "store.zarr", tmp_path / "fresh.zarr"
    build(recipe, store)
    few = open_dataset(store)
    assert len(few.ids) == 6
    assert build(recipe, store) == "no row has changed"
    rewrite(recipe, "count = 6", "count = 9")
    assert build(recipe, store) == "3 rows added"
    build(recipe, fresh)
    assert compare_stores(store, fresh).is_identical
    assert set(few.ids) < set(open_dataset(store).ids)
    assert read_header(store).recipe["source"]["count"] == 9


def test_more_heavy_atoms_are_other_molecules_of_the_same_dataset(recipe: Path, tmp_path: Path) -> None:
    store, fresh = tmp_path / "store.zarr", tmp_path / "fresh.zarr"
    rewrite(recipe, "heavy_atoms = 4\ncount = 6", "heavy_atoms = 2")
    build(recipe, store)
    rewrite(recipe, "heavy_atoms = 2", "heavy_atoms = 3")
    assert build(recipe, store) == "9 rows added"
    build(recipe, fresh)
    assert compare_stores(store, fresh).is_identical


def test_another_source_is_another_dataset(recipe: Path, tmp_path: Path) -> None:
    build(recipe, tmp_path / "store.zarr")
    (tmp_path / "molecules.csv").write_text("smiles,U0_Ha\nC,1\n")
    rewrite(recipe, 'package = "qm9"\nheavy_atoms = 4\ncount = 6', 'path = "molecules.csv"')
    with pytest.raises(RequestError, match=r"begun with another recipe: source\.package was 'qm9', is None"):
        build(recipe, tmp_path / "store.zarr")


def test_a_limit_takes_the_first_molecules_and_a_grown_one_appends(recipe: Path, tmp_path: Path) -> None:
    build(recipe, tmp_path / "store.zarr", limit=2)
    assert len(open_dataset(tmp_path / "store.zarr").ids) == 2
    assert build(recipe, tmp_path / "store.zarr", limit=5) == "3 rows added"


def test_an_estimate_counts_the_chosen_molecules(recipe: Path) -> None:
    estimate = estimate_build(read_recipe(recipe), None, 2, on_done=[].append)
    assert (estimate.rows, estimate.timed, estimate.failed) == (6, 2, {})


def test_a_finished_dataset_is_found_unchanged_until_more_is_asked_for(recipe: Path, tmp_path: Path) -> None:
    build(recipe, tmp_path / "store.zarr")
    assert finish_unchanged(tmp_path / "store.zarr", read_recipe(recipe), None)
    rewrite(recipe, "count = 6", "count = 7")
    assert not finish_unchanged(tmp_path / "store.zarr", read_recipe(recipe), None)


def test_a_dataset_from_a_package_is_checked_and_built_again_from_itself(recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    build(recipe, store)
    rhoflow_here("verify", store, "--deep")
    assert "identical" in rhoflow_here("regenerate", store, tmp_path / "again.zarr", "--workers", "1")


def test_a_report_names_the_package(recipe: Path) -> None:
    assert "densities of molecules from QM9: " in describe(read_recipe(recipe))
