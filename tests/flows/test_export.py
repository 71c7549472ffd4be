"""A stored sample leaves as a file that holds the same molecule, grid and values."""

import re
from pathlib import Path

import gemmi
import numpy as np
import pytest
from ase import units
from ase.io.cube import read_cube as ase_read_cube

from flows.export import export_sample
from pipeline.formats import read_cube, read_npz
from storage.errors import RequestError
from storage.reader import StoredSample, open_dataset
from tests.flows.small_build import build_here, rhoflow, rhoflow_here

RECIPE = """
[source]
path = "molecules.csv"
id = "name"
[densities.guess]
engine = "gaussian"
exponent = 0.6
[densities.target]
engine = "gaussian"
[channels]
gradient_magnitude = ["target"]
atom_types = true
atom_type_elements = ["H", "C"]
[grid]
spacing_angstrom = 0.5
classes = [16, 20]
box = "tight"
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    (folder / "molecules.csv").write_text("name,smiles\nacetylene,C#C\nammonium,[NH4+]\n")
    (folder / "recipe.toml").write_text(RECIPE)
    return build_here(folder / "recipe.toml", folder / "store.zarr")


@pytest.fixture
def ammonium(store: Path) -> StoredSample:
    return open_dataset(store)["ammonium#0"]


def export(store: Path, file: Path, *channels: str, code: int = 0) -> str:
    asked = [word for channel in channels for word in ("--channel", channel)]
    return rhoflow_here("export", store, "ammonium#0", *asked, file, code=code)


def test_a_cube_of_several_channels_is_the_sample(store: Path, tmp_path: Path, ammonium: StoredSample) -> None:
    file = tmp_path / "a.cube"
    names = ("target", "guess", "target_gradient", "atom_types_H")
    assert str(file) in export(store, file, *names)
    read = read_cube(file)
    assert read.scene.grid == ammonium.grid
    assert read.scene.charge == 1
    np.testing.assert_array_equal(read.scene.positions, ammonium.positions)
    assert list(read.fields) == [
        "target_electrons_per_bohr3",
        "guess_electrons_per_bohr3",
        "target_gradient_electrons_per_bohr4",
        "atom_types_H",
    ]
    stored = [ammonium.channels[name] for name in names[:3]] + [ammonium.channels["atom_types"][0]]
    for values, expected in zip(read.fields.values(), stored, strict=True):
        np.testing.assert_array_equal(values.astype(np.float32), expected)
    with file.open() as opened:
        other = ase_read_cube(opened)
    np.testing.assert_array_equal(other["datas"].astype(np.float32), stored)
    np.testing.assert_array_equal(other["atoms"].numbers, ammonium.numbers)
    np.testing.assert_array_equal(other["origin"], np.array(ammonium.grid.origin) * units.Bohr)
    assert "averages over the cells" in file.read_text().splitlines()[0]


def test_a_map_is_where_the_molecule_is(store: Path, tmp_path: Path, ammonium: StoredSample) -> None:
    """The centre of the density, by gemmi's reading and the ORIGIN words, is the centre of the atoms that hold it."""
    export(store, tmp_path / "a.mrc", "target")
    read = gemmi.read_ccp4_map(str(tmp_path / "a.mrc"))
    values = np.array(read.grid, dtype=np.float64)
    lengths, origin = read.grid.unit_cell.parameters[:3], [read.header_float(word) for word in (50, 51, 52)]
    valence = np.where(ammonium.numbers == 7, 5.0, 1.0)  # the analytic engine spreads the charge alike
    expected = valence @ ammonium.positions / valence.sum() * 0.529177210903
    for axis in range(3):
        along = origin[axis] + np.arange(values.shape[axis]) * lengths[axis] / values.shape[axis]
        others = tuple(other for other in range(3) if other != axis)
        assert values.sum(axis=others) @ along / values.sum() == pytest.approx(expected[axis], abs=2e-3)
    assert values.mean() * read.grid.unit_cell.volume == pytest.approx(8, abs=5e-3)  # rounding, and the box's edge


def test_an_npz_holds_every_channel_that_is_asked_for(store: Path, tmp_path: Path, ammonium: StoredSample) -> None:
    channels = ("--channel", "guess", "--channel", "target")
    rhoflow(tmp_path / "home", "export", store, "ammonium#0", *channels, "--format", "npz", tmp_path / "a.dat")
    (tmp_path / "a.dat").rename(tmp_path / "a.npz")
    read = read_npz(tmp_path / "a.npz")
    assert read.scene.grid == ammonium.grid
    assert (read.scene.charge, read.scene.sampling) == (1, "cell")
    np.testing.assert_array_equal(read.fields["guess_electrons_per_bohr3"], ammonium.channels["guess"])
    np.testing.assert_array_equal(read.fields["target_electrons_per_bohr3"], ammonium.channels["target"])


@pytest.mark.parametrize(
    ("id", "channel", "file", "message"),
    [
        ("ammonium", "target", "a.cube", "has no sample 'ammonium': there are ammonium#0"),
        ("water#0", "target", "a.cube", "has no sample 'water#0': there are acetylene#0, ammonium#0"),
        ("ammonium#0", "density", "a.cube", "no channel 'density': there are guess, target, target_gradient, atom"),
        ("ammonium#0", "target", "a.xyz", "the ending is none of .cube, .cube.gz"),
        ("ammonium#0", "target", "absent/a.cube", "cannot be written"),
        ("ammonium#0", "target", "absent/a.mrc", "cannot be written"),
    ],
)  # fmt: skip
def test_a_wrong_request_says_what_there_is(
    store: Path, tmp_path: Path, id: str, channel: str, file: str, message: str
) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        export_sample(store, id, [channel], tmp_path / file, None)
    assert not list(tmp_path.rglob("*"))


def test_a_map_of_two_channels_and_an_unknown_format_are_refused(store: Path, tmp_path: Path) -> None:
    assert "holds one field" in export(store, tmp_path / "a.ccp4", "guess", "target", code=2)
    with pytest.raises(RequestError, match="there are cube, ccp4, npz"):
        export_sample(store, "ammonium#0", ["target"], tmp_path / "a.cube", "xsf")


def test_the_command_has_help_with_an_example() -> None:
    assert "Example: rhoflow export" in " ".join(rhoflow_here("export", "--help").split()).replace("`", "")
