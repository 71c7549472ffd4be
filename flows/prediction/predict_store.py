"""Predicts into a store: a dataset like any other, of a guess and of what a trained model makes of it."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.plan import plan_dataset
from flows.prediction.guess import check_guess
from flows.prediction.guess_computed import read_guess_recipe
from flows.prediction.model_engine import pin_model
from flows.prediction.predict import Wanted, check_no_spacing, is_file, is_store, read_smiles
from flows.prepare import conform_missing, plan_source
from flows.progress import Meter
from flows.recipe import ModelDensity, Recipe, check_recipe, recipe_values
from flows.shard import compute_shard
from flows.source import Finder, copy_rows, finish_unchanged
from flows.status import RunRecord, Status, read_status
from flows.voxelize import check_kept, copy_rows_once
from pipeline.molecule import UNREADABLE
from pipeline.sources import read_molecules
from storage import generations
from storage.errors import RequestError
from storage.generations import Generation, count_generations, read_latest, write_generation
from storage.header import Header, begin_store, claim_begun, read_header
from storage.identity import fingerprint
from storage.objects import Location, locate, name_store, resolve
from storage.parts import SourceRow
from storage.plan import read_plan
from storage.receipts import find_missing
from storage.seal import is_sealed, seal
from training.trained import Origin, load_model, locate_run

PREDICTED = "predicted"
LARGEST_CLASS = 256  # cells along an edge: 16 samples of two densities, a shard, then take 2 GB
GROWTH = 1.25  # from one size class to the next, at least
EDGE = 8  # cells, of which the edges of these classes are multiples
TEXT = """# Made by `rhoflow predict`: the recipe of {data}, but for
[densities.{name}]
engine = "model"
model = "{model}"
input = "{input}"
sha256 = "{sha256}"
"""


@dataclass(frozen=True)
class Learned:
    """A model as one of a recipe's densities."""

    density: ModelDensity
    origin: Origin

    def lay_out(self, recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> Recipe:
        """A recipe of the guess and the prediction alone, with some of its tables changed."""
        guess = recipe["densities"][self.origin.input]
        densities = {self.origin.input: guess, PREDICTED: self.density.model_dump()}
        return check_recipe({**recipe, "densities": densities, "channels": {}, **changes}, Path(self.density.model))

    def describe(self, data: str) -> str:
        keys = self.density
        return TEXT.format(data=data, name=PREDICTED, model=keys.model, input=keys.input, sha256=keys.sha256)


def predict_store(wanted: Wanted, begun: float) -> Status:
    """Make, resume, or bring up to its input the store at `wanted.out`; `begun` is when the command started.

    Its recipe is that of the data which the model has learned from, with the model as an engine; molecules that fail
    are named in its rows. From a store it takes the guesses' wavefunctions. Raises RequestError for a model, an input
    or a place that is none.
    """
    if wanted.format:
        raise RequestError(f"--format {wanted.format}: is for files, but {wanted.out} is a store: leave it out")
    store, source = resolve(wanted.out), locate(wanted.input)
    model = load_model(locate_run(wanted.run))
    density = pin_model(ModelDensity(engine="model", model=wanted.run, input=model.origin.input), Path())
    learned = Learned(density, model.origin)
    if is_store(wanted.input):
        check_no_spacing(wanted)
        recipe, header = None, _begin_from_store(store, source, learned)
    else:
        recipe, header = _begin_from_molecules(store, learned, wanted)
    with claim_begun(store, header):
        _compute(store, recipe, wanted, begun)
    return read_status(store)


def _begin_from_store(store: Location, source: Location, learned: Learned) -> Header:
    begun, origin = read_header(source), learned.origin
    if origin.input not in begun.recipe["densities"]:
        raise RequestError(f"{source} has no density {origin.input!r}, which the model starts from")
    check_guess(begun.recipe, origin.input, origin, str(source))
    check_kept(source, [origin.input])
    recipe = learned.lay_out(begun.recipe, {})
    kept = generations.Origin(str(resolve(source)), fingerprint(source))
    header = Header(recipe_values(recipe), learned.describe(name_store(source)), kept)
    begin_store(store, header)
    copy_rows_once(source, store, header)
    return header


def _begin_from_molecules(store: Location, learned: Learned, wanted: Wanted) -> tuple[Recipe, Header]:
    trained = read_guess_recipe(learned.origin, wanted.spacing_angstrom)
    made = trained.conformers
    if is_file(wanted.input):
        path = Path(wanted.input).resolve()
        keep = _has_geometries(path, wanted)
        source = {"path": path, "smiles": wanted.smiles, "id": wanted.id}
    else:
        source, keep = {"path": Path(f"{read_smiles(wanted).id}.smi")}, False
    conformers = {"keep": True} if keep else {"optimise": made.optimise, "seed": made.seed}
    limits = {**trained.limits.model_dump(), "memory_gib": wanted.memory_gib}
    grid = {**trained.grid.model_dump(), "classes": add_classes(trained.grid.classes)}
    changes = {"source": source, "conformers": conformers, "limits": limits, "grid": grid}
    recipe = learned.lay_out(recipe_values(trained), changes)
    data = ", ".join(store.rsplit("/", 1)[-1] for store in learned.origin.stores)
    header = Header(recipe_values(recipe), learned.describe(data))
    begin_store(store, header)
    return recipe, header


def add_classes(classes: Sequence[int]) -> tuple[int, ...]:
    """Boxes for molecules larger than those of the training data, too."""
    more = list(classes)
    while (larger := EDGE * math.ceil(GROWTH * more[-1] / EDGE)) <= LARGEST_CLASS:
        more.append(larger)
    return tuple(more)


def _has_geometries(path: Path, wanted: Wanted) -> bool:
    """Raises RequestError where some molecules have one and others do not: a recipe is for either."""
    given = graphs = 0
    for molecule in read_molecules(path, smiles=wanted.smiles, id=wanted.id):
        given += molecule.positions is not None
        graphs += molecule.positions is None and not (molecule.smiles or UNREADABLE).startswith(UNREADABLE)
    if given and graphs:
        raise RequestError(
            f"{path}: {given} of the molecules have a geometry and {graphs} have none: predict these and those into "
            "datasets of their own, or all into a folder of files"
        )
    return given > 0


def _compute(store: Location, recipe: Recipe | None, wanted: Wanted, begun: float) -> None:
    record = RunRecord(store, 1, begun)
    if recipe is None:
        plan_dataset(store)
    elif is_file(wanted.input):
        if finish_unchanged(store, recipe, None, claimed=True):
            return
        plan_source(store, recipe, None, None, record)
    else:
        _write_row(store, wanted)
        conform_missing(store, record)
        plan_dataset(store)
    shards = [shard.number for shard in read_plan(store).shards()]
    missing = find_missing(store, shards)
    if is_sealed(store) and not missing:
        return
    with Meter("predict", len(shards), len(shards) - len(missing), unit="shards") as meter:
        for number in missing:
            compute_shard(store, number)
            record.count(1)
            meter.advance(1)
    record.count(0)
    seal(store)


def _write_row(store: Location, wanted: Wanted) -> None:
    """The one molecule of a SMILES, unless it is there. Raises RequestError where another one is."""
    sha256 = hashlib.sha256(wanted.input.encode()).hexdigest()
    if not count_generations(store):
        runs, parts = copy_rows(store, Finder({}, {}), iter([SourceRow(read_smiles(wanted))]), 0)
        write_generation(store, Generation(1, wanted.input, sha256, None, 0, parts, runs))
    elif read_latest(store).sha256 != sha256:
        raise RequestError(f"{store} was begun with {read_latest(store).path}, not {wanted.input}: name a new store")
