"""A sample's key: equal where everything is that its stored bytes depend on, so that nothing is computed twice."""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass, replace

import numpy as np

from flows.engines import choose_fields
from flows.recipe import Density, FileDensity, Recipe, recipe_values
from storage.sample_tables import PlannedSample
from storage.schema import Conformer

KEY_VERSION = 1  # raised when our own formulas store other bytes than before
PROGRAMS = {"tblite": "tblite", "xtb-python": "xtb", "dft": "pyscf", "sad": "pyscf"}


@dataclass(frozen=True)
class Keys:
    """The part of all keys of a dataset that is the same for every sample."""

    states: tuple[str, ...]  # by density with orbitals: engine, its settings, its program's version
    voxels: str  # channels, rounding, what is kept
    unique: str  # "" or, where samples come from files that may change, what no other dataset says

    def sign(self, planned: PlannedSample) -> PlannedSample:
        conformer, grid = planned.conformer, planned.grid
        molecule = _pack(conformer)
        states = tuple(_digest(molecule, state) for state in self.states)
        box = np.array([*grid.shape, *grid.spacing, *grid.origin], dtype=np.float64).tobytes()
        own = f"{self.unique} {conformer.id}" if self.unique else ""
        return replace(planned, key=_digest(molecule, box, *states, self.voxels, own), state_keys=states)


def choose_keys(recipe: Recipe, generation: int) -> Keys:
    """Samples from files have keys of their own in each generation: a file may hold anything the next time."""
    from_files = any(isinstance(density, FileDensity) for density in recipe.densities.values())
    solving = {name: one for name, one in recipe.densities.items() if not isinstance(one, FileDensity)}
    kept = {"wavefunctions": recipe.store.wavefunctions, "densities": list(solving)}
    voxels = json.dumps([KEY_VERSION, asdict(choose_fields(recipe)), kept], sort_keys=True)
    unique = f"{recipe.source.path} {generation}" if from_files else ""
    return Keys(tuple(_describe(name, one, recipe) for name, one in solving.items()), voxels, unique)


def _describe(name: str, density: Density, recipe: Recipe) -> str:
    settings = recipe_values(recipe)["densities"][name]
    program = PROGRAMS.get(settings.get("library", ""), PROGRAMS.get(density.engine, ""))
    version = importlib.metadata.version(program) if program else ""
    return json.dumps([KEY_VERSION, settings, recipe.electrons, program, version], sort_keys=True)


def _pack(conformer: Conformer) -> bytes:
    """Atoms, positions, charge and spin; −0 and 0 are one place."""
    state = np.array([conformer.charge, conformer.unpaired, *conformer.numbers], dtype=np.int64)
    return state.tobytes() + (np.ascontiguousarray(conformer.positions, dtype=np.float64) + 0.0).tobytes()


def _digest(*parts: str | bytes) -> bytes:
    """16 bytes of sha256 over the parts and their lengths."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8) + content)
    return digest.digest()[:16]
