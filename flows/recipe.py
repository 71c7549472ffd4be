"""The recipe: one TOML file that says what a dataset is, read into frozen, validated values."""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from pipeline.elements import NUMBERS
from pipeline.qm9 import locate_qm9
from pipeline.residues import ResidueKind, Rules
from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError
from storage.objects import Location

# Columns that every dataset's tables have, and its arrays that are no columns: free for neither labels nor densities.
TABLE_COLUMNS = (
    "id", "row", "cells", "sample", "samples", "conformer", "charge", "unpaired", "ligand_atoms", "smiles", "group",
    "split", "outcome", "message", "duplicate_of",
)  # fmt: skip
ARRAYS = (
    "number", "position", "atom_offset", "origin", "spacing", "grid_shape", "rotation", "x", "y", "z", "axis",
    "atom_types", "shape",
)  # fmt: skip
# The periodic boxes of arXiv 2402.12335, from its data.
PUBLISHED_BOX = {"vacuum_angstrom": 2.0, "mesh_spacing_angstrom": 0.0831215, "mesh_multiple": 2}
# Keys of [source] that say which columns of a file are meant, and which molecules of a package.
PATH_KEYS = (
    "smiles", "id", "charge", "unpaired", "protein", "ligand", "record", "map", "pocket_angstrom", "residues", "model"
)  # fmt: skip
PACKAGE_KEYS = ("heavy_atoms", "count")
DENSITY_UNITS = "electrons bohr-3"
NAME = r"^[a-z][a-z0-9_]*$"
Name: TypeAlias = Annotated[str, Field(pattern=NAME)]


class RecipeError(RequestError):
    """The recipe is wrong; the message names file, key, value and remedy."""


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Table):
    """Where the molecules come from."""

    path: Path | None = Field(
        None,
        description="csv, tsv, smi, sdf, xyz, extxyz or parquet; pdb or cif; or a folder of cube and npz files, of "
        "structures, or of complexes; relative to the recipe",
    )
    package: Literal["qm9"] | None = Field(None, description="instead of a path: a dataset that an extra installs")
    heavy_atoms: PositiveInt | None = Field(None, description="of a package: molecules of at most so many")
    count: PositiveInt | None = Field(
        None,
        description="of a package: so many of these, drawn by hash; a smaller count is part of a larger",
    )
    smiles: str = Field("smiles", description="column of the SMILES, for tables")
    id: str | None = Field(None, description="column or tag of the ids; without one, row numbers")
    charge: str | None = Field(None, description="column of the charge, for tables")
    unpaired: str | None = Field(None, description="column of the number of unpaired electrons, for tables")
    labels: tuple[str, ...] = Field((), description="columns or tags carried along as labels")
    protein: str | None = Field(
        None, description="column of a protein's or another structure's file, relative to the table, in place of SMILES"
    )
    ligand: str | None = Field(None, description="column of the ligand's file (sdf, mol, mol2); empty: no ligand")
    record: str | None = Field(None, description="column that says which record of it, by title or number from 0")
    map: str | None = Field(None, description="column of a structure's experimental map, for engine map")
    pocket_angstrom: PositiveFloat = Field(8.0, description="residues so near to a ligand are its pocket, whole")
    residues: tuple[ResidueKind, ...] = Field(
        ("protein", "nucleic", "ions", "others"), min_length=1, description="what of a structure is taken; also waters"
    )
    model: int = Field(1, ge=0, description="of a structure of several: its number; 0: all, each a conformer")

    @model_validator(mode="after")
    def _path_or_package(self) -> "Source":
        if (self.path is None) == (self.package is None):
            raise ValueError('give either path = "…", a file of molecules, or package = "qm9"')
        needed, keys = ("path", PATH_KEYS) if self.package else ("package", PACKAGE_KEYS)
        for key in keys:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} goes with {needed}: leave it out, or give {needed}")
        return self

    @model_validator(mode="after")
    def _columns_of_files_go_together(self) -> "Source":
        for given, lacking in (("ligand", "protein"), ("record", "ligand"), ("map", "protein")):
            if getattr(self, given) and not getattr(self, lacking):
                raise ValueError(f"{given} is given without {lacking}: name that column too")
        return self

    @model_validator(mode="after")
    def _labels_keep_their_names(self) -> "Source":
        for label in self.labels:
            if label in TABLE_COLUMNS or "/" in label or not label:
                raise ValueError(f"labels names {label!r}, which the dataset's own tables use: rename the column")
        return self

    @property
    def rules(self) -> Rules:
        """How structures become atoms."""
        return Rules(self.residues, self.model or None, self.pocket_angstrom * BOHR_PER_ANGSTROM)

    @property
    def address(self) -> str:
        """The path, or the package's name."""
        return str(self.path or self.package)


class Conformers(Table):
    """The geometries of a molecule."""

    keep: bool = Field(False, description="use the 3-D geometry of the input as it is")
    count: PositiveInt = 1
    optimise: Literal["none", "mmff", "gfn2"] = "mmff"
    seed: int = Field(7, ge=0)

    @model_validator(mode="after")
    def _kept_or_made(self) -> "Conformers":
        if self.keep and (self.count > 1 or self.optimise == "gfn2"):
            raise ValueError("keep = true keeps the one geometry given: leave out count and optimise, or keep = false")
        return self


class GaussianDensity(Table):
    """An analytic density, which can be made slow and faulty: for tests and demos of everything around an engine."""

    engine: Literal["gaussian"]
    exponent: PositiveFloat = Field(1.2, description="of the density of every atom, 1/bohr²")
    seconds: float = Field(0.0, ge=0, description="that each molecule takes, asleep, as a costly engine would")
    faults: dict[str, Literal["abort", "hang", "memory"]] = Field(
        {}, description="by row id: molecules that abort their process, never end, or take memory without end"
    )


class BoundedDensity(Table):
    """A density of an isolated molecule, or of one in a periodic box of a size that follows from its geometry."""

    boundary: Literal["open", "periodic"] = "open"
    vacuum_angstrom: PositiveFloat | None = Field(
        None, description="periodic: at least twice as much lies between the atoms and their images; by default 2.0"
    )
    mesh_spacing_angstrom: PositiveFloat | None = Field(
        None, description="periodic: between the points of the plane waves' mesh; by default 0.0831215, or 200 hartree"
    )
    mesh_multiple: PositiveInt | None = Field(
        None, description="periodic: mesh points along each edge of the box are a multiple of this; by default 2"
    )

    @model_validator(mode="before")
    @classmethod
    def _only_periodic_densities_have_boxes(cls, content: dict[str, Any]) -> dict[str, Any]:
        given = {key: content[key] for key in PUBLISHED_BOX if content.get(key) is not None}
        if content.get("boundary") == "periodic":
            return content | PUBLISHED_BOX | given
        for key in given:
            raise ValueError(f'{key} describes a periodic box: leave it out, or give boundary = "periodic"')
        return content


class SadDensity(BoundedDensity):
    engine: Literal["sad"]
    variant: Literal["minao", "gth-szv"] = "minao"
    basis: str = "gth-tzv2p"
    pseudopotential: str = Field("gth-pbe", description='"none": all-electron')


class XtbDensity(Table):
    """Valence electrons, and with `electrons = "all"` frozen atomic cores too."""

    engine: Literal["gfn2", "gfn1"]
    library: Literal["tblite", "xtb-python"] = "tblite"


class DftDensity(BoundedDensity):
    engine: Literal["dft"]
    functional: str = "PBE"
    basis: str = "gth-tzv2p"
    pseudopotential: str = Field("gth-pbe", description='"none": all-electron')


class FileDensity(Table):
    """The density that each molecule's own file holds, as it is there."""

    engine: Literal["file"]
    key: str | None = Field(None, description="which array of an npz, or field of a cube; the only density by default")


class PromoleculeDensity(Table):
    """Neutral spherical atoms where they stand: for systems of any size. They count what the recipe says."""

    engine: Literal["promolecule"]
    xtb_atoms: int = Field(0, ge=0, description="the ligand of a complex has its own GFN2 density up to so many atoms")
    part: Literal["complex", "ligand"] = Field("complex", description="all atoms; or the ligand's alone, as a control")


class MapDensity(Table):
    """What a structure's experimental map holds, resampled to the grid: CCP4, MRC, or coefficients in an MTZ."""

    engine: Literal["map"]
    method: Literal["xray", "em"] = Field(description="X-ray maps repeat with the crystal and lack F000; EM maps end")
    scale: Literal["sigma", "file"] = Field(
        "sigma", description="standard deviations of the map above its mean, or as its file scales it"
    )
    amplitudes: str | None = Field(None, description="column of an MTZ; with phases; FWT and PHWT are found unasked")
    phases: str | None = None
    least_coverage: float = Field(
        1.0, gt=0, le=1, description="of a box by its map; the cells that it does not cover have its mean"
    )

    @property
    def units(self) -> str:
        """As far as they are known."""
        if self.scale == "sigma":
            return "1"
        return DENSITY_UNITS if self.method == "xray" else "arbitrary"

    @property
    def about(self) -> str:
        """What the numbers are."""
        if self.scale == "sigma":
            return f"{self.method} map, standard deviations above its mean"
        if self.method == "xray":
            return "xray map as its file scales it, a deviation from the mean density (there is no F000)"
        return "em map as its file scales it, in arbitrary units"


class ModelDensity(Table):
    """What a trained model makes of another density of the recipe."""

    engine: Literal["model"]
    model: str = Field(description="the folder of a training run, relative to the recipe, or the name of a model")
    input: Name = Field("guess", description="the density that it starts from, made and stored as it was trained on")
    sha256: str = Field("", description="of the model; by default, of the one that is there")


WITHOUT_ORBITALS = (FileDensity, MapDensity, PromoleculeDensity)
Density: TypeAlias = Annotated[
    GaussianDensity
    | SadDensity
    | XtbDensity
    | DftDensity
    | PromoleculeDensity
    | FileDensity
    | MapDensity
    | ModelDensity,
    Field(discriminator="engine"),
]


class Box(Table):
    """The grid of a molecule: a cube, or a box, that holds it with its margin."""

    box: Literal["cube", "tight", "file"] = Field(
        "cube",
        description="the smallest of the classes; as many cells as needed, up to the largest; the grid of the file",
    )
    multiple: PositiveInt = Field(2, description="a tight box has multiples of this many cells along each edge")
    spacing_angstrom: PositiveFloat = 0.2
    margin_angstrom: float = Field(3.0, ge=0)
    sampling: Literal["cell", "point"] = "cell"
    orient: bool = Field(False, description="turn molecules to their principal axes first")
    classes: tuple[PositiveInt, ...] = Field((32, 48, 64, 80, 96), min_length=1, description="cells along an edge")

    @model_validator(mode="after")
    def _ascending_even(self) -> "Box":
        if list(self.classes) != sorted(set(self.classes)) or any(cells % 2 for cells in self.classes):
            raise ValueError(f"{list(self.classes)} are not even numbers in ascending order")
        return self


class Channels(Table):
    """Which fields are stored."""

    densities: tuple[str, ...] | None = Field(None, description="names of [densities.…]; all of them by default")
    gradient_magnitude: tuple[str, ...] = ()
    atom_types: bool = Field(False, description="smooth occupancy of each of atom_type_elements, and of all others")
    shape: bool = Field(False, description="smooth occupancy of all atoms together, between 0 and 1")
    shape_radius_angstrom: PositiveFloat | None = Field(
        None, description="of every atom, so that shape says nothing of elements; by default van der Waals radii"
    )
    atom_type_elements: tuple[str, ...] = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I")

    @model_validator(mode="after")
    def _radius_has_a_shape(self) -> "Channels":
        if self.shape_radius_angstrom and not self.shape:
            raise ValueError("shape_radius_angstrom goes with shape = true: leave it out, or ask for that channel")
        return self

    @model_validator(mode="after")
    def _elements_exist(self) -> "Channels":
        for symbol in self.atom_type_elements:
            if symbol not in NUMBERS:
                raise ValueError(f"atom_type_elements names {symbol!r}, which is no element")
        return self


class Splits(Table):
    """Fractions of the molecules, by a hash of what must not cross them."""

    by: Literal["molecule", "scaffold", "ligand"] = Field(
        "molecule",
        description="its connectivity, of a complex its protein; or its Bemis-Murcko scaffold, where it has rings; or "
        "of a complex its ligand, whatever the protein",
    )
    train: float = Field(0.8, ge=0, le=1)
    validation: float = Field(0.1, ge=0, le=1)
    test: float = Field(0.1, ge=0, le=1)

    @property
    def fractions(self) -> dict[str, float]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @model_validator(mode="after")
    def _whole(self) -> "Splits":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, validation and test add up to {total}, not to 1")
        return self


class Limits(Table):
    """What one molecule may cost."""

    seconds_per_molecule: PositiveFloat = 3600
    memory_gib: PositiveFloat = 8


class Storage(Table):
    """How samples are stored."""

    shard_samples: PositiveInt = 16
    round_to: float = Field(1e-6, ge=0, description="electrons/bohr³; values become multiples of a power of two")
    wavefunctions: bool = True


class Recipe(Table):
    """What a dataset is."""

    electrons: Literal["valence", "all"] = "valence"
    source: Source
    conformers: Conformers = Conformers()
    densities: dict[Name, Density] = Field(min_length=1)
    grid: Box
    channels: Channels = Channels()
    splits: Splits = Splits()
    limits: Limits = Limits()
    store: Storage = Storage()

    @model_validator(mode="after")
    def _names_exist(self) -> "Recipe":
        named = {
            "channels.densities": self.channels.densities or (),
            "channels.gradient_magnitude": self.channels.gradient_magnitude,
        }
        for key, names in named.items():
            for name in names:
                if name not in self.densities:
                    raise ValueError(f"{key} names {name!r}, but [densities] has {', '.join(self.densities)}")
        return self

    @model_validator(mode="after")
    def _names_are_free(self) -> "Recipe":
        gradients = [f"{name}_gradient" for name in self.channels.gradient_magnitude]
        channels = [*self.channel_densities, *gradients]
        for name in self.densities:
            if name in TABLE_COLUMNS or name in ARRAYS:
                raise ValueError(f"[densities.{name}]: the store's own arrays use this name; choose another")
        twice = sorted({name for name in channels if channels.count(name) > 1})
        if twice:
            raise ValueError(f"two channels would be called {twice[0]!r}: rename a density, or list it once")
        return self

    @model_validator(mode="after")
    def _one_electron_convention(self) -> "Recipe":
        for name, density in self.densities.items():
            if isinstance(density, XtbDensity | PromoleculeDensity | FileDensity | MapDensity | ModelDensity):
                continue  # xTB, promolecules and models count what the recipe says; a file counts what it may
            counts_all = getattr(density, "pseudopotential", "gth") == "none"
            if counts_all != (self.electrons == "all"):
                raise ValueError(
                    f"[densities.{name}] counts {'all' if counts_all else 'valence'} electrons, "
                    f'but electrons = "{self.electrons}": a dataset never mixes the two'
                )
        return self

    @model_validator(mode="after")
    def _models_have_inputs(self) -> "Recipe":
        models = {name: density for name, density in self.densities.items() if isinstance(density, ModelDensity)}
        for name, density in models.items():
            given = self.densities.get(density.input)
            if given is None or isinstance(given, ModelDensity | FileDensity | MapDensity):
                raise ValueError(f"[densities.{name}] input names {density.input!r}, which is no density with orbitals")
            if density.input not in self.channel_densities:
                raise ValueError(f"channels.densities lacks {density.input!r}, which [densities.{name}] starts from")
        for name in {*models} & {*self.channels.gradient_magnitude}:
            raise ValueError(f"channels.gradient_magnitude names {name!r}, which a model makes, without orbitals")
        return self

    @model_validator(mode="after")
    def _maps_lie_where_their_structures_do(self) -> "Recipe":
        maps = [name for name, density in self.densities.items() if isinstance(density, MapDensity)]
        if maps and (self.source.path is None or not self.conformers.keep or self.grid.orient):
            raise ValueError(
                f"[densities.{maps[0]}] is a map of structures as they lie: give source.path, and set "
                "conformers.keep = true and grid.orient = false"
            )
        for name in {*maps} & {*self.channels.gradient_magnitude}:
            raise ValueError(f"channels.gradient_magnitude names {name!r}, which is a map, without orbitals")
        return self

    @model_validator(mode="after")
    def _files_are_taken_as_they_are(self) -> "Recipe":
        given = [name for name, density in self.densities.items() if isinstance(density, FileDensity)]
        if bool(given) != (self.grid.box == "file"):
            raise ValueError(
                f'grid.box = "{self.grid.box}" with engine = "file" in {len(given)} densities: '
                'a density from a file keeps its own grid, box = "file", and only such a density has one'
            )
        if given and self.source.path is None:
            raise ValueError(f"[densities.{given[0]}] comes from files: give source.path, not source.package")
        if given and (not self.conformers.keep or self.grid.orient):
            raise ValueError(
                f"[densities.{given[0]}] comes with its geometry: set conformers.keep = true and grid.orient = false"
            )
        for name in {*given} & {*self.channels.gradient_magnitude}:
            raise ValueError(f"channels.gradient_magnitude names {name!r}, which comes from a file, without orbitals")
        return self

    @property
    def channel_densities(self) -> tuple[str, ...]:
        return tuple(self.densities) if self.channels.densities is None else self.channels.densities


def read_recipe(path: Path) -> Recipe:
    """Raises RecipeError naming file, key, value and remedy; nothing else has been touched by then."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    recipe = pin_models(parse_recipe(text, path), path.parent)
    if recipe.source.path is None:
        locate_qm9()
        return recipe
    source = path.parent / recipe.source.path
    if not source.exists():
        raise RecipeError(
            f'{path}: source.path = "{recipe.source.path}": no such file or folder (looked at {source.resolve()}): '
            "paths are relative to the recipe"
        )
    return recipe.model_copy(update={"source": recipe.source.model_copy(update={"path": source.resolve()})})


def pin_models(recipe: Recipe, folder: Path) -> Recipe:
    """The same, with the paths and checksums of the models that it names. Raises RequestError where one is missing."""
    found = {}
    for name, density in recipe.densities.items():
        if isinstance(density, ModelDensity):
            from flows.prediction.model_engine import pin_model

            found[name] = pin_model(density, folder)
    return recipe.model_copy(update={"densities": {**recipe.densities, **found}}) if found else recipe


def parse_recipe(text: str, name: Path) -> Recipe:
    """A recipe from its text. `name` is what errors call it."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name}: is no TOML: {error}") from error
    return check_recipe(content, name)


def check_recipe(content: Mapping[str, Any], name: Location) -> Recipe:
    """A recipe from its keys and values. `name` is what errors call it."""
    try:
        return Recipe.model_validate(content)
    except pydantic.ValidationError as error:
        raise RecipeError("\n".join(f"{name}: {line}" for line in _explain(error))) from error


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Every key with its value, defaults filled in, ready for JSON; of the source's path the name alone."""
    values = recipe.model_dump(mode="json")
    if recipe.source.path:
        values["source"]["path"] = recipe.source.path.name  # where a file lay is no part of what a dataset is
    return values


def recipe_schema() -> str:
    """The JSON schema of recipes."""
    return json.dumps(Recipe.model_json_schema(), indent=2)


def _explain(error: pydantic.ValidationError) -> Iterator[str]:
    engines = {name for model in get_args(get_args(Density)[0]) for name in get_args(_engine_names(model))}
    for problem in error.errors():
        steps = problem["loc"]
        tagged = steps[:1] == ("densities",) and steps[2:3] and steps[2] in engines  # pydantic names the engine too
        location = [str(step) for step in (steps[:2] + steps[3:] if tagged else steps)]
        key, value = ".".join(location), problem["input"]
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(location[-1], _known_keys(), n=1)
            remedy = f"did you mean {near[0]}?" if near else "`rhoflow recipe --schema` lists the keys"
            yield f"{key} = {value!r}: unknown key; {remedy}"
        elif problem["type"] == "missing":
            yield f"{key}: must be given; see `rhoflow recipe --schema`"
        elif problem["type"] == "value_error":
            yield f"{key + ': ' if key else ''}{problem['msg'].removeprefix('Value error, ')}"
        else:
            yield f"{key} = {value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _engine_names(model: type[BaseModel]) -> Any:
    return model.model_fields["engine"].annotation


def _known_keys() -> list[str]:
    schema = Recipe.model_json_schema()
    tables = [schema, *schema["$defs"].values()]
    return sorted({key for table in tables for key in table.get("properties", {})})
