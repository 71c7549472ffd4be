"""Experimental maps lie where their headers say, and are refused by name where they cannot be read."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from pipeline.engines.promolecule import PromoleculeEngine
from pipeline.maps import Map, Method, read_map, resample
from pipeline.structures import read_structure
from pipeline.superposition import sample_superposition
from pipeline.units import ANGSTROM_PER_BOHR, BOHR_PER_ANGSTROM
from storage.schema import Conformer, FloatArray, Grid
from tests.pipeline.map_files import RawMap, cell_vectors, read_raw, write_map, write_mtz

OBLIQUE = (12.0, 10.0, 14.0, 80.0, 105.0, 97.0)
MTZ_ATOMS = [(3.0, 4.0, 5.0), (8.0, 2.0, 9.5)]


def wave(cell: tuple[float, ...]):  # type: ignore[no-untyped-def]
    """A field that is smooth, and repeats with the cell."""
    inverse = np.linalg.inv(cell_vectors(*cell))

    def field(places: FloatArray) -> FloatArray:
        x, y, z = np.moveaxis(places @ inverse, -1, 0) * 2 * np.pi
        return np.asarray(np.sin(x) + np.cos(y + x) + 0.5 * np.sin(z - 1) * np.cos(2 * y))

    return field


def angstrom_grid(shape: tuple[int, int, int], spacing: float, origin: FloatArray) -> Grid:
    x, y, z = (origin * BOHR_PER_ANGSTROM).tolist()
    return Grid(shape, (spacing * BOHR_PER_ANGSTROM,) * 3, (x, y, z))


def places_of(grid: Grid) -> FloatArray:
    """The cells' centres, Å."""
    axes = (grid.centres(axis) * ANGSTROM_PER_BOHR for axis in range(3))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("start", [(0, 0, 0), (5, -7, 31)])
def test_a_crystals_map_is_found_whatever_its_cell_axis_order_and_first_voxel(
    tmp_path: Path, order: tuple[int, int, int], start: tuple[int, int, int]
) -> None:
    """Far outside the cell too."""
    write_map(tmp_path / "a.ccp4", wave(OBLIQUE), cell=OBLIQUE, sizes=(36, 30, 42), order=order, start=start)
    grid = angstrom_grid((10, 11, 12), 0.7, np.array([-20.0, 3.0, 31.0]))
    found = resample(read_map(tmp_path / "a.ccp4", "xray"), grid, "point")
    assert found == pytest.approx(wave(OBLIQUE)(places_of(grid)), abs=2e-3)


def test_averages_over_cells_are_means_of_what_lies_in_them(tmp_path: Path) -> None:
    cell = (12.0, 10.0, 14.0, 90.0, 90.0, 90.0)
    write_map(tmp_path / "a.ccp4", wave(cell), cell=cell, sizes=(48, 40, 56))
    map = read_map(tmp_path / "a.ccp4", "xray")
    coarse = angstrom_grid((4, 4, 4), 2.0, np.array([1.0, 1.0, 1.0]))
    fine = angstrom_grid((80, 80, 80), 0.1, np.array([0.05, 0.05, 0.05]))
    expected = resample(map, fine, "point").reshape(4, 20, 4, 20, 4, 20).mean(axis=(1, 3, 5))
    assert resample(map, coarse, "cell") == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("origin", [(0.0, 0.0, 0.0), (-30.0, 41.5, 7.25)])
def test_an_em_map_lies_where_origin_says_and_ends_at_its_edges(tmp_path: Path, origin: tuple[float, ...]) -> None:
    """ORIGIN is the place of the first voxel; without it the number of the first voxel counts."""
    cell, start = (12.0, 12.0, 12.0, 90.0, 90.0, 90.0), (3, 4, 5)
    write_map(tmp_path / "a.mrc", wave(cell), cell=cell, sizes=(24, 24, 24), start=start, origin=origin)  # type: ignore[arg-type]
    map = read_map(tmp_path / "a.mrc", "em")
    first = np.array(start) * 0.5
    shift = np.array(origin) - first if any(origin) else np.zeros(3)
    inside = angstrom_grid((10, 10, 10), 0.9, first + shift + 1)
    assert resample(map, inside, "point") == pytest.approx(wave(cell)(places_of(inside) - shift), abs=2e-3)
    beyond = angstrom_grid((3, 1, 1), 12.0, first + shift + (-8, 1, 1))
    assert np.isnan(resample(map, beyond, "point")).ravel().tolist() == [True, False, True]


def test_a_part_of_a_map_is_no_more_than_that(tmp_path: Path) -> None:
    cell = (12.0, 10.0, 14.0, 90.0, 90.0, 90.0)
    write_map(tmp_path / "a.ccp4", wave(cell), cell=cell, count=(10, 10, 10))
    values = resample(read_map(tmp_path / "a.ccp4", "xray"), angstrom_grid((9, 1, 1), 1.0, np.full(3, 2.0)), "point")
    assert np.isfinite(values[:2]).all()
    assert np.isnan(values[4:8]).all()


def test_coefficients_become_the_density_less_its_mean(tmp_path: Path) -> None:
    write_mtz(tmp_path / "a.mtz", MTZ_ATOMS)
    map = read_map(tmp_path / "a.mtz", "xray")
    grid = angstrom_grid((24, 24, 24), 0.5, np.zeros(3))
    values = resample(map, grid, "point")
    offsets = (places_of(grid)[..., None, :] - MTZ_ATOMS + 6) % 12 - 6
    density = 6 * (2 / np.pi) ** 1.5 * np.exp(-2 * np.sum(offsets**2, axis=-1)).sum(axis=-1)
    assert values == pytest.approx(density - 12 / 12**3, abs=0.07)  # of 3.04: it ends at 1 Å
    assert np.corrcoef(values.ravel(), density.ravel())[0, 1] > 0.999
    assert abs(map.mean) < 1e-5


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("FWT", "PHI"), r"a\.mtz: it has no phases in a column 'PHI': name one of PHWT as phases"),
        (("FWT", None), r"a\.mtz: it has no phases in a column None"),
        (("FWT", "FWT"), r"no phases in a column 'FWT'"),
        (("FOBS", "PHWT"), r"no amplitudes in a column 'FOBS': name one of FWT as amplitudes"),
    ],
)
def test_wrong_columns_are_refused_by_name(tmp_path: Path, columns: tuple[str, str | None], message: str) -> None:
    write_mtz(tmp_path / "a.mtz", MTZ_ATOMS)
    with pytest.raises(ValueError, match=message):
        read_map(tmp_path / "a.mtz", "xray", *columns)


def test_amplitudes_without_phases_are_no_map(tmp_path: Path) -> None:
    write_mtz(tmp_path / "a.mtz", MTZ_ATOMS, with_phases=False)
    with pytest.raises(ValueError, match=r"a\.mtz: it holds no phases, without which there is no map"):
        read_map(tmp_path / "a.mtz", "xray")


@pytest.mark.parametrize("name", ["a.mtz", "a.ccp4", "a.map.gz"])
def test_what_is_no_map_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    for content in (b"", b"no map", bytes(2000)):
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            read_map(tmp_path / name, "xray")
    with pytest.raises(ValueError, match=r"there is no map gone\.mrc"):
        read_map(tmp_path / "gone.mrc", "em")


# The reference's maps

MAPS: dict[str, tuple[str | None, Method]] = {
    "ligand_xray/4ms6_composite_map.mtz": ("ligand_xray/4ms6.pdb.gz", "xray"),
    "xray/5wkd_phases.mtz.gz": ("xray/5wkd.pdb", "xray"),
    "xray/3pqr_2fofc.ccp4.gz": ("xray/3pqr.pdb.gz", "xray"),
    "xray/5i55_tiny.ccp4": ("xray/5i55.cif.gz", "xray"),
    "emdb/EMD-3197.map": (None, "em"),
}


def point_grid(place: FloatArray) -> Grid:
    return angstrom_grid((1, 1, 1), 1.0, place)


@pytest.mark.reference
@pytest.mark.parametrize("name", [name for name in MAPS if "mtz" not in name])
def test_every_voxel_of_a_file_is_where_its_header_says(reference: Path, name: str) -> None:
    """Read byte by byte: the map at that place has that value, and gemmi has it there too, to 1e-6 Å."""
    content = (reference / "maps" / name).read_bytes()
    raw: RawMap = read_raw(gzip.decompress(content) if name.endswith(".gz") else content)
    map: Map = read_map(reference / "maps" / name, MAPS[name][1])
    rng = np.random.default_rng(3)
    for _ in range(40):
        section, row, column = (int(rng.integers(2, size - 2)) for size in raw.values.shape)
        place = raw.position(column, row, section)
        expected = float(raw.values[section, row, column])
        index = np.empty(3, dtype=np.int64)
        index[list(raw.order)] = np.add(raw.start, (column, row, section))
        point = map.grid.get_position(*index.tolist())
        assert np.array(point.tolist()) == pytest.approx(place, abs=1e-6)
        assert resample(map, point_grid(place), "point").item() == pytest.approx(expected, abs=1e-4 * map.deviation)


@pytest.mark.reference
@pytest.mark.parametrize("name", [name for name, (structure, _) in MAPS.items() if structure])
def test_a_map_agrees_with_its_atoms_where_they_are_and_nowhere_else(reference: Path, name: str) -> None:
    """Correlation with the promolecule of its structure, and the density at the atoms, against shifted ones."""
    structure_name, method = MAPS[name]
    map = read_map(reference / "maps" / name, method)
    structure = read_structure(
        reference / "maps" / str(structure_name), ("protein", "nucleic", "ions", "waters", "others"), 1
    )
    atoms = structure.positions[0]
    low, high = atoms.min(axis=0), atoms.max(axis=0)
    step = 0.8 * BOHR_PER_ANGSTROM
    nx, ny, nz = np.ceil((high - low) / step).astype(int).tolist()
    grid = Grid((nx, ny, nz), (step,) * 3, tuple(low.tolist()))
    values = resample(map, grid, "cell")
    known = np.isfinite(values)

    def correlate(shift: FloatArray) -> float:
        moved = Conformer("m#0", structure.numbers, atoms + shift, 0, 0, "", "")
        density = sample_superposition(PromoleculeEngine().superpose(moved), grid, "cell")
        return float(np.corrcoef(density[known], values[known])[0, 1])

    right = correlate(np.zeros(3))
    wrong = [correlate(sign * axis * 1.5 * BOHR_PER_ANGSTROM) for sign in (-1, 1) for axis in np.eye(3)]
    assert right > 0.45
    assert right > max(wrong) + 0.04
