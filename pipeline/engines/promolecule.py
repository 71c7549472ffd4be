"""The promolecule: neutral, spherical atoms where they stand, for systems of any size, without orbitals.

The atoms are those that GFN2-xTB starts from, with the same valence, and with frozen cores the same as xTB's are given
(`fit_atoms` derives both). Charges, bonds and hydrogens that a file lacks leave no trace in it. The ligand of a complex
can be given its own GFN2 density, of the ligand alone in vacuum: then the seam lies between ligand and pocket.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Literal

import numpy as np

from pipeline.engines.xtb import Electrons, XtbEngine
from pipeline.failures import InvalidInput
from pipeline.molecule import graph_charge, graph_unpaired, read_graph
from pipeline.superposition import Superposition
from storage.schema import Conformer, FloatArray, IntArray

Part = Literal["complex", "ligand"]


@functools.cache
def read_atoms() -> Mapping[int, Mapping[str, Mapping[str, list[float]]]]:
    """By element: `valence` and, where it has one, `core`, each with exponents (1/bohr²) and electrons."""
    table = json.loads(resources.files("pipeline.engines").joinpath("atoms.json").read_text(encoding="ascii"))
    return {int(number): entry for number, entry in table.items()}


@functools.cache
def atom_gaussians(number: int, electrons: Electrons) -> tuple[FloatArray, FloatArray]:
    """Exponents (1/bohr²) and electrons of the Gaussians of an atom, whose element is known."""
    entry = read_atoms()[number]
    parts = [entry["valence"], entry["core"]] if electrons == "all" and "core" in entry else [entry["valence"]]
    exponents, counts = (np.concatenate([part[key] for part in parts]) for key in ("exponents", "electrons"))
    return exponents, counts * round(counts.sum()) / counts.sum()  # the table's digits are ten


@dataclass(frozen=True)
class PromoleculeEngine:
    """`xtb_atoms`: ligands of at most so many atoms have their own GFN2 density; 0: none has.

    `part`: "ligand" leaves the pocket out.
    """

    electrons: Electrons = "valence"
    xtb_atoms: int = 0
    part: Part = "complex"

    def core_electrons(self, number: int) -> int:
        """Electrons of an element that are left out. Raises UnsupportedElement where the element is not known."""
        return self._xtb.core_electrons(number)

    def select(self, conformer: Conformer) -> IntArray:
        """Raises InvalidInput where there is no ligand to select."""
        if self.part == "complex":
            return conformer.numbers
        if not conformer.ligand_atoms:
            raise InvalidInput("there is no ligand: part = 'ligand' is for complexes")
        return conformer.numbers[: conformer.ligand_atoms]

    def superpose(self, conformer: Conformer) -> Superposition:
        """Raises a MoleculeFailed."""
        ligand = self._select_ligand(conformer)
        first, last = len(ligand.numbers) if ligand else 0, len(self.select(conformer))
        numbers, positions = conformer.numbers[first:last].tolist(), conformer.positions[first:last]
        atoms = [atom_gaussians(number, self.electrons) for number in numbers]
        return Superposition(
            exponents=np.concatenate([exponents for exponents, _ in atoms] or [np.empty(0)]),
            centres=np.repeat(positions, [len(exponents) for exponents, _ in atoms], axis=0),
            electrons=np.concatenate([counts for _, counts in atoms] or [np.empty(0)]),
            state=self._xtb.solve(ligand) if ligand else None,
            charge=ligand.charge if ligand else 0,
        )

    @property
    def _xtb(self) -> XtbEngine:
        return XtbEngine("gfn2", electrons=self.electrons)

    def _select_ligand(self, conformer: Conformer) -> Conformer | None:
        """The ligand alone, where GFN2 is to compute it."""
        atoms = conformer.ligand_atoms
        if not 0 < atoms <= self.xtb_atoms:
            return None
        graph = read_graph(conformer.smiles)
        return replace(
            conformer,
            numbers=conformer.numbers[:atoms],
            positions=conformer.positions[:atoms],
            charge=graph_charge(graph),
            unpaired=graph_unpaired(graph),
        )
