"""What a neural field is to learn: the true fields of molecules at any position, from their atoms and wavefunctions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.collocation import density_at_points, gradient_at_points
from pipeline.elements import NUMBERS
from pipeline.fields import Channel, Gaussians, find_peak, parse_channel, spread_atoms
from pipeline.rotation import rotate_state
from storage.errors import RequestError, StoreError
from storage.schema import ElectronicState, FloatArray, IntArray
from training.catalog import Catalog

EPSILON = 1e-7  # electrons/bohr³, of what is dropped of a density
KEPT = 4096  # molecules whose Gaussians and orbitals are kept in memory
WAVES = ("density", "gradient")

Axes = tuple[Tensor, Tensor, Tensor]  # bohr, float64


@dataclass(frozen=True)
class Fields:
    """Which fields, in the order of a network's outputs."""

    names: tuple[str, ...]
    beta: float
    radii: Mapping[int, float]  # ångström, by atomic number

    @property
    def size(self) -> int:
        """Values at a position: a gradient has three."""
        return sum(3 if name.startswith("gradient:") else 1 for name in self.names)

    @property
    def labels(self) -> tuple[str, ...]:
        """One name for each value."""
        vectors = {name: [f"{name}:{axis}" for axis in "xyz"] for name in self.names if name.startswith("gradient:")}
        return tuple(label for name in self.names for label in vectors.get(name, [name]))

    @property
    def densities(self) -> tuple[str, ...]:
        """Whose wavefunctions are needed."""
        return tuple(dict.fromkeys(name.split(":")[1] for name in self.names if name.split(":")[0] in WAVES))

    @property
    def atomic(self) -> tuple[Channel, ...]:
        return tuple(parse_channel(name) for name in self.names if name.split(":")[0] not in WAVES)


def read_fields(names: Sequence[str], beta: float, radii: Sequence[str]) -> Fields:
    """Raises RequestError where one is not to be understood."""
    fields = Fields(tuple(names), beta, dict(_read_radius(text) for text in radii))
    if not fields.atomic and not fields.densities:
        raise RequestError('channels = []: name at least one field, for example channels = ["C", "density:target"]')
    return fields


def _read_radius(text: str) -> tuple[int, float]:
    symbol, _, length = text.partition("=")
    try:
        return NUMBERS[symbol.strip()], float(length)
    except (KeyError, ValueError) as error:
        raise RequestError(f'radii has {text!r}: write an element and ångström, for example "H=0.7"') from error


@dataclass(frozen=True)
class Scene:
    """One molecule with everything that its fields are made of. Lengths in bohr."""

    id: str
    numbers: IntArray  # (atoms,) atomic numbers
    positions: FloatArray  # (atoms, 3)
    centre: FloatArray  # (3,), of its box
    fields: Fields
    gaussians: tuple[Gaussians, ...]  # of the fields of atoms, in their order
    states: Mapping[str, ElectronicState] = field(default_factory=dict)

    def turned(self, rotation: FloatArray) -> "Scene":
        """About the centre of its box, by an orthogonal matrix (3, 3)."""

        def turn(points: FloatArray) -> FloatArray:
            return np.asarray((points - self.centre) @ rotation.T + self.centre)

        states = {}
        for name, state in self.states.items():
            about = rotate_state(replace(state, positions=state.positions - self.centre), rotation)
            states[name] = replace(about, positions=about.positions + self.centre)
        gaussians = tuple(replace(one, centres=turn(one.centres)) for one in self.gaussians)
        return replace(self, positions=turn(self.positions), gaussians=gaussians, states=states)

    def has_atoms_of(self, other: "Scene") -> bool:
        """Whether it is another geometry of the same atoms, in the same order."""
        return np.array_equal(self.numbers, other.numbers)

    def between(self, other: "Scene", share: float) -> "Scene":
        """With each atom, and the centre of the box, so far along the straight way to another geometry.

        Raises RequestError where a density is shown, which is known at the two ends only.
        """
        if self.states:
            raise RequestError(f"{self.id}: the densities between two geometries are not known: show fields of atoms")
        ways = zip(self.gaussians, other.gaussians, strict=True)
        between = [(one.exponents, one.centres + share * (two.centres - one.centres)) for one, two in ways]
        return replace(
            self,
            positions=self.positions + share * (other.positions - self.positions),
            centre=self.centre + share * (other.centre - self.centre),
            gaussians=tuple(Gaussians(*atoms, find_peak(*atoms)) for atoms in between),
        )

    def on_axes(self, axes: Axes) -> Tensor:
        """True values (fields, nx, ny, nz), float32, on the device of the axes."""
        atomic = iter(self.gaussians)
        values = []
        for name in self.fields.names:
            kind, _, density = name.partition(":")
            if kind == "gradient":
                values.append(gradient_at_points(self.states[density], axes, EPSILON, torch.float32))
            elif kind == "density":
                values.append(density_at_points(self.states[density], axes, EPSILON, torch.float32)[None])
            else:
                values.append(next(atomic).on_axes(axes).float()[None])
        return torch.cat(values)


class Scenes(Protocol):
    """Molecules to be learned, or judged by."""

    ids: list[str]
    groups: list[str]  # which of them are the same molecule
    fields: Fields

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Scene: ...


class StoredScenes:
    """The molecules of a catalogue."""

    def __init__(self, catalog: Catalog, fields: Fields) -> None:
        """Raises StoreError where a store keeps no wavefunctions of a density."""
        for dataset in catalog.datasets:
            kept = dataset.densities if dataset.attributes["wavefunctions"] else []
            for name in fields.densities:
                if name not in kept:
                    raise StoreError(
                        f"{dataset.store} keeps no wavefunctions of {name!r}, only of: {', '.join(kept) or 'none'}: "
                        "name one of these, or build it with wavefunctions = true in [store] of its recipe"
                    )
        self.catalog, self.fields, self.ids = catalog, fields, catalog.ids
        self.groups = [str(group) for group in catalog.table["group"]]
        self._read = lru_cache(maxsize=KEPT)(self._build)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> Scene:
        return self._read(number)

    @property
    def edge(self) -> float:
        """Of the largest stored box, bohr."""
        return float(np.max(self.catalog.shapes * self.catalog.spacing))

    def _build(self, number: int) -> Scene:
        catalog = self.catalog
        centre = catalog.origins[number] + (catalog.shapes[number] - 1) / 2 * np.array(catalog.spacing)
        states = {}
        if self.fields.densities:
            kept = catalog.datasets[catalog.stores[number]][self.ids[number]].states
            states = {name: kept[name] for name in self.fields.densities}
        return build_scene(
            self.ids[number],
            catalog.numbers_of(number),
            catalog.positions_of(number),
            centre,
            self.fields,
            parts=self._name_parts(number),
            states=states,
        )

    def _name_parts(self, number: int) -> list[str]:
        """Of a complex, each atom's; the ligand's come first."""
        table, atoms = self.catalog.table, int(self.catalog.atoms[number])
        ligand = int(table["ligand_atoms"].iloc[number]) if "ligand_atoms" in table else 0
        return ["ligand"] * ligand + ["protein"] * (atoms - ligand) if ligand else []


def build_scene(
    id: str,
    numbers: IntArray,
    positions: FloatArray,
    centre: FloatArray,
    fields: Fields,
    *,
    parts: Sequence[str] = (),
    states: Mapping[str, ElectronicState] | None = None,
) -> Scene:
    """Raises RequestError where an element has not the property that a field shows, StoreError for periodic states."""
    for name, state in (states or {}).items():
        if state.cell is not None:
            raise StoreError(f"density {name!r} of {id} is periodic: a field fills a box of its own; choose another")
    spread = [spread_atoms(one, numbers, positions, fields.beta, parts, fields.radii) for one in fields.atomic]
    return Scene(id, numbers, positions, centre, fields, tuple(spread), states or {})
