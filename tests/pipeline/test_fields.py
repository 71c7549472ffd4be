"""Fields of atoms: exact at any position, whatever the grid, and turned with the molecule."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pipeline.fields import Gaussians, find_peak, parse_channel, spread_atoms
from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError
from storage.schema import FloatArray, IntArray

RANDOM = np.random.default_rng(3)
NUMBERS: IntArray = np.array([6, 8, 1, 1, 7])
POSITIONS: FloatArray = RANDOM.normal(0, 2, (5, 3))


def turn() -> FloatArray:
    turned, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    return np.asarray(turned * np.linalg.det(turned))


def spread(channel: str, positions: FloatArray = POSITIONS, beta: float = 0.5) -> Gaussians:
    return spread_atoms(parse_channel(channel), NUMBERS, positions, beta)


@pytest.mark.parametrize("channel", ["H", "radius", "electronegativity", "wigner_seitz:H,C,N"])
def test_turning_the_molecule_is_turning_the_query(channel: str) -> None:
    points, rotation = RANDOM.normal(0, 3, (50, 3)), turn()
    np.testing.assert_allclose(
        spread(channel, POSITIONS @ rotation.T).at_points(points @ rotation.T),
        spread(channel).at_points(points),
        rtol=1e-12,
    )


def test_a_value_does_not_depend_on_the_grid_it_is_asked_on() -> None:
    field = spread("radius")
    fine = tuple(np.sort(RANDOM.uniform(-3, 3, n)) for n in (9, 7, 8))
    values = field.on_axes((fine[0], fine[1], fine[2]))
    coarse = field.on_axes((fine[0][::2], fine[1][1::3], fine[2][4:5]))
    np.testing.assert_allclose(values[::2, 1::3, 4:5], coarse, rtol=1e-13)
    points = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1).reshape(-1, 3)
    np.testing.assert_allclose(field.at_points(points).reshape(values.shape), values, rtol=1e-12)


def test_an_atom_alone_falls_as_a_gaussian_of_its_width() -> None:
    """Widths in ångström: the property over carbon's; 1.50 and 1.77 Å are the radii, 3.38 and 5.55 the densities."""
    for channel, width in (("O", 1.50 / 1.77), ("wigner_seitz:H", 3.38 / 5.55)):
        positions = POSITIONS * 100  # far apart
        atom = positions[1 if channel == "O" else 2]
        away = np.array([0.3, -0.4, 1.2]) * BOHR_PER_ANGSTROM  # 1.3 Å
        values = spread(channel, positions, beta=0.25).at_points(np.array([atom, atom + away]))
        np.testing.assert_allclose(values, [1, np.exp(-0.25 * 1.3**2 / width**2)], rtol=1e-12)


def test_a_channel_reaches_one_and_no_more() -> None:
    field = spread("radius")
    start = POSITIONS[np.argmax(field.at_points(POSITIONS))]
    found = minimize(lambda point: -field.at_points(point[None])[0], start, method="BFGS")
    assert -found.fun == pytest.approx(1, abs=1e-9)
    assert field.at_points(RANDOM.normal(0, 2, (20000, 3))).max() <= 1 + 1e-12


def test_an_empty_channel_is_zero() -> None:
    assert find_peak(np.zeros(0), np.zeros((0, 3))) == 1
    np.testing.assert_array_equal(spread("F").on_axes((np.zeros(2), np.ones(2), np.zeros(3))), np.zeros((2, 2, 3)))


def test_torch_gives_what_numpy_gives() -> None:
    axes = tuple(np.linspace(-3, 3, n) for n in (4, 5, 6))
    x, y, z = map(torch.as_tensor, axes)
    field = spread("electronegativity")
    np.testing.assert_allclose(field.on_axes((x, y, z)).numpy(), field.on_axes((axes[0], axes[1], axes[2])), rtol=1e-12)
    np.testing.assert_allclose(field.at_points(torch.as_tensor(POSITIONS)), field.at_points(POSITIONS), rtol=1e-12)


def test_parts_are_told_apart() -> None:
    parts = ["ligand", "ligand", "protein", "ligand", "protein"]
    field = spread_atoms(parse_channel("protein:H"), NUMBERS, POSITIONS, 0.5, parts)
    np.testing.assert_array_equal(field.centres, POSITIONS[[2]])
    with pytest.raises(RequestError, match="no part 'solvent'; its parts: ligand, protein"):
        spread_atoms(parse_channel("solvent:H"), NUMBERS, POSITIONS, 0.5, parts)


def test_given_radii_go_before_the_tables() -> None:
    field = spread_atoms(parse_channel("wigner_seitz:C,O"), NUMBERS, POSITIONS, 1.0, radii={8: 2.0})
    np.testing.assert_allclose(field.exponents, [1, 0.25] / np.float64(BOHR_PER_ANGSTROM**2))


def test_an_element_without_the_property_is_named() -> None:
    with pytest.raises(RequestError, match=r"no wigner_seitz is known of O.*wigner_seitz:H,C,N"):
        spread("wigner_seitz")


@pytest.mark.parametrize("text", ["Xx", "carbon", "radius:Q", "a:b:c:d", "ligand:colour"])
def test_what_is_no_channel_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="write \\[part:\\]what\\[:elements\\]"):
        parse_channel(text)
