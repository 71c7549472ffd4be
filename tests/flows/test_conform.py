"""Geometries that are kept go through the child together, and each ends for itself."""

import os
from pathlib import Path
from typing import Any

import pytest

from flows.conform import conform_part
from flows.recipe import read_recipe, recipe_values
from flows.source import read_source
from pipeline.conformers import conform
from storage.header import Header, begin_store
from storage.parts import ConformedRow, read_conformer_part
from storage.schema import Conformer, Molecule

RECIPE = """
[source]
path = "atoms.xyz"
[conformers]
keep = true
[densities.rho]
engine = "gaussian"
[grid]
spacing_angstrom = 1.0
"""


def conform_five(folder: Path) -> list[ConformedRow]:
    (folder / "atoms.xyz").write_text("".join(f"2\n\n{'CXC'[k % 3]} {k} 0 0\nO {k + 1.2} 0 0\n" for k in range(5)))
    (folder / "recipe.toml").write_text(RECIPE)
    store, recipe = folder / "store.zarr", read_recipe(folder / "recipe.toml")
    begin_store(store, Header(recipe_values(recipe), RECIPE))
    read_source(store, recipe)
    conform_part(store, 0)
    return read_conformer_part(store, 0)


def conform_or_abort(molecule: Molecule, **how: Any) -> list[Conformer]:
    if molecule.row == 2:
        os.abort()
    return conform(molecule, **how)


def test_a_bad_geometry_is_its_rows_own(tmp_path: Path) -> None:
    assert [row.outcome for row in conform_five(tmp_path)] == ["ok", "invalid_input", "ok", "ok", "invalid_input"]


def test_a_geometry_that_crashes_takes_none_of_its_part_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.conform.conform", conform_or_abort)
    rows = conform_five(tmp_path)
    assert [row.outcome for row in rows] == ["ok", "invalid_input", "crashed", "ok", "invalid_input"]
    assert [len(row.conformers) for row in rows] == [1, 0, 0, 1, 0]
