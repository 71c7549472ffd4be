"""Plans a dataset, generation by generation: a pure function of its conformers and its recipe."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from flows.conform import read_stored_recipe
from flows.engines import build_engines
from flows.keys import Keys, choose_keys
from flows.recipe import DENSITY_UNITS, MapDensity, Recipe
from pipeline.elements import SYMBOLS
from pipeline.engines.protocol import DensityEngine, Engine, FieldEngine, SuperpositionEngine
from pipeline.failures import MoleculeFailed, UnsupportedElement
from pipeline.molecule import find_scaffold, smiles_group
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import choose_class, place_grid, place_tight_grid, principal_axes
from storage.errors import StoreError
from storage.generations import Generation, Place, count_generations, read_generation
from storage.layout import open_group, plan_key, planned_key, source_key
from storage.objects import Location, has_object
from storage.outcomes import Ends
from storage.parts import ConformedRow, read_conformer_part, read_source_part
from storage.plan import (
    ChannelLayout,
    DensityLayout,
    GenerationPlan,
    Plan,
    Refusal,
    digest_shells,
    is_planned,
    read_plan,
    read_shard_samples,
    write_plan,
)
from storage.sample_tables import PlannedSample
from storage.schema import Basis, Conformer, FloatArray
from storage.splits import assign_split


@dataclass
class Draft:
    """What a generation brings, in the making."""

    first: Mapping[int, int]  # by size class: the row where its samples begin
    samples: dict[int, list[PlannedSample]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    aliases: dict[str, Place] = field(default_factory=dict)
    retried: list[tuple[Place, Place]] = field(default_factory=list)

    def add(self, cells: int, planned: PlannedSample) -> Place:
        of_class = self.samples.setdefault(cells, [])
        of_class.append(planned)
        return Place(cells, self.first[cells] + len(of_class) - 1)


def plan_dataset(store: Location) -> Plan:
    """Plan every generation that is read and not planned yet; what was planned before stays as it is."""
    for number in range(1, count_generations(store) + 1):
        if not has_object(store, plan_key(number)):
            _plan_generation(store, read_generation(store, number))
    return read_plan(store)


def _plan_generation(store: Location, generation: Generation) -> None:
    recipe = read_stored_recipe(store)
    engines = build_engines(recipe)
    solving = _with_orbitals(engines)
    before = read_plan(store).generations if generation.number > 1 else ()
    plan = Plan(
        recipe.store.shard_samples, _lay_out_channels(recipe), list(solving), recipe.store.wavefunctions, before
    )
    size = recipe.store.shard_samples
    keys = choose_keys(recipe)
    draft = Draft({cells: math.ceil(plan.lengths.get(cells, 0) / size) * size for cells in recipe.grid.classes})
    if generation.retried:
        plan_again(store, plan, generation.retried, keys, draft)
    else:
        rows = inherit_places(store, plan, generation, draft) if before else read_brought(store, generation)
        plan_rows(rows, recipe, engines, Signer(keys, read_contents(store, generation)), find_keys(store, plan), draft)
    densities = _lay_out_densities(store, draft.samples, solving, before[-1].bases if before else {})
    planned = GenerationPlan(
        number=generation.number,
        first={cells: draft.first[cells] for cells in sorted(draft.samples)},
        samples={cells: len(samples) for cells, samples in sorted(draft.samples.items())},
        refusals=draft.refusals,
        aliases=draft.aliases,
        retried=draft.retried,
        programs=keys.programs,
        bases={
            density.name: {element: digest_shells(shells) for element, shells in density.basis.shells.items()}
            for density in densities
        },
    )
    write_plan(store, replace(plan, generations=[*before, planned]), draft.samples, densities)


def plan_again(store: Location, plan: Plan, places: Sequence[Place], keys: Keys, draft: Draft) -> None:
    """A second place for each of these samples."""
    shards = {(shard.cells, shard.index): shard for shard in plan.shards()}
    for place in places:
        shard = shards[place.cells, place.row // plan.shard_samples]
        planned = read_shard_samples(store, shard)[place.row - shard.first]
        draft.retried.append((place, draft.add(place.cells, keys.sign(planned))))


def read_brought(store: Location, generation: Generation) -> Iterator[ConformedRow]:
    """The rows that a generation brings."""
    for part in range(generation.first_part, generation.first_part + generation.parts):
        yield from read_conformer_part(store, part)


def inherit_places(store: Location, plan: Plan, generation: Generation, draft: Draft) -> Iterator[ConformedRow]:
    """The rows that a generation brings, less those that the store has under other labels, ids or places.

    These keep their samples, whatever versions of programs are installed by now.
    """
    ends = Ends(store, plan)
    read_part = lru_cache(maxsize=None)(lambda part: read_conformer_part(store, part))
    for part in range(generation.first_part, generation.first_part + generation.parts):
        for source, row in zip(read_source_part(store, part), read_conformer_part(store, part), strict=True):
            if source.known is None or source.known.store:
                yield row
                continue
            was = read_part(source.known.part)[source.known.index]
            for conformer, twin in zip(row.conformers, was.conformers, strict=True):
                end = ends.find(source.known.part, twin.id)
                if isinstance(end, Place):
                    draft.aliases[conformer.id] = end
                else:
                    draft.refusals.append(replace(end, id=conformer.id))


@dataclass(frozen=True)
class Signer:
    """Gives samples their keys."""

    keys: Keys
    contents: Mapping[str, str]  # by row id: sha256 of the file of the row's density

    def sign(self, planned: PlannedSample, id: str) -> PlannedSample:
        return self.keys.sign(planned, self.contents.get(id, ""))


def read_contents(store: Location, generation: Generation) -> dict[str, str]:
    """Of the rows that a generation brings."""
    parts = range(generation.first_part, generation.first_part + generation.parts)
    rows = (row for part in parts if has_object(store, source_key(part)) for row in read_source_part(store, part))
    return {row.molecule.id: row.content for row in rows if row.content}


def check_bases(store: Location) -> None:
    """Before a planned store grows: raises StoreError where the programs would write its elements otherwise."""
    if not is_planned(store):
        return
    engines = _with_orbitals(build_engines(read_stored_recipe(store)))
    _lay_out_densities(store, {}, engines, read_plan(store).generations[-1].bases)


def find_keys(store: Location, plan: Plan) -> dict[bytes, Place]:
    """Where the samples of all generations before lie."""
    places = {}
    for generation in plan.generations:
        for cells, first in generation.first.items():
            keys: Any = open_group(store, "r", planned_key(generation.number, cells))["key"]
            places.update({key.tobytes(): Place(cells, first + row) for row, key in enumerate(keys[...])})
    return places


def plan_rows(
    rows: Iterable[ConformedRow],
    recipe: Recipe,
    engines: Mapping[str, DensityEngine],
    signer: Signer,
    places: dict[bytes, Place],
    draft: Draft,
) -> None:
    """Every conformer gets a place, is the same as a sample that has one, or is refused by name."""
    counting = {name: engine for name, engine in engines.items() if isinstance(engine, Engine | SuperpositionEngine)}
    fields = [engine for engine in engines.values() if isinstance(engine, FieldEngine)]
    refused_elements: dict[int, str] = {}
    for row in rows:
        for conformer in row.conformers:
            try:
                _check_elements(conformer, counting, refused_elements)
                cells, planned = place(conformer, recipe, fields)
            except MoleculeFailed as failure:
                draft.refusals.append(Refusal(conformer.id, failure.reason, str(failure)))
                continue
            planned = signer.sign(planned, row.id)
            if planned.key in places:
                draft.aliases[conformer.id] = places[planned.key]
            else:
                places[planned.key] = draft.add(cells, planned)


def _with_orbitals(engines: Mapping[str, DensityEngine]) -> dict[str, Engine]:
    return {name: engine for name, engine in engines.items() if isinstance(engine, Engine)}


def _check_elements(
    conformer: Conformer, engines: Mapping[str, Engine | SuperpositionEngine], refused: dict[int, str]
) -> None:
    """Raises UnsupportedElement where an engine lacks an element, or engines would count different electrons."""
    for number in sorted(set(map(int, conformer.numbers))):
        if number not in refused:
            refused[number] = _find_element_fault(number, engines)
        if refused[number]:
            raise UnsupportedElement(refused[number])


def _find_element_fault(number: int, engines: Mapping[str, Engine | SuperpositionEngine]) -> str:
    """What keeps an element out of the dataset, or "" ."""
    cores = {}
    for name, engine in engines.items():
        try:
            if isinstance(engine, Engine):
                engine.basis(np.array([number]))
            cores[name] = engine.core_electrons(number)
        except UnsupportedElement as failure:
            return f"density {name!r}: {failure}"
    if len(set(cores.values())) > 1:
        counts = ", ".join(f"{name!r} {number - core}" for name, core in cores.items())
        return f"{SYMBOLS[number]} counts different electrons: {counts}; leave one of these densities out of the recipe"
    return ""


def place(conformer: Conformer, recipe: Recipe, fields: Sequence[FieldEngine] = ()) -> tuple[int, PlannedSample]:
    """The conformer's size class, and the conformer on its grid, turned where the recipe says so. Raises TooLarge."""
    box = recipe.grid
    rotation: FloatArray = np.eye(3)
    if box.orient:
        rotation = principal_axes(conformer.positions, conformer.numbers)
        turned = conformer.positions @ rotation.T
        conformer = Conformer(**{**vars(conformer), "positions": turned})
    spacing, margin = box.spacing_angstrom * BOHR_PER_ANGSTROM, box.margin_angstrom * BOHR_PER_ANGSTROM
    inside = conformer.positions[: conformer.ligand_atoms or None]  # of a complex, the ligand
    if box.box == "file":
        grid = fields[0].grid(conformer)  # all of them read the molecule's one file
    elif box.box == "tight":
        grid = place_tight_grid(inside, spacing, margin, box.multiple)
    else:
        grid = place_grid(inside, spacing, margin, box.classes)
    if recipe.splits.by == "ligand" and conformer.ligand_atoms:
        conformer = replace(conformer, group=smiles_group(conformer.smiles))
    scaffold = find_scaffold(conformer.smiles) if recipe.splits.by == "scaffold" else ""
    split = assign_split(scaffold or conformer.group, recipe.splits.fractions)
    return choose_class(max(grid.shape), box.classes), PlannedSample(conformer, grid, split, rotation)


def _lay_out_channels(recipe: Recipe) -> list[ChannelLayout]:
    averaged = "cell average" if recipe.grid.sampling == "cell" else "value at the cell centre"
    channels = [_lay_out_density(recipe, name, averaged) for name in recipe.channel_densities]
    channels += [
        ChannelLayout(f"{name}_gradient", "electrons bohr-4", f"length of the density gradient of {name!r}, {averaged}")
        for name in recipe.channels.gradient_magnitude
    ]
    if recipe.channels.atom_types:
        types = (*recipe.channels.atom_type_elements, "other")
        channels.append(ChannelLayout("atom_types", "1", f"occupancy by atom type, {averaged}", types))
    if recipe.channels.shape:
        channels.append(ChannelLayout("shape", "1", f"occupancy of all atoms, {averaged}"))
    return channels


def _lay_out_density(recipe: Recipe, name: str, averaged: str) -> ChannelLayout:
    density = recipe.densities[name]
    if isinstance(density, MapDensity):
        return ChannelLayout(name, density.units, f"{density.about}, {averaged}")
    return ChannelLayout(name, DENSITY_UNITS, f"electron density {name!r}, {averaged}")


def _lay_out_densities(
    store: Location,
    samples: Mapping[int, list[PlannedSample]],
    engines: Mapping[str, Engine],
    known: Mapping[str, Mapping[int, str]],
) -> list[DensityLayout]:
    """Raises StoreError where an element's basis is another one than that of the samples that exist (`known`)."""
    new = {int(z) for planned in samples.values() for sample in planned for z in sample.conformer.numbers}
    layouts = []
    for name, engine in engines.items():
        numbers = np.array(sorted({*new, *known.get(name, {})}), dtype=np.int64)
        basis = engine.basis(numbers) if len(numbers) else Basis({})
        for element, digest in known.get(name, {}).items():
            if digest_shells(basis.shells[element]) != digest:
                raise StoreError(
                    f"density {name!r}: the basis of {SYMBOLS[element]} is not that of the samples in {store}: "
                    "use the programs that made them, or build into a new store"
                )
        orbitals = {
            cells: max(engine.orbital_limit(sample.conformer) for sample in planned)
            for cells, planned in samples.items()
        }
        layouts.append(DensityLayout(name, basis, orbitals))
    return layouts
