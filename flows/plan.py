"""Plans a dataset: a pure function of its conformers and its recipe."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flows.conform import read_stored_recipe, source_parts
from flows.engines import build_engines
from flows.recipe import Recipe
from pipeline.elements import SYMBOLS
from pipeline.engines.protocol import DensityEngine, Engine, FieldEngine
from pipeline.failures import MoleculeFailed, UnsupportedElement
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import choose_class, place_grid, place_tight_grid, principal_axes
from storage.objects import Location
from storage.parts import ConformedRow, read_conformer_part
from storage.plan import (
    ChannelLayout,
    DensityLayout,
    Plan,
    PlannedSample,
    Refusal,
    is_planned,
    read_plan,
    write_plan,
)
from storage.schema import Basis, Conformer, FloatArray
from storage.splits import assign_split

DENSITY_UNITS = "electrons bohr-3"


@dataclass
class Draft:
    """A plan in the making."""

    samples: dict[int, list[PlannedSample]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    duplicates: dict[str, str] = field(default_factory=dict)
    rows: int = 0


def plan_dataset(store: Location) -> Plan:
    """Plan every conformer of the store and create its arrays; an existing plan is returned as it is."""
    if is_planned(store):
        return read_plan(store)
    recipe = read_stored_recipe(store)
    parts = source_parts(store)
    engines = build_engines(recipe)
    solving = _with_orbitals(engines)
    rows = (row for part in range(parts) for row in read_conformer_part(store, part))
    draft = draft_plan(rows, recipe, engines)
    plan = Plan(
        rows=draft.rows,
        parts=parts,
        shard_samples=recipe.store.shard_samples,
        samples={cells: len(planned) for cells, planned in sorted(draft.samples.items())},
        channels=_lay_out_channels(recipe),
        densities=list(solving),
        keeps_wavefunctions=recipe.store.wavefunctions,
        refusals=draft.refusals,
        duplicates=draft.duplicates,
    )
    write_plan(store, plan, draft.samples, _lay_out_densities(draft.samples, solving))
    return plan


def draft_plan(rows: Iterable[ConformedRow], recipe: Recipe, engines: Mapping[str, DensityEngine]) -> Draft:
    """Every conformer gets a place, is a duplicate of an earlier one, or is refused by name."""
    draft, solving = Draft(), _with_orbitals(engines)
    fields = [engine for engine in engines.values() if isinstance(engine, FieldEngine)]
    computed: dict[bytes, str] = {}
    refused_elements: dict[int, str] = {}
    for row in rows:
        draft.rows += 1
        for conformer in row.conformers:
            # Two files may hold different densities of one geometry: no file is a duplicate.
            digest = conformer.id.encode() if fields else _geometry_digest(conformer)
            first = computed.setdefault(digest, conformer.id)
            if first != conformer.id:
                draft.duplicates[conformer.id] = first
                continue
            try:
                _check_elements(conformer, solving, refused_elements)
                cells, planned = place(conformer, row.row, recipe, fields)
            except MoleculeFailed as failure:
                draft.refusals.append(Refusal(conformer.id, failure.reason, str(failure)))
            else:
                draft.samples.setdefault(cells, []).append(planned)
    return draft


def _with_orbitals(engines: Mapping[str, DensityEngine]) -> dict[str, Engine]:
    return {name: engine for name, engine in engines.items() if not isinstance(engine, FieldEngine)}


def _geometry_digest(conformer: Conformer) -> bytes:
    """Equal for conformers that give the same bytes: same atoms, positions, charge and spin."""
    state = np.array([conformer.charge, conformer.unpaired, *conformer.numbers], dtype=np.int64)
    positions = np.ascontiguousarray(conformer.positions, dtype=np.float64) + 0.0  # −0 and 0 are one place
    return hashlib.sha256(state.tobytes() + positions.tobytes()).digest()[:16]


def _check_elements(conformer: Conformer, engines: Mapping[str, Engine], refused: dict[int, str]) -> None:
    """Raises UnsupportedElement where an engine lacks an element, or engines would count different electrons."""
    for number in sorted(set(map(int, conformer.numbers))):
        if number not in refused:
            refused[number] = _find_element_fault(number, engines)
        if refused[number]:
            raise UnsupportedElement(refused[number])


def _find_element_fault(number: int, engines: Mapping[str, Engine]) -> str:
    """What keeps an element out of the dataset, or "" ."""
    cores = {}
    for name, engine in engines.items():
        try:
            engine.basis(np.array([number]))
        except UnsupportedElement as failure:
            return f"density {name!r}: {failure}"
        cores[name] = engine.core_electrons(number)
    if len(set(cores.values())) > 1:
        counts = ", ".join(f"{name!r} {number - core}" for name, core in cores.items())
        return f"{SYMBOLS[number]} counts different electrons: {counts}; leave one of these densities out of the recipe"
    return ""


def place(
    conformer: Conformer, row: int, recipe: Recipe, fields: Sequence[FieldEngine] = ()
) -> tuple[int, PlannedSample]:
    """The conformer's size class, and the conformer on its grid, turned where the recipe says so. Raises TooLarge."""
    box = recipe.grid
    rotation: FloatArray = np.eye(3)
    if box.orient:
        rotation = principal_axes(conformer.positions, conformer.numbers)
        turned = conformer.positions @ rotation.T
        conformer = Conformer(**{**vars(conformer), "positions": turned})
    spacing, margin = box.spacing_angstrom * BOHR_PER_ANGSTROM, box.margin_angstrom * BOHR_PER_ANGSTROM
    if box.box == "file":
        grid = fields[0].grid(conformer)  # all of them read the molecule's one file
    elif box.box == "tight":
        grid = place_tight_grid(conformer.positions, spacing, margin, box.multiple)
    else:
        grid = place_grid(conformer.positions, spacing, margin, box.classes)
    split = assign_split(conformer.group, recipe.splits.model_dump())
    return choose_class(max(grid.shape), box.classes), PlannedSample(conformer, row, grid, split, rotation)


def _lay_out_channels(recipe: Recipe) -> list[ChannelLayout]:
    averaged = "cell average" if recipe.grid.sampling == "cell" else "value at the cell centre"
    channels = [
        ChannelLayout(name, DENSITY_UNITS, f"electron density {name!r}, {averaged}")
        for name in recipe.channel_densities
    ]
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


def _lay_out_densities(
    samples: Mapping[int, list[PlannedSample]], engines: Mapping[str, Engine]
) -> list[DensityLayout]:
    elements = {int(z) for planned in samples.values() for sample in planned for z in sample.conformer.numbers}
    numbers = np.array(sorted(elements), dtype=np.int64)
    layouts = []
    for name, engine in engines.items():
        basis = engine.basis(numbers) if len(numbers) else Basis({})
        orbitals = {
            cells: max(engine.orbital_limit(sample.conformer) for sample in planned)
            for cells, planned in samples.items()
        }
        layouts.append(DensityLayout(name, basis, orbitals))
    return layouts
