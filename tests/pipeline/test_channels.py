"""Channels are fields of a molecule: they turn with it, and say of its elements what they promise to say."""

import numpy as np
import pytest

from pipeline.engines.gaussian import GaussianEngine
from pipeline.sample import Fields, compute_sample
from pipeline.voxels import atom_types, molecular_shape
from storage.schema import Conformer, FloatArray, Grid

NUMBERS = np.array([8, 6, 7, 1, 1], dtype=np.int64)
POSITIONS = np.array([[0.3, 0.2, -0.4], [2.4, -0.1, 0.2], [-1.1, 1.9, 0.5], [-0.7, -1.3, 1.2], [3.1, 1.5, 0.9]])
FIELDS = Fields("cell", ("rho",), ("rho",), (1, 6, 8), shape=True)
TURNS = {  # rotation matrix, and the same turn of an array's last three axes
    "about z": (np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), lambda cube: np.rot90(cube, 1, (-3, -2))),
    "about x": (np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), lambda cube: np.rot90(cube, 1, (-2, -1))),
}


def centred(cells: int, spacing: float) -> Grid:
    first = -spacing * (cells - 1) / 2
    return Grid((cells,) * 3, (spacing,) * 3, (first, first, first))


def channels_of(positions: FloatArray, numbers: FloatArray = NUMBERS) -> dict[str, FloatArray]:
    conformer = Conformer("x#0", numbers, positions, 0, int(numbers.sum() % 2), "", "X")
    sample = compute_sample(conformer, centred(24, 0.6), {"rho": GaussianEngine()}, FIELDS)
    return {name: values.astype(np.float64) for name, values in sample.channels.items()}


@pytest.mark.parametrize("axis", TURNS)
def test_a_channel_turns_with_the_molecule(axis: str) -> None:
    rotation, turn = TURNS[axis]
    before, after = channels_of(POSITIONS), channels_of(POSITIONS @ rotation.T)
    assert sorted(before) == ["atom_types", "rho", "rho_gradient", "shape"]
    for name, values in after.items():
        assert values == pytest.approx(turn(before[name]), abs=3e-4), name
        assert np.abs(values - before[name]).max() > 0.05, name


def test_density_and_gradient_are_the_same_made_together_or_apart() -> None:
    together = channels_of(POSITIONS)
    conformer = Conformer("x#0", NUMBERS, POSITIONS, 0, 1, "", "X")
    for sampling in ("cell", "point"):
        one, both = (
            compute_sample(
                conformer, centred(24, 0.6), {"rho": GaussianEngine()}, Fields(sampling, densities, ("rho",))
            )
            for densities in ((), ("rho",))
        )
        assert both.channels["rho_gradient"] == pytest.approx(one.channels["rho_gradient"], abs=1e-7)
        if sampling == "cell":
            assert both.channels["rho"] == pytest.approx(together["rho"], abs=1e-7)


def test_occupancies_of_all_types_add_up_to_the_atoms() -> None:
    grid = centred(40, 0.7)
    types = atom_types(NUMBERS, POSITIONS, grid, "cell", [1, 6, 7, 8])
    single = [atom_types(NUMBERS[[k]], POSITIONS[[k]], grid, "cell", [])[0] for k in range(len(NUMBERS))]
    assert types.sum(axis=0) == pytest.approx(np.sum(single, axis=0), abs=1e-12)
    radii = np.array([1.50, 1.77, 1.66, 1.20, 1.20]) / 0.529177210903  # Alvarez 2013
    assert types.sum() * grid.cell_volume == pytest.approx(np.sum((np.pi * radii**2 / 2) ** 1.5), rel=1e-5)


def test_a_shape_of_one_radius_says_nothing_of_elements() -> None:
    grid, carbons = centred(24, 0.6), np.full(5, 6)
    same, other = (molecular_shape(numbers, POSITIONS, grid, "cell", 3.2) for numbers in (NUMBERS, carbons))
    assert np.array_equal(same, other)
    spheres = [molecular_shape(numbers, POSITIONS, grid, "cell") for numbers in (NUMBERS, carbons)]
    assert np.abs(spheres[0] - spheres[1]).max() > 0.1
    assert 0 <= same.min() < 0.01 < 0.9 < same.max() <= 1
