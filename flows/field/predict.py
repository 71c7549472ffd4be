"""Fields of a molecule by a trained network, on a grid of any spacing, or the surface where one has a value."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.field.path import follow_path, write_animation
from flows.report.meshes import Mesh, level_surface
from flows.volume_files import choose_format, write_volume
from pipeline.formats import Scene, Volume
from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError
from storage.objects import locate
from storage.reader import open_dataset
from storage.schema import FloatArray, Grid
from training.catalog import Catalog, read_catalog
from training.device import choose_device
from training.field.model import FieldModel, load_field_model
from training.field.read import FieldReader, open_reader
from training.field.scenes import StoredScenes

MESH, PAGE = ".ply", ".html"
DENSITY_UNIT = "electrons_per_bohr3"
LEVEL = 0.5  # of the largest value, where no level is given
FRAME_CELLS = 64  # along an edge of the frames of an animation, at least, where no spacing is given


@dataclass(frozen=True)
class WantedField:
    """What is to be predicted, in the words of the command line."""

    run: Path
    id: str
    out: Path
    format: str | None
    channel: str | None  # which field; None: all, and of a surface the first
    spacing_angstrom: float | None  # None: that of the training grid
    level: float | None  # of a surface
    to: str | None  # the id of a sample at which an animation ends


def predict_field(wanted: WantedField) -> str:
    """Writes the file, and says what is in it. Raises RequestError where it cannot be made."""
    if wanted.to is not None:
        return predict_path(wanted, wanted.to)
    is_mesh = wanted.out.suffix == MESH
    format = "" if is_mesh else choose_format(wanted.out, wanted.format)
    model = load_field_model(wanted.run)
    model.network.to(choose_device("auto"))
    catalog, number = find_molecule(model, wanted.id)
    reader = open_reader(model, StoredScenes(catalog, model.origin.described))
    cells = count_cells(model, wanted.spacing_angstrom)
    fields = choose_fields(reader, number, cells, wanted.channel)
    grid = reader.grid(number, cells)
    if is_mesh:
        name, values = next(iter(fields.items()))
        return write_surface(wanted.out, values, grid, name, wanted.level)
    atoms = slice(catalog.first_atoms[number], catalog.first_atoms[number] + catalog.atoms[number])
    scene = Scene(catalog.numbers[atoms], catalog.positions[atoms], None, grid, "point")
    write_volume(wanted.out, format, Volume(scene, {name_field(name): values for name, values in fields.items()}))
    return f"{wanted.out}: {', '.join(fields)} on {cells}³ points"


def predict_path(wanted: WantedField, to: str) -> str:
    """Writes the animation of the way from one molecule to another, and says how good a way it is."""
    if wanted.out.suffix != PAGE:
        raise RequestError(f"{wanted.out}: with --to the way is an animation: let the file end in {PAGE}")
    model = load_field_model(wanted.run)
    model.network.to(choose_device("auto"))
    catalog, first = find_molecule(model, wanted.id)
    if to not in catalog.ids:
        raise RequestError(f"--to {to}: is not in the store and split of {wanted.id}: name a sample that is")
    reader = open_reader(model, StoredScenes(catalog, model.origin.described))
    label = wanted.channel or reader.scenes.fields.labels[0]
    check_channel(reader, label)
    cells = count_cells(model, wanted.spacing_angstrom)
    if wanted.spacing_angstrom is None:
        cells = max(cells, FRAME_CELLS)
    followed = follow_path(reader, first, catalog.ids.index(to), label, cells)
    write_animation(wanted.out, followed, model.origin.edge, f"{wanted.id} to {to}: {label}")
    return f"{wanted.out}: {followed}"


def find_molecule(model: FieldModel, id: str) -> tuple[Catalog, int]:
    """A sample's split of the store that the model was trained on, and its place there. Raises RequestError."""
    for store in map(locate, model.origin.stores):
        table = open_dataset(store).table
        if id in table.index:
            catalog = read_catalog([store], str(table.loc[id, "split"]), ())
            return catalog, catalog.ids.index(id)
    raise RequestError(f"{id}: no sample of {', '.join(model.origin.stores)} is called so: name one, as in CCO#0")


def count_cells(model: FieldModel, spacing_angstrom: float | None) -> int:
    """Along an edge of the box, so that the spacing is at most what was asked for."""
    if spacing_angstrom is None:
        return model.origin.cells
    return math.ceil(model.origin.edge / (spacing_angstrom * BOHR_PER_ANGSTROM) - 1e-9)


def choose_fields(reader: FieldReader, number: int, cells: int, channel: str | None) -> dict[str, FloatArray]:
    if channel is not None:
        check_channel(reader, channel)
    values = dict(zip(reader.scenes.fields.labels, reader.predict(number, cells), strict=True))
    return values if channel is None else {channel: values[channel]}


def check_channel(reader: FieldReader, channel: str) -> None:
    """Raises RequestError for a field that the model has not."""
    labels = reader.scenes.fields.labels
    if channel not in labels:
        raise RequestError(f"--channel {channel}: the model has {', '.join(labels)}")


def name_field(label: str) -> str:
    """As files have it: with the unit of a density."""
    plain = label.replace(":", "_").replace(",", "")
    return f"{plain}_{DENSITY_UNIT}" if label.startswith("density:") else plain


def write_surface(path: Path, values: FloatArray, grid: Grid, name: str, level: float | None) -> str:
    """Where a field has a value, in ångström. Raises RequestError where it never has."""
    chosen = LEVEL * float(values.max()) if level is None else level
    mesh = level_surface(values, grid, chosen)
    if mesh is None:
        raise RequestError(
            f"--level {chosen:g}: {name} lies between {values.min():.3g} and {values.max():.3g}: take a value between"
        )
    path.write_bytes(format_ply(mesh))
    return f"{path}: {name} = {chosen:.4g}, {len(mesh.corners)} triangles"


def format_ply(mesh: Mesh) -> bytes:
    """The binary form of PLY: points in ångström, then triangles."""
    head = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(mesh.points)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(mesh.corners)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = np.empty(len(mesh.corners), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.corners
    points = (mesh.points / BOHR_PER_ANGSTROM).astype("<f4")
    return head.encode() + points.tobytes() + faces.tobytes()
