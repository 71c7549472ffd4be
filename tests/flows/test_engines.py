"""A recipe's densities become engines: a periodic one with its box, an isolated one without."""

from pathlib import Path

import numpy as np
import pytest

from flows.engines import build_engines
from flows.recipe import RecipeError, parse_recipe, recipe_values
from pipeline.engines.dft import DftEngine
from pipeline.engines.periodic import PeriodicDftEngine
from pipeline.engines.sad import SadEngine

DENSITIES = """
[source]
path = "molecules.csv"
[grid]
[densities.target]
engine = "dft"
{target}
[densities.guess]
engine = "sad"
variant = "gth-szv"
{guess}
"""
POSITIONS = np.array([[0.0, 0.0, 0.0], [2.0, 1.0, 0.0]])


def recipe(target: str = "", guess: str = "") -> str:
    return DENSITIES.format(target=target, guess=guess)


def test_densities_are_of_isolated_molecules_unless_told_otherwise() -> None:
    engines = build_engines(parse_recipe(recipe(), Path("recipe.toml")))
    assert isinstance(engines["target"], DftEngine)
    assert isinstance(engines["guess"], SadEngine)
    assert engines["guess"].box is None


def test_a_periodic_density_has_the_published_boxes_unless_told_otherwise() -> None:
    periodic = 'boundary = "periodic"'
    parsed = parse_recipe(recipe(periodic, periodic), Path("recipe.toml"))
    engines = build_engines(parsed)
    assert isinstance(engines["target"], PeriodicDftEngine)
    assert isinstance(engines["guess"], SadEngine)
    assert engines["guess"].box == engines["target"].box
    values = recipe_values(parsed)["densities"]["target"]
    assert (values["vacuum_angstrom"], values["mesh_spacing_angstrom"], values["mesh_multiple"]) == (2.0, 0.0831215, 2)


def test_keys_of_the_box_are_heard() -> None:
    keys = 'boundary = "periodic"\nvacuum_angstrom = 1.5\nmesh_spacing_angstrom = 0.1\nmesh_multiple = 4'
    engine = build_engines(parse_recipe(recipe(keys), Path("recipe.toml")))["target"]
    assert isinstance(engine, PeriodicDftEngine)
    assert engine.box.mesh(POSITIONS) == (44, 36, 32)  # 10.58, 5.29 and 0 Å/10 of atoms, 30 of vacuum
    assert engine.box.edges(POSITIONS) == pytest.approx(np.array([4.4, 3.6, 3.2]) / 0.529177210903)


def test_recipe_values_make_the_same_recipe() -> None:
    parsed = parse_recipe(recipe('boundary = "periodic"\nmesh_multiple = 4'), Path("recipe.toml"))
    assert type(parsed).model_validate(recipe_values(parsed)) == parsed


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("vacuum_angstrom = 2.0", r"densities\.target: vacuum_angstrom describes a periodic box: .*\"periodic\""),
        ('boundary = "open"\nmesh_multiple = 2', r"densities\.target: mesh_multiple describes a periodic box"),
        ('boundary = "slab"', r"densities\.target\.boundary = 'slab': input should be 'open' or 'periodic'"),
        (
            'boundary = "periodic"\nvacuum_angstrom = -1',
            r"densities\.target\.vacuum_angstrom = -1: input should be gre",
        ),
        ('boundary = "periodic"\nmesh_spacing_angstrom = 0.3', r"\[densities\.target\]: a mesh of 0\.567 bohr"),
        ('boundary = "periodic"\nfunctional = "B3LYP"', r"\[densities\.target\]: boundary \"periodic\" computes func"),
    ],
)
def test_boxes_that_make_no_sense_are_refused_by_name(keys: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_engines(parse_recipe(recipe(keys), Path("recipe.toml")))
