"""What is written is read back alike by other programs, and what they write is read, or refused with the reason."""

import contextlib
import csv
import gzip
import math
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
from ase import Atoms, units
from ase.io.cube import read_cube as ase_read_cube
from ase.io.cube import write_cube as ase_write_cube
from pyscf import gto
from pyscf.tools.cubegen import Cube

from pipeline.formats import (
    FormatError,
    Scene,
    Volume,
    name_volume,
    read_cube,
    read_npz,
    read_scene,
    read_volume,
    select_density,
    write_ccp4,
    write_cube,
    write_npz,
)
from storage.schema import Grid

BOHR_IN_ANGSTROM = 0.529177210903  # CODATA 2018
NAME = "target_electrons_per_bohr3"


@pytest.fixture
def volume() -> Volume:
    """A molecule on a grid with three shapes, three spacings and an origin that no short decimal gives."""
    random = np.random.default_rng(3)
    grid = Grid((3, 4, 7), (0.1 + 1 / 3, 0.37794522492515403, 2 / 7), (-math.pi, 1 / 3, -1e-3 / 3))
    positions = random.normal(size=(3, 3))
    values = np.float32(10.0) ** random.uniform(-12, 2, (3, 4, 7)).astype(np.float32)
    fields = {NAME: values, "guess_electrons_per_bohr3": values[::-1].copy()}
    return Volume(Scene(np.array([8, 1, 1]), positions, 1, grid, "cell"), fields)


@pytest.fixture
def single(volume: Volume) -> Volume:
    return replace(volume, fields={NAME: volume.fields[NAME]})


def check_same(found: Volume, expected: Volume) -> None:
    assert found.scene.grid == expected.scene.grid
    assert (found.scene.charge, found.scene.sampling) == (expected.scene.charge, expected.scene.sampling)
    np.testing.assert_array_equal(found.scene.numbers, expected.scene.numbers)
    np.testing.assert_array_equal(found.scene.positions, expected.scene.positions)
    assert list(found.fields) == list(expected.fields)
    for name, values in expected.fields.items():
        np.testing.assert_array_equal(found.fields[name].astype(np.float32), values)


# Cube


@pytest.mark.parametrize("ending", [".cube", ".cube.gz", ".cub"])
def test_a_cube_comes_back_with_every_bit_of_grid_atoms_and_values(volume: Volume, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    write_cube(path, volume)
    check_same(read_cube(path), volume)
    scene = read_scene(path)
    assert (scene.grid, scene.charge) == (volume.scene.grid, 1)
    assert name_volume(path) == "a"


def test_pyscf_reads_our_cube_exactly(single: Volume, tmp_path: Path) -> None:
    write_cube(tmp_path / "a.cube", single)
    cube = Cube(gto.M(atom="He", verbose=0))
    values = cube.read(tmp_path / "a.cube")
    grid = single.scene.grid
    np.testing.assert_array_equal(values.astype(np.float32), single.fields[NAME])
    np.testing.assert_array_equal(cube.boxorig, grid.origin)
    np.testing.assert_array_equal(cube.box, np.diag(np.array(grid.shape) * grid.spacing))
    np.testing.assert_array_equal(cube.mol.atom_charges(), [8, 1, 1])
    np.testing.assert_allclose(cube.mol.atom_coords(), single.scene.positions, rtol=0, atol=1e-15)


def test_ase_reads_our_cube_of_several_fields(volume: Volume, tmp_path: Path) -> None:
    write_cube(tmp_path / "a.cube", volume)
    with (tmp_path / "a.cube").open() as file:
        read = ase_read_cube(file)
    grid = volume.scene.grid
    np.testing.assert_array_equal(read["datas"].astype(np.float32), list(volume.fields.values()))
    assert read["labels"] == [1, 2]
    np.testing.assert_array_equal(read["origin"], np.array(grid.origin) * units.Bohr)
    np.testing.assert_array_equal(read["spacing"], np.diag(grid.spacing) * units.Bohr)
    np.testing.assert_array_equal(read["atoms"].numbers, [8, 1, 1])
    np.testing.assert_array_equal(read["atoms"].positions, volume.scene.positions * units.Bohr)


def test_every_atom_has_its_nuclear_charge(single: Volume, tmp_path: Path) -> None:
    write_cube(tmp_path / "a.cube", single)
    lines = (tmp_path / "a.cube").read_text().splitlines()
    assert [[float(word) for word in line.split()[:2]] for line in lines[6:9]] == [[8, 8.0], [1, 1.0], [1, 1.0]]


def test_cubes_of_pyscf_and_ase_are_read(tmp_path: Path) -> None:
    field = np.random.default_rng(5).random((4, 5, 9))
    molecule = gto.M(atom="O 0 0 0; H 0 0 1.8; H 0 1.7 -0.5", unit="bohr", verbose=0)
    cube = Cube(molecule, 4, 5, 9, resolution=None, margin=2.0)
    cube.write(field, tmp_path / "pyscf.cube")
    read = read_cube(tmp_path / "pyscf.cube")
    points = cube.get_coords().reshape(4, 5, 9, 3)
    for axis in range(3):
        along = np.moveaxis(points[..., axis], axis, 0)[:, 0, 0]
        np.testing.assert_allclose(read.scene.grid.centres(axis), along, rtol=0, atol=1e-5)  # six decimals a step
    np.testing.assert_allclose(read.fields["value_1"], field, rtol=6e-6)
    np.testing.assert_array_equal(read.scene.numbers, [8, 1, 1])

    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 1]], cell=[2.0, 2.5, 4.5])
    with (tmp_path / "ase.cube").open("w") as file:
        ase_write_cube(file, atoms, field, origin=(0.1, 0.2, 0.3))
    read = read_cube(tmp_path / "ase.cube")
    assert read.scene.grid.spacing == pytest.approx([0.5 / units.Bohr] * 3, abs=1e-6)
    np.testing.assert_allclose(read.fields["value_1"], field, rtol=1e-6)
    np.testing.assert_allclose(read.scene.positions, atoms.positions / units.Bohr, atol=1e-6)


CUBE = """a comment
another
    1    0.000000    0.000000    0.000000
    2    0.500000    0.000000    0.000000
    1    0.000000    0.500000    0.000000
    2    0.000000    0.000000    0.500000
    1    1.000000    0.250000    0.000000    0.250000
  1.0D-03  2.5E+00
  1.25-103  4
"""


ORBITALS = """benzene HOMO
MO coefficients
   -1    0.000000    0.000000    0.000000
    1    0.500000    0.000000    0.000000
    1    0.000000    0.500000    0.000000
    1    0.000000    0.000000    0.500000
    6    6.000000    0.250000    0.000000    0.250000
    2   20   21
  1.0E-01 -2.0E-01
"""


def test_exponents_as_fortran_writes_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.cube"
    path.write_text(CUBE)
    np.testing.assert_array_equal(read_cube(path).fields["value_1"].ravel(), [1e-3, 2.5, 1.25e-103, 4.0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  1.25-103  4\n",
            "  1.25",
            r"a\.cube: 3 values follow its head, but 2 x 1 x 2 x 1 = 4 are needed: is it cut",
        ),
        ("  4\n", "  4 5\n", "5 values follow its head, but"),
        ("2.5E+00", "nan", "value 2 after its head is 'nan', no finite number"),
        ("2.5E+00", "********", r"value 2 after its head is '\*+', no finite number"),
        (
            "    2    0.500000    0.000000 ",
            "    2    0.500000    0.100000 ",
            "not along x, y and z.*sample the density",
        ),
        ("    2    0.500000 ", "    2   -0.500000 ", "not along x, y and z"),
        ("    2    0.500000 ", "   -2    0.500000 ", "-2 cells along an axis.*unit of lengths.*in bohr"),
        ("    2    0.500000 ", "  2.5    0.500000 ", "line 4: '2.5 .*' is not a number of cells and a step vector"),
        ("    1    1.000000 ", "    H    1.000000 ", "line 7: 'H .*' is not an atom: is this a cube file"),
        ("a comment\nanother", "rhoflow\ncharge=half", "charge 'half' is not a whole number"),
        ("a comment\nanother", "rhoflow\nsampling=fine", "sampling is 'fine': it must be 'cell'"),
        ("    1    1.000000 ", "  999    1.000000 ", "line 7: 999 is the atomic number of no element"),
        ("    1    1.000000 ", "    0    1.000000 ", "line 7: 0 is the atomic number of no element"),
        ("    0.000000\n    2 ", "    0.000000  2.5\n    2 ", "line 3: 2.5 values per point: give a whole number"),
        ("    0.000000\n    2 ", "    0.000000  0\n    2 ", "line 3: 0 values per point"),
        ("    2    0.500000 ", "99999999    0.500000 ", "4 values follow its head, but 99999999 x 1 x 2 x 1"),
        *(
            (CUBE, ORBITALS.replace("    2   20   21", f"    {sets}   20   21"), f"line 8: {sets} data sets: give a")
            for sets in (-1, 0)
        ),
    ],
)
def test_a_wrong_cube_is_refused_by_name_place_and_remedy(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "a.cube"
    assert CUBE.count(old)
    path.write_text(CUBE.replace(old, new, 1))
    with pytest.raises(FormatError, match=message):
        read_cube(path)


def test_orbitals_are_read_but_are_no_density(tmp_path: Path) -> None:
    path = tmp_path / "a.cube"
    for text in (ORBITALS, ORBITALS.replace("    2   20   21", "    1   21").replace(" -2.0E-01", "")):
        path.write_text(text)
        read = read_cube(path)
        assert read.fields["orbital_1"].item() == 0.1
        for key in (None, "orbital_1"):
            with pytest.raises(FormatError, match=r"^a\.cube: it holds orbital data sets; write the density"):
                select_density(read, key, path)


@pytest.mark.parametrize("comment", ["Total charge=0.30 density", "sampling=fine", "charge=1 sampling=cell fields=x"])
def test_the_comment_of_another_program_is_free(tmp_path: Path, comment: str) -> None:
    path = tmp_path / "a.cube"
    for title in ("a comment", "made for rhoflow"):
        path.write_text(CUBE.replace("a comment\nanother", f"{title}\n{comment}"))
        read = read_cube(path)
        assert (read.scene.charge, read.scene.sampling, list(read.fields)) == (None, None, ["value_1"])


def test_reading_a_cube_takes_little_more_than_its_values(volume: Volume, tmp_path: Path) -> None:
    values = np.random.default_rng(2).random((100, 100, 200), dtype=np.float32)
    grid = replace(volume.scene.grid, shape=values.shape)
    path = tmp_path / "a.cube"
    write_cube(path, Volume(replace(volume.scene, grid=grid), {NAME: values}))
    tracemalloc.start()
    read = read_cube(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(read.fields[NAME].astype(np.float32), values)
    assert peak < 8 * values.size + 20e6  # float64, and a block of text


@pytest.mark.parametrize("lines", range(7))
def test_a_cube_cut_off_in_its_head_is_refused(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "a.cube"
    path.write_text("".join(CUBE.splitlines(keepends=True)[:lines]))
    with pytest.raises(FormatError, match=r"a\.cube: ends before .* is it cut off"):
        read_scene(path)


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.cube.gz"
    path.write_bytes(gzip.compress(CUBE.encode())[:-20])
    with pytest.raises(FormatError, match=r"a\.cube\.gz: the gzip file is damaged"):
        read_volume(path)


# npz


def test_an_npz_comes_back_with_every_bit_and_its_names_say_the_units(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_npz(path, volume)
    read = read_npz(path)
    check_same(read, volume)
    with np.load(path) as arrays:
        assert set(arrays) == {
            "numbers", "positions_bohr", "spacing_bohr", "origin_bohr", "charge", "sampling", *volume.fields,
        }  # fmt: skip
        np.testing.assert_array_equal(arrays["origin_bohr"], volume.scene.grid.origin)
        assert arrays["charge"] == 1


def test_lengths_and_densities_in_angstrom_are_converted(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((2, 3, 4))
    np.savez(
        tmp_path / "a.npz",
        symbols=["C", "O"],
        xyz_ang=[[0, 0, 0], [0, 0, BOHR_IN_ANGSTROM]],
        step_angstrom=np.diag([BOHR_IN_ANGSTROM, 1.0, 1.0]),
        origin_bohr=[1.0, 2.0, 3.0],
        rho_electrons_per_angstrom3=values,
    )
    read = read_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(read.scene.numbers, [6, 8])
    np.testing.assert_allclose(read.scene.positions, [[0, 0, 0], [0, 0, 1]], rtol=1e-15)
    assert read.scene.grid.spacing == pytest.approx([1, 1 / BOHR_IN_ANGSTROM, 1 / BOHR_IN_ANGSTROM])
    assert read.scene.charge is None
    density = select_density(read, None, tmp_path / "a.npz")
    assert density.sum() == pytest.approx(values.sum() / 6.7483, rel=1e-5)  # e/bohr³ × 6.7483 = e/Å³


GOOD = {
    "numbers": np.array([6]),
    "positions_bohr": np.zeros((1, 3)),
    "spacing_bohr": np.ones(3),
    "origin_bohr": np.zeros(3),
    "rho": np.ones((2, 2, 2)),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rho": np.full((2, 2, 2), np.nan)}, "field 'rho' holds values that are no finite numbers"),
        ({"rho": np.ones(8)}, "its fields have the shapes"),
        ({"sad": np.ones((2, 2, 3))}, r"its fields have the shapes \[\(2, 2, 2\), \(2, 2, 3\)\]"),
        ({"numbers": np.array([6, 1])}, r"2 atoms, positions of shape \(1, 3\)"),
        ({"rho": np.ones((0, 2, 2))}, r"its fields have the shapes \[\(0, 2, 2\)\]"),
        ({"rho": np.ones((2, 2, 2), dtype=int), "weights": np.ones((2, 2, 2))}, "field 'rho' holds int64 values"),
        ({"rho": np.ones((2, 2, 2), dtype=complex)}, "field 'rho' holds complex128 values: write it as real"),
        ({"positions_bohr": np.full((1, 3), np.nan)}, "positions_bohr holds values that are no finite numbers"),
        ({"origin_bohr": np.full(3, np.inf)}, "origin_bohr holds values that are no finite numbers"),
        ({"spacing_bohr": np.full(3, np.inf)}, "spacing_bohr holds values that are no finite numbers"),
        ({"spacing_angstrom": np.ones(3)}, "spacing_bohr and spacing_angstrom are there: keep one"),
        ({"xyz_ang": np.zeros((1, 3))}, "positions_bohr and xyz_ang are there: keep one"),
        ({"numbers": np.array([6.5])}, r"numbers holds 6\.5, the atomic number of no element"),
        ({"numbers": np.array([119])}, "numbers holds 119, the atomic number of no element"),
        ({"numbers": np.array([np.nan])}, "numbers holds nan, the atomic number of no element"),
        ({"numbers": None, "symbols": np.array(["X"])}, "'X' in symbols is no element"),
        ({"numbers": np.array(["C"])}, "numbers holds str32 values, not numbers"),
        ({"spacing_bohr": np.ones(2)}, r"spacing of shape \(2,\)"),
        ({"spacing_bohr": np.eye(3) + 0.1}, "not along x, y and z"),
        ({"spacing_bohr": None, "spacing_nm": np.ones(3)}, "no spacing_bohr or spacing_angstrom"),
        ({"numbers": None}, "neither numbers nor symbols"),
        ({"numbers": None, "symbols": np.array(["Q"])}, "'Q' in symbols is no element"),
        ({"charge": np.array(0.5)}, "charge '0.5' is not a whole number"),
        ({"sampling": np.array("mean")}, "sampling is 'mean': it must be 'cell'"),
    ],
)
def test_a_wrong_npz_is_refused_by_name_key_and_remedy(
    tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    arrays = {name: array for name, array in {**GOOD, **change}.items() if array is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(FormatError, match=rf"^a\.npz: .*{message}"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.npz: no npz file, or a damaged one"):
        read_scene(tmp_path / "a.npz")


def test_an_array_alone_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 2, 2)))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(FormatError, match=r"a\.npz: no npz file.*no zip archive"):
        read_npz(tmp_path / "a.npz")


def test_an_archive_of_something_else_has_no_fields(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("letter.txt", "no array")
    with pytest.raises(FormatError, match=r"a\.npz: its fields have the shapes \[\]"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_whichever_byte_is_damaged_the_file_is_read_or_named(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "a.npz"
    save(path, **GOOD)
    sound = path.read_bytes()
    with warnings.catch_warnings(action="ignore"):  # a header that Python 2 might have written, a charge of 1e300
        for place in range(2, len(sound)):
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << place % 8]) + sound[place + 1 :])
            with contextlib.suppress(FormatError):
                read_npz(path)


def test_a_fault_of_the_disk_is_not_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(IsADirectoryError):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("esp_hartree", "hartree"),
        ("v_eV", "eV"),
        ("v_hartree_per_e", "hartree per e"),
        ("rho_coulomb_per_bohr3", "coulomb per bohr3"),
        ("rho_electrons", "electrons"),
        ("rho_gradient_electrons_per_bohr4", "electrons per bohr4"),
    ],
)
def test_a_field_in_another_unit_is_no_density(single: Volume, name: str, unit: str) -> None:
    other = replace(single, fields={name: single.fields[NAME]})
    for key in (None, name):
        with pytest.raises(
            FormatError, match=rf"^a\.npz: field '{name}' ends in the unit '{unit}': give electrons_per"
        ):
            select_density(other, key, Path("a.npz"))


@pytest.mark.parametrize("name", ["rho", "value_1", "rho_sad", "rho_per_atom_electrons_per_bohr3", "rho_e_per_bohr3"])
def test_electrons_per_cubic_bohr_are_meant_where_nothing_else_is_said(single: Volume, name: str) -> None:
    named = replace(single, fields={name: single.fields[NAME]})
    np.testing.assert_array_equal(select_density(named, name, Path("a.npz")), single.fields[NAME])


def test_which_field_is_the_density_must_be_clear(volume: Volume) -> None:
    path = Path("a.npz")
    np.testing.assert_array_equal(select_density(volume, NAME, path), volume.fields[NAME])
    with pytest.raises(FormatError, match="does not say which of its fields is the density: name one of target_electr"):
        select_density(volume, None, path)
    with pytest.raises(FormatError, match="has no field 'rho': name one of target_electrons_per_bohr3, guess"):
        select_density(volume, "rho", path)
    in_nanometres = replace(volume, fields={"rho_electrons_per_nm3": volume.fields[NAME]})
    with pytest.raises(FormatError, match="ends in the unit 'electrons per nm3'"):
        select_density(in_nanometres, None, path)
    with_gradient = replace(volume, fields={**GOOD_GRADIENT, NAME: volume.fields[NAME]})
    np.testing.assert_array_equal(select_density(with_gradient, None, path), volume.fields[NAME])


GOOD_GRADIENT = {"target_gradient_electrons_per_bohr4": np.ones((3, 4, 7))}


# CCP4/MRC


def test_a_ccp4_map_has_the_words_that_the_format_prescribes(single: Volume, tmp_path: Path) -> None:
    """Against the description of MRC2014 (CCP-EM), word by word, without a library."""
    path = tmp_path / "a.mrc"
    write_ccp4(path, single)
    content, grid = path.read_bytes(), single.scene.grid
    shape, mode, start, intervals = (
        struct.unpack_from(f"<{n}i", content, at) for n, at in ((3, 0), (1, 12), (3, 16), (3, 28))
    )
    assert (shape, mode, start, intervals) == ((3, 4, 7), (2,), (0, 0, 0), (3, 4, 7))
    cell = struct.unpack_from("<6f", content, 40)
    lengths = np.array(grid.shape) * grid.spacing * BOHR_IN_ANGSTROM
    assert cell == pytest.approx([*lengths, 90, 90, 90], rel=1e-7)
    assert struct.unpack_from("<3i", content, 64) == (1, 2, 3)
    assert struct.unpack_from("<3f", content, 196) == tuple(np.float32(np.array(grid.origin) * BOHR_IN_ANGSTROM))
    assert content[208:212] == b"MAP "
    assert content[212:214] == b"DA"  # little-endian
    symmetry = struct.unpack_from("<i", content, 92)[0]
    values = np.frombuffer(content, "<f4", offset=1024 + symmetry).reshape(7, 4, 3).T  # x fastest
    np.testing.assert_allclose(values, single.fields[NAME] / BOHR_IN_ANGSTROM**3, rtol=2e-7)
    low, high, mean = struct.unpack_from("<3f", content, 76)
    assert (low, high, mean) == pytest.approx((values.min(), values.max(), values.mean(dtype=np.float64)), rel=1e-6)


def test_gemmi_reads_our_map_and_finds_every_electron(single: Volume, tmp_path: Path) -> None:
    write_ccp4(tmp_path / "a.ccp4", single)
    read = gemmi.read_ccp4_map(str(tmp_path / "a.ccp4"))
    values = np.array(read.grid, dtype=np.float64)
    np.testing.assert_allclose(values, single.fields[NAME] / BOHR_IN_ANGSTROM**3, rtol=2e-7)
    electrons = values.mean() * read.grid.unit_cell.volume
    assert electrons == pytest.approx(
        single.fields[NAME].sum() * single.scene.grid.cell_volume, rel=1e-5
    )  # it rounds cells
    origin = [read.header_float(word) for word in (50, 51, 52)]
    assert origin == pytest.approx(np.array(single.scene.grid.origin) * BOHR_IN_ANGSTROM, rel=1e-7)


def test_a_map_holds_one_field(volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds one field, not target_electrons_per_bohr3, guess"):
        write_ccp4(tmp_path / "a.ccp4", volume)


# Files that others made


@pytest.mark.reference
def test_psi4s_cube_is_read(reference: Path) -> None:
    path = reference / "density/water_hf_ccpvqz_psi4/Dt.cube.gz"
    read = read_cube(path)
    with gzip.open(path, "rt") as file:
        other = ase_read_cube(file)
    np.testing.assert_array_equal(read.fields["value_1"], other["data"])
    np.testing.assert_allclose(np.array(read.scene.grid.origin) * units.Bohr, other["origin"], rtol=1e-15)
    assert read.scene.grid.spacing == (0.2, 0.2, 0.2)
    np.testing.assert_array_equal(read.scene.numbers, [8, 1, 1])
    # Points beside an all-electron nucleus miscount; the ten electrons of water are there to 0.01.
    assert read.fields["value_1"].sum() * read.scene.grid.cell_volume == pytest.approx(10, abs=0.01)


@pytest.mark.reference
def test_gaussians_cubes_are_read(reference: Path) -> None:
    folder = reference / "density/water_rhf_ccpvdz_3codes_orbkit"
    density = read_cube(folder / "gaussian__h2o_rhf_sph.cube")
    assert density.scene.grid.shape == (3, 3, 3)
    assert density.fields["value_1"][1, 1, 1] == 13.3695  # beside the oxygen, as the file has it
    gradient = read_cube(folder / "gaussian__h2o_rhf_sph_grad.cube")
    assert list(gradient.fields) == ["value_1", "value_2", "value_3", "value_4"]
    outside = density.fields["value_1"] < 1e-4  # the two files differ by the core orbital
    np.testing.assert_allclose(gradient.fields["value_1"][outside], density.fields["value_1"][outside], rtol=1e-4)
    assert np.all(gradient.fields["value_4"][:, :, 0][outside[:, :, 0]] > 0)  # it rises towards the molecule
    assert np.all(gradient.fields["value_4"][:, :, 2][outside[:, :, 2]] < 0)


@pytest.mark.reference
def test_ibms_npz_files_are_read(reference: Path) -> None:
    folder = reference / "density/ibm_rhf631g_cubes"
    with (folder / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        path = folder / f"{row['id']}.npz"
        read = read_volume(path)
        assert read.scene.grid.shape == (int(row["nx"]), int(row["ny"]), int(row["nz"]))
        assert int(read.scene.numbers.sum()) == int(row["n_electrons"])
        electrons = select_density(read, "rho", path).sum() * read.scene.grid.cell_volume
        assert electrons == pytest.approx(float(row["riemann_sum_electrons"]), abs=1e-3)
