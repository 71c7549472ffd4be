"""An estimate is near what the build then takes."""

import json
from pathlib import Path

import pytest

from tests.flows.small_build import rhoflow, rhoflow_here, write_recipe

SIZES = ["C", "CC", "CCC", "CCCC", "CCCCC", "CCCCCC", "CO", "CCO", "CCCO", "CCN", "CCCN", "C=C", "N", "O", "CC=C", "CF"]


def test_disk_and_files_are_near_what_the_build_takes(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    recipe, store = write_recipe(tmp_path), tmp_path / "store.zarr"
    rows = [f"m{k},{smiles},0" for k, smiles in enumerate(SIZES)]
    (tmp_path / "molecules.csv").write_text("\n".join(["name,smiles,charge_of_label", *rows, "bad,O(C)(C)C,0"]))
    recipe.write_text(recipe.read_text().replace("classes = [16, 20, 24]", "classes = [24, 32]"))
    printed = rhoflow(home, "estimate", recipe, "--molecules", "6", "--json").splitlines()
    estimate = json.loads(next(line for line in printed if line.startswith("{")))
    assert estimate["rows"] == 17
    assert estimate["timed"] == 6
    assert estimate["timed_sizes"] == [1, 6]
    for arguments in (("plan", recipe, store), ("run", store), ("seal", store)):
        rhoflow_here(*arguments)
    status = json.loads(rhoflow_here("status", store, "--json"))
    files = [path for path in store.rglob("*") if path.is_file()]
    assert estimate["files"] == pytest.approx(len(files), rel=0.25)
    assert estimate["bytes"] == pytest.approx(sum(path.stat().st_size for path in files), rel=0.35)
    assert 0.2 < estimate["core_hours"] * 3600 / status["computing_seconds"] < 5  # milliseconds each, on shared cores
    assert 0.05 < estimate["memory_gib"] < 4
    assert not list(tmp_path.glob("**/estimate.zarr"))


def test_an_empty_source_is_refused(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "molecules.csv").write_text("name,smiles,charge_of_label\n")
    assert "holds no molecules" in rhoflow_here("estimate", recipe, code=2)
