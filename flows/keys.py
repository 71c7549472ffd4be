"""A sample's key: equal where everything is that its stored bytes depend on, so that nothing is computed twice."""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from flows.engines import choose_fields
from flows.recipe import WITHOUT_ORBITALS, ModelDensity, Recipe, recipe_values
from storage.sample_tables import PlannedSample
from storage.schema import Conformer

# Raised when our own formulas store other bytes than before.
STATE_VERSION = 1
VOXEL_VERSION = 3
PROGRAMS = {"xtb-python": "xtb"}  # packages that bear another name than their program


@dataclass(frozen=True)
class Keys:
    """The part of all keys of a dataset that is the same for every sample."""

    states: dict[str, str]  # by density with orbitals: engine, its settings, its program's version
    programs: dict[str, str]  # by density with orbitals: program and version, as receipts name them
    voxels: str  # channels, rounding, what is kept, which densities are files

    def sign(self, planned: PlannedSample, content: str = "") -> PlannedSample:
        """`content`: sha256 of the file that holds the molecule's density, where there is one."""
        conformer, grid = planned.conformer, planned.grid
        molecule = _pack(conformer)
        states = tuple(_digest(molecule, state) for state in self.states.values())
        box = np.array([*grid.shape, *grid.spacing, *grid.origin], dtype=np.float64).tobytes()
        return replace(planned, key=_digest(molecule, box, *states, self.voxels, content), state_keys=states)


def choose_keys(recipe: Recipe) -> Keys:
    """Those that the recipe asks for, with the programs installed now."""
    settings = recipe_values(recipe)["densities"]
    files = {
        name: settings[name] | _name_part(settings[name])
        for name, one in recipe.densities.items()
        if isinstance(one, WITHOUT_ORBITALS)
    }
    models = {
        name: [one.sha256, one.input, importlib.metadata.version("torch")]
        for name, one in recipe.densities.items()
        if isinstance(one, ModelDensity)
    }
    programs = {name: _name_program(one) for name, one in settings.items() if name not in {**files, **models}}
    states = {
        name: json.dumps([STATE_VERSION, settings[name], recipe.electrons, program], sort_keys=True)
        for name, program in programs.items()
    }
    kept: dict[str, Any] = {"wavefunctions": recipe.store.wavefunctions, "densities": list(states), "files": files}
    if models:
        kept["models"] = models
    if any(settings[name]["engine"] == "promolecule" for name in files):
        kept["electrons"] = recipe.electrons  # of those with orbitals it is in their states
    voxels = json.dumps([VOXEL_VERSION, asdict(choose_fields(recipe)), kept], sort_keys=True)
    return Keys(states, programs, voxels)


def _name_program(settings: Mapping[str, Any]) -> str:
    name = str(settings.get("library") or {"dft": "pyscf", "sad": "pyscf"}.get(settings["engine"], ""))
    return f"{name} {importlib.metadata.version(PROGRAMS.get(name, name))}" if name else f"rhoflow {settings['engine']}"


def _name_part(settings: Mapping[str, Any]) -> dict[str, str]:
    """The program behind a part of a density that has no orbitals in the store."""
    return {"program": _name_program({**settings, "library": "tblite"})} if settings.get("xtb_atoms") else {}


def _pack(conformer: Conformer) -> bytes:
    """Atoms, positions, charge, spin and which atoms are a ligand's; −0 and 0 are one place."""
    ligand = [-conformer.ligand_atoms] if conformer.ligand_atoms else []
    state = np.array([conformer.charge, conformer.unpaired, *ligand, *conformer.numbers], dtype=np.int64)
    return state.tobytes() + (np.ascontiguousarray(conformer.positions, dtype=np.float64) + 0.0).tobytes()


def _digest(*parts: str | bytes) -> bytes:
    """16 bytes of sha256 over the parts and their lengths."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8) + content)
    return digest.digest()[:16]
