"""Fields on grids as other programs write and read them: cube, CCP4/MRC and npz files."""

import gzip
import io
import itertools
import lzma
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.elements import NUMBERS, SYMBOLS
from pipeline.records import read_comment, read_whole
from pipeline.units import ANGSTROM_PER_BOHR, BOHR_PER_ANGSTROM
from storage.errors import RequestError
from storage.schema import FloatArray, Grid, IntArray, Sampling

CUBE_ENDINGS = (".cube", ".cube.gz", ".cub", ".cub.gz")
VOLUME_ENDINGS = (*CUBE_ENDINGS, ".npz")  # that can be read

_PER_LINE = 6  # values, in a cube
_BLOCK = 2**20  # bytes of a cube's lines that are read at once
_LARGEST_RATIO = 1032  # of plain to gzipped bytes (zlib's technical notes)
_FIRST_ATOM = 7  # line of a cube
_ORIGIN_WORD = 50  # of a CCP4 header, counted from 1; two more follow
_DAMAGED = (ValueError, OSError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_STRAIGHT = 1e-8  # bohr: step vectors that lean no more than this run along their axis
_VOLUMES = {"bohr3": 1.0, "angstrom3": ANGSTROM_PER_BOHR**3}
_LENGTH_UNITS = {"bohr": 1.0, "angstrom": BOHR_PER_ANGSTROM, "ang": BOHR_PER_ANGSTROM}
_DENSITY_UNITS = {f"{count}_per_{volume}": unit for count in ("electrons", "e") for volume, unit in _VOLUMES.items()}
_OTHER_UNIT = "hartree|rydberg|ev|volts?|debye|coulomb|kcal|kj|mol|bohr|angstrom|ang|nm|electrons"


class FormatError(RequestError):
    """The file does not hold what its format promises: names file, place, value and remedy.

    The file is named without its folder: as a molecule's outcome, the message must not change where the folder moves.
    """


@dataclass(frozen=True)
class Scene:
    """A molecule and the grid around it. Lengths in bohr."""

    numbers: IntArray  # (atoms,)
    positions: FloatArray  # (atoms, 3)
    charge: int | None  # None: the file does not say
    grid: Grid
    sampling: Sampling | None  # None: the file does not say


@dataclass(frozen=True)
class Volume:
    """A molecule with fields on its grid."""

    scene: Scene
    fields: Mapping[str, NDArray[Any]]  # float, shape grid.shape; a name ends in its unit: target_electrons_per_bohr3
    remarks: Mapping[str, float] = field(default_factory=dict)  # numbers about them; a CCP4 map has no place for these


def _fault(path: Path, fault: str) -> FormatError:
    return FormatError(f"{path.name}: {fault}")


def _line_fault(path: Path, line: int, fault: str) -> FormatError:
    return FormatError(f"{path.name}, line {line}: {fault}")


def is_volume_file(path: Path) -> bool:
    """Whether the name's ending is one that `read_volume` reads."""
    return path.name.endswith(VOLUME_ENDINGS)


def list_volume_files(source: Path) -> list[Path]:
    """The file itself, or those of a folder that can be read, by name."""
    if source.is_dir():
        return sorted(path for path in source.iterdir() if is_volume_file(path) and not path.name.startswith("."))
    return [source]


def name_volume(path: Path) -> str:
    """The file's name without its ending."""
    return next(path.name.removesuffix(ending) for ending in VOLUME_ENDINGS if path.name.endswith(ending))


def find_volume_file(source: Path, name: str) -> Path:
    """The file of that name in a folder, or the one file there is. Raises FormatError where it is gone."""
    for path in (source / f"{name}{ending}" for ending in VOLUME_ENDINGS) if source.is_dir() else (source,):
        if path.is_file():
            return path
    raise FormatError(f"{source}: the file of {name!r} is gone: put it back, or build into a new store")


def read_scene(path: Path) -> Scene:
    """Molecule and grid of a cube or npz file; the values of a cube are not read. Raises FormatError."""
    if path.suffix == ".npz":
        return read_npz(path).scene
    with _open_text(path) as file:
        return _read_cube_head(file, path)[0]


def read_volume(path: Path) -> Volume:
    """A cube or npz file. Raises FormatError."""
    return read_npz(path) if path.suffix == ".npz" else read_cube(path)


def select_density(volume: Volume, key: str | None, path: Path) -> FloatArray:
    """The field called `key`, or the only density there is, in electrons/bohr³. Raises FormatError."""
    name = name_density(volume, key, path)
    return np.asarray(volume.fields[name], dtype=np.float64) * _density_unit(name, path)


def name_density(volume: Volume, key: str | None, path: Path) -> str:
    """`key` where it names a field, or the name of the only density there is. Raises FormatError."""
    fields = volume.fields
    if all(re.fullmatch(r"orbital_\d+", name) for name in fields):
        raise _fault(path, "it holds orbital data sets; write the density")
    densities = [name for name in fields if len(fields) == 1 or re.search("_electrons_per_[a-z]+3$", name)]
    chosen = key if key is not None else densities[0] if len(densities) == 1 else None
    if chosen is None or chosen not in fields:
        asked = f"has no field {key!r}" if key else "does not say which of its fields is the density"
        raise _fault(path, f"{asked}: name one of {', '.join(fields) or 'none'} in the density's `key`")
    return chosen


def _density_unit(name: str, path: Path) -> float:
    """Electrons/bohr³ in the unit that a field's name ends in; a name without a unit means electrons/bohr³."""
    said = re.match(rf"(?:.*_)?([^_]*_per_.+|(?i:{_OTHER_UNIT}))$", name)
    if said and said[1] not in _DENSITY_UNITS:
        unit = said[1].replace("_", " ")
        raise _fault(path, f"field {name!r} ends in the unit {unit!r}: give electrons_per_bohr3 or _angstrom3")
    return _DENSITY_UNITS[said[1]] if said else 1.0


# Cube: bohr, electrons/bohr³, z fastest


def write_cube(path: Path, volume: Volume) -> None:
    """Several fields become several values per point, in the form that Gaussian gives orbitals.

    Lengths have 17 digits and values nine: float64 and float32 come back exactly, from readers that split at blanks.
    The second comment line tells us what has no place in the format: names, molecular charge, sampling, remarks.
    """
    fields = list(volume.fields.values())
    rows = np.stack(fields, axis=-1).reshape(-1, volume.scene.grid.shape[2] * len(fields))
    layout = "".join(" %15.8E" * min(_PER_LINE, rows.shape[1] - k) + "\n" for k in range(0, rows.shape[1], _PER_LINE))
    with cast(TextIO, gzip.open(path, "wt")) if path.suffix == ".gz" else path.open("w") as file:
        file.writelines(_cube_head(volume))
        file.writelines(layout % tuple(row) for row in rows.tolist())


def _cube_head(volume: Volume) -> Iterator[str]:
    scene, names = volume.scene, list(volume.fields)
    grid, several = scene.grid, len(names) > 1
    averages = "averages over the cells around the points" if scene.sampling == "cell" else "values at the points"
    known = {"charge": scene.charge, "sampling": scene.sampling, **volume.remarks}
    said = "".join(f" {name}={value}" for name, value in known.items() if value is not None)
    yield f"rhoflow: {averages}, lengths in bohr\n"
    yield f'fields="{" ".join(names)}"{said}\n'
    atoms = -len(scene.numbers) if several else len(scene.numbers)
    yield f"{atoms:5d}{_lengths(grid.origin)}{f'{len(names):5d}' if several else ''}\n"
    for cells, step in zip(grid.shape, np.diag(grid.spacing).tolist(), strict=True):
        yield f"{cells:5d}{_lengths(step)}\n"
    for number, position in zip(scene.numbers.tolist(), scene.positions.tolist(), strict=True):
        yield f"{number:5d}{_lengths([float(number), *position])}\n"
    if several:
        yield "".join(f"{word:5d}" for word in (len(names), *range(1, len(names) + 1))) + "\n"


def _lengths(values: Sequence[float]) -> str:
    return "".join(f" {value:23.16E}" for value in values)


def read_cube(path: Path) -> Volume:
    """Every value of every point, plain or gzipped, as float64; the peak is that array and some 20 MB.

    Fields without names are value_1, value_2, …, or orbital_1, … where the file declares orbitals by a negative number
    of atoms. Raises FormatError, also for a grid that does not run along x, y and z.
    """
    with _open_text(path) as file:
        scene, names = _read_cube_head(file, path)
        values = _read_values(file, (*scene.grid.shape, len(names)), path)
    return Volume(scene, dict(zip(names, np.moveaxis(values, -1, 0), strict=True)))


def _read_values(file: TextIO, shape: tuple[int, ...], path: Path) -> FloatArray:
    """What follows the head. The array is never larger than the file can fill, whatever the head says."""
    count, found, wrong = math.prod(shape), 0, ""
    values = np.empty(min(count, path.stat().st_size * (_LARGEST_RATIO if path.suffix == ".gz" else 1)))
    while lines := file.readlines(_BLOCK):
        words = " ".join(lines).split()
        block = _read_block(words)
        if not (wrong or np.isfinite(block).all()):
            place = int(np.argmin(np.isfinite(block)))
            wrong = f"value {found + place + 1} after its head is {words[place]!r}, no finite number: compute it again"
        values[found : found + len(words)] = block[: max(len(values) - found, 0)]
        found += len(words)
    if found != count:
        needed = f"{' x '.join(map(str, shape))} = {count}"
        raise _fault(path, f"{found} values follow its head, but {needed} are needed: is it cut off? Write it again")
    if wrong:
        raise _fault(path, wrong)
    return values.reshape(shape)


def _read_block(words: Sequence[str]) -> FloatArray:
    """NaN where a word is no number."""
    try:
        return np.array(words, dtype=np.float64)
    except ValueError:  # Fortran's other spellings of an exponent: 1.5D-07, 1.5-107
        spelt = (re.sub(r"[dD]|(?<=\d)(?=[+-]\d{3}$)", "E", word) for word in words)
        return np.array([_read_value(word) for word in spelt])


def _read_value(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _read_cube_head(file: TextIO, path: Path) -> tuple[Scene, list[str]]:
    """Molecule and grid, and the fields' names. Only what we wrote ourselves has keys in its comment."""
    lines = enumerate(file, start=1)
    title, comment = next(lines, (1, ""))[1], next(lines, (2, ""))[1]
    said = read_comment(comment) if title.startswith("rhoflow") else {}
    atoms, *origin = _read_line(lines, path, "the number of atoms and the origin", 4)
    shape, steps = _read_axes(lines, path)
    table = _read_atoms(lines, path, abs(int(atoms)))
    grid = _build_grid(shape, steps, np.array(origin[:3]), path)
    values = _count_data_sets(lines, path, len(table)) if atoms < 0 else _count_values(origin, path)
    names = said.get("fields", "").split()
    if len(names) != values:
        names = [f"{'orbital' if atoms < 0 else 'value'}_{k}" for k in range(1, values + 1)]
    charge, sampling = _read_charge(said, path), _read_sampling(said, path)
    return Scene(table[:, 0].astype(np.int64), table[:, 2:], charge, grid, sampling), names


def _read_axes(lines: Iterator[tuple[int, str]], path: Path) -> tuple[tuple[int, int, int], FloatArray]:
    """Cells along each axis, and the three step vectors, bohr."""
    axes = [_read_line(lines, path, "a number of cells and a step vector", 4) for _ in range(3)]
    for cells, *_ in axes:
        if cells < 1:
            raise _fault(
                path,
                f"{cells:g} cells along an axis: programs disagree about the unit of lengths that a negative "
                "number stands for; write the cube in bohr, with positive numbers",
            )
    return (int(axes[0][0]), int(axes[1][0]), int(axes[2][0])), np.array([axis[1:4] for axis in axes])


def _read_atoms(lines: Iterator[tuple[int, str]], path: Path, atoms: int) -> FloatArray:
    """Atomic number, charge and position (bohr) of each atom, shape (atoms, 5)."""
    read = [_read_line(lines, path, "an atom", 5)[:5] for _ in range(atoms)]
    table = np.array(read, dtype=np.float64).reshape(-1, 5)
    if wrong := _find_no_elements(table[:, 0]):
        number = table[wrong[0], 0]
        raise _line_fault(path, _FIRST_ATOM + wrong[0], f"{number:g} is the atomic number of no element: correct it")
    return table


def _count_values(origin: Sequence[float], path: Path) -> int:
    """Values per point: what may follow the origin."""
    values = origin[3] if len(origin) > 3 else 1.0
    if values < 1 or not values.is_integer():
        raise _line_fault(path, 3, f"{values:g} values per point: give a whole number, at least 1")
    return int(values)


def _count_data_sets(lines: Iterator[tuple[int, str]], path: Path, atoms: int) -> int:
    """Values per point of orbitals: they are counted and numbered after the atoms, over as many lines as that takes."""
    ids = _read_line(lines, path, "the list of data sets", 1)
    if ids[0] < 1:
        raise _line_fault(path, _FIRST_ATOM + atoms, f"{ids[0]:g} data sets: give a whole number, at least 1")
    while len(ids) <= ids[0]:
        ids += _read_line(lines, path, "the list of data sets", 1)
    return int(ids[0])


def _find_no_elements(numbers: FloatArray) -> list[int]:
    """Which of the atomic numbers stand for no element."""
    is_element = (numbers >= 1) & (numbers < len(SYMBOLS)) & (numbers % 1 == 0)
    return [int(place) for place in np.flatnonzero(~is_element)]


def _read_line(lines: Iterator[tuple[int, str]], path: Path, what: str, least: int) -> list[float]:
    number, text = next(lines, (0, ""))
    if not number:
        raise _fault(path, f"ends before {what}: is it cut off? Write it again")
    values = [_read_value(word) for word in text.split()]
    if len(values) < least or not np.isfinite(values).all() or not values[0].is_integer():
        raise _line_fault(path, number, f"{text.strip()!r} is not {what}: is this a cube file?")
    return values


def _read_charge(said: Mapping[str, str], path: Path) -> int | None:
    if "charge" not in said:
        return None
    try:
        return read_whole(said["charge"], "charge")
    except ValueError as error:
        raise _fault(path, f"{error}") from error


def _read_sampling(said: Mapping[str, str], path: Path) -> Sampling | None:
    sampling = said.get("sampling")
    if sampling not in ("cell", "point", None):
        raise _fault(path, f"sampling is {sampling!r}: it must be 'cell' (averages) or 'point' (values at points)")
    return cast(Sampling | None, sampling)


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with cast(TextIO, opened(path, "rt", encoding="utf-8", errors="replace")) as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _fault(path, f"the gzip file is damaged ({error}): fetch it again") from error


def _build_grid(shape: tuple[int, int, int], steps: FloatArray, origin: FloatArray, path: Path) -> Grid:
    """`steps` holds the three step vectors, bohr. Raises FormatError where they are not along x, y and z."""
    spacing = np.diag(steps)
    is_straight = np.abs(steps - np.diag(spacing)).max() <= _STRAIGHT and spacing.min() > 0
    if not (is_straight and np.isfinite(origin).all()):
        raise _fault(
            path,
            f"its step vectors {steps.tolist()} from {origin.tolist()} (bohr) are not along x, y and z: only such "
            "grids are stored; sample the density on one in the program that made it",
        )
    x, y, z = origin.tolist()
    hx, hy, hz = spacing.tolist()
    return Grid(shape, (hx, hy, hz), (x, y, z))


# npz: every array's name says its unit


def write_npz(path: Path, volume: Volume) -> None:
    """Fields and remarks by name; numbers, positions_bohr, charge, spacing_bohr, origin_bohr (of cell 0), sampling."""
    scene = volume.scene
    about: dict[str, Any] = {
        "numbers": scene.numbers,
        "positions_bohr": scene.positions,
        "spacing_bohr": np.array(scene.grid.spacing),
        "origin_bohr": np.array(scene.grid.origin),
    }
    if scene.charge is not None:
        about["charge"] = np.array(scene.charge)
    if scene.sampling is not None:
        about["sampling"] = np.array(scene.sampling)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **about, **volume.remarks, **volume.fields)


def read_npz(path: Path) -> Volume:
    """Arrays as `write_npz` names them; also symbols for numbers, xyz for positions, step for spacing, ångström
    (_angstrom, _ang) for bohr. Charge and sampling may be left out. Every other array of three axes is a field.

    Raises FormatError.
    """
    arrays = _load_arrays(path)
    fields = _find_fields(arrays, path)
    steps = _find_lengths(arrays, ("spacing", "step"), path)
    if steps.shape == (3,):
        steps = np.diag(steps)
    origin = _find_lengths(arrays, ("origin",), path)
    positions = _find_lengths(arrays, ("positions", "xyz"), path)
    numbers = _find_elements(arrays, path)
    if positions.shape != (len(numbers), 3) or steps.shape != (3, 3) or origin.shape != (3,):
        raise _fault(
            path,
            f"{len(numbers)} atoms, positions of shape {positions.shape}, spacing of shape {steps.shape}, "
            f"origin of shape {origin.shape}: the shapes must be (atoms, 3), (3,) and (3,)",
        )
    said = {name: str(arrays[name]) for name in ("charge", "sampling") if name in arrays}
    nx, ny, nz = next(iter(fields.values())).shape
    grid = _build_grid((nx, ny, nz), steps, origin, path)
    return Volume(Scene(numbers, positions, _read_charge(said, path), grid, _read_sampling(said, path)), fields)


def _load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """A fault of the disk is raised as it is: once the bytes are here, every error is the content's."""
    content = path.read_bytes()
    if not content.startswith(b"PK"):  # of an array alone, say, np.load would make something else
        raise _fault(path, "no npz file, or a damaged one (it is no zip archive): write it again with numpy.savez")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    except _DAMAGED as error:
        raise _fault(path, f"no npz file, or a damaged one ({error}): write it again") from error


def _find_fields(arrays: Mapping[str, NDArray[Any]], path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of three axes: real, finite, of one shape, and not empty."""
    fields = {name: array for name, array in arrays.items() if array.ndim == 3}
    shapes = {array.shape for array in fields.values()}
    if len(shapes) != 1 or 0 in next(iter(shapes)):
        raise _fault(
            path, f"its fields have the shapes {sorted(shapes)}: one grid needs fields, all of one shape, not empty"
        )
    for name, values in fields.items():
        if values.dtype.kind != "f":
            raise _fault(path, f"field {name!r} holds {values.dtype.name} values: write it as real floating numbers")
        if not np.isfinite(values).all():
            raise _fault(path, f"field {name!r} holds values that are no finite numbers: compute it again")
    return fields


def _find_lengths(arrays: Mapping[str, NDArray[Any]], names: Sequence[str], path: Path) -> FloatArray:
    """The one array that has one of these names and a unit of length, in bohr."""
    units = {f"{name}_{unit}": bohr for name, (unit, bohr) in itertools.product(names, _LENGTH_UNITS.items())}
    found = [name for name in units if name in arrays]
    if not found:
        raise _fault(path, f"{', '.join(arrays)} are there, but no {names[0]}_bohr or {names[0]}_angstrom: add one")
    if len(found) > 1:
        raise _fault(path, f"{' and '.join(found)} are there: keep one")
    lengths = _as_numbers(arrays, found[0], path)
    if not np.isfinite(lengths).all():
        raise _fault(path, f"{found[0]} holds values that are no finite numbers: write it again")
    return lengths * units[found[0]]


def _find_elements(arrays: Mapping[str, NDArray[Any]], path: Path) -> IntArray:
    if "numbers" in arrays:
        numbers = _as_numbers(arrays, "numbers", path).ravel()
        if wrong := _find_no_elements(numbers):
            raise _fault(path, f"numbers holds {numbers[wrong[0]]:g}, the atomic number of no element: correct it")
        return numbers.astype(np.int64)
    if "symbols" not in arrays:
        raise _fault(path, f"it has neither numbers nor symbols among {', '.join(arrays)}: add the atomic numbers")
    symbols = [str(symbol) for symbol in arrays["symbols"].ravel()]
    if unknown := sorted(set(symbols) - set(SYMBOLS[1:])):
        raise _fault(path, f"{unknown[0]!r} in symbols is no element: correct it")
    return np.array([NUMBERS[symbol] for symbol in symbols], dtype=np.int64)


def _as_numbers(arrays: Mapping[str, NDArray[Any]], name: str, path: Path) -> FloatArray:
    if arrays[name].dtype.kind not in "fiu":
        raise _fault(path, f"{name} holds {arrays[name].dtype.name} values, not numbers: write it again")
    return arrays[name].astype(np.float64)


# CCP4/MRC: ångström, electrons/Å³, x fastest


def write_ccp4(path: Path, volume: Volume) -> None:
    """One field, mode 2 (float32), in a P1 cell of the grid's size; it lies where the ORIGIN words (Å) say.

    Atoms and charge have no place in the format; lengths have single precision.
    """
    import gemmi  # here: no other format needs it

    if len(volume.fields) != 1:
        raise FormatError(f"{path}: a CCP4 map holds one field, not {', '.join(volume.fields)}: write a file for each")
    ((name, values),) = volume.fields.items()
    grid = volume.scene.grid
    a, b, c = (cells * step * ANGSTROM_PER_BOHR for cells, step in zip(grid.shape, grid.spacing, strict=True))
    power = re.search(r"_per_bohr(\d)$", name)
    in_angstrom = values * BOHR_PER_ANGSTROM ** int(power[1]) if power else values
    written = gemmi.Ccp4Map()
    written.grid = gemmi.FloatGrid(np.asarray(in_angstrom, dtype=np.float32), gemmi.UnitCell(a, b, c, 90, 90, 90))
    written.grid.spacegroup = gemmi.SpaceGroup("P 1")
    written.update_ccp4_header(mode=2)
    for axis in range(3):
        written.set_header_float(_ORIGIN_WORD + axis, grid.origin[axis] * ANGSTROM_PER_BOHR)
    written.write_ccp4_map(str(path))
