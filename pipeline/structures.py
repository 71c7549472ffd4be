"""Structures of macromolecules, PDB or mmCIF by content, and the rules by which they become atoms.

* Alternate locations: one label per residue number, the one whose atoms have the largest sum of occupancies (the first
  of equals); an atom without that label has its own most occupied place. So of residues that share a number, one stays.
* Several models: one, by its number, or all, each a conformer; they must have the same atoms.
* Residues are waters (one oxygen and no other heavy atom), protein (amino acids, whatever holds a backbone N, CA and C,
  and caps), nucleic acids, ions (a lone atom), or others (cofactors, buffer); the recipe chooses among these.
* Atoms that the file lacks stay missing: neither side chains nor hydrogens are built, symmetry mates are not made.
  Hydrogens are those of the file, deuterium is hydrogen; a structure without hydrogens is one of heavy atoms.
* A pocket is every chosen residue, whole, with an atom within the radius of a ligand's atom.
"""

import functools
import gzip
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from scipy.spatial import cKDTree

from pipeline.residues import ResidueKind
from pipeline.units import BOHR_PER_ANGSTROM
from storage.schema import FloatArray, IntArray

ENDINGS = (".pdb", ".ent", ".cif", ".mmcif")  # also with .gz
CAPS = ("ACE", "NME", "NMA", "NH2")


@dataclass(frozen=True)
class Structure:
    """The chosen atoms. Lengths in bohr."""

    numbers: IntArray  # (atoms,)
    positions: FloatArray  # (models, atoms, 3)
    residues: IntArray  # (atoms,): which residue each belongs to
    group: str  # a hash of the chains' sequences: equal for all structures of one construct


def is_structure_file(path: Path) -> bool:
    """Whether the name's ending is one of PDB or mmCIF."""
    return path.name.lower().removesuffix(".gz").endswith(ENDINGS)


def read_structure(path: Path, residues: tuple[ResidueKind, ...], model: int | None) -> Structure:
    """Raises ValueError, naming the file, where it is no structure, or holds no atoms of the chosen kinds."""
    if not path.is_file():
        raise ValueError(f"there is no file {path.name}: put it there, or correct the path")
    return interpret_structure(path, path.read_bytes(), residues, model)


@functools.lru_cache(maxsize=4)  # many ligands share a protein
def interpret_structure(path: Path, content: bytes, residues: tuple[ResidueKind, ...], model: int | None) -> Structure:
    """From the bytes of a file; `path` is what errors call it."""
    try:
        read = parse_structure(content)
    except (RuntimeError, ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path.name} is neither PDB nor mmCIF ({reason}): fetch it again") from error
    models = [select_atoms(one, residues) for one in choose_models(read, model, path)]
    first = models[0]
    if not first:
        raise ValueError(f"{path.name} holds no atoms of {', '.join(residues)}: choose other `residues`")
    for number, atoms in enumerate(models, start=1):
        if [label(atom) for atom in atoms] != [label(atom) for atom in first]:
            raise ValueError(f"{path.name}: model {number} has other atoms than model 1: choose one `model`")
    if unknown := next((atom for atom in first if atom.element.atomic_number == 0), None):
        raise ValueError(f"{path.name}: atom {unknown.name} in {unknown.place} has no known element: correct it")
    return Structure(
        numbers=np.array([atom.element.atomic_number for atom in first], dtype=np.int64),
        positions=np.array([[atom.position for atom in atoms] for atoms in models]) * BOHR_PER_ANGSTROM,
        residues=np.unique([atom.place for atom in first], return_inverse=True)[1],
        group=hash_sequences(read[0]),
    )


def parse_structure(content: bytes) -> gemmi.Structure:
    """From the bytes of a PDB or mmCIF file, gzipped or not. Raises ValueError, RuntimeError, or gzip's errors."""
    text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8", errors="replace")
    if "_atom_site." in text:
        return gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
    return gemmi.read_pdb_string(text)


@dataclass(frozen=True)
class PlacedAtom:
    """An atom that stays."""

    name: str
    place: str  # chain, number and name of its residue
    element: gemmi.Element
    position: tuple[float, float, float]  # Å


def label(atom: PlacedAtom) -> tuple[str, str]:
    """What an atom is called."""
    return atom.place, atom.name


def choose_models(structure: gemmi.Structure, model: int | None, path: Path) -> list[gemmi.Model]:
    """Raises ValueError where there is no such model."""
    if model is None or len(structure) == 0:
        return list(structure) or [gemmi.Model(1)]
    if model > len(structure):
        raise ValueError(f"{path.name} has {len(structure)} models, no model {model}: choose another `model`")
    return [structure[model - 1]]


def select_atoms(model: gemmi.Model, kinds: Iterable[ResidueKind]) -> list[PlacedAtom]:
    """The atoms of the residues of these kinds, each in one place."""
    return [
        PlacedAtom(
            atom.name, f"{chain}/{residue.seqid}/{residue.name}", atom.element, (atom.pos.x, atom.pos.y, atom.pos.z)
        )
        for chain, residue, atoms in settle_places(model)
        if classify(residue) in kinds
        for atom in atoms
    ]


def settle_places(model: gemmi.Model) -> Iterator[tuple[str, gemmi.Residue, list[gemmi.Atom]]]:
    """Every residue with its chain's name and its atoms, none of them in two places."""
    for chain in model:
        sharing: dict[tuple[str, str], list[gemmi.Residue]] = defaultdict(list)
        for residue in chain:
            sharing[residue.segment, str(residue.seqid)].append(residue)
        for residues in sharing.values():
            occupancies: dict[str, float] = defaultdict(float)
            for residue in residues:
                labelled = list_labelled(residue)
                for atom in residue:
                    if atom.name in labelled:
                        occupancies[atom.altloc] += atom.occ
            best = max(occupancies, key=occupancies.__getitem__, default="")
            for residue in residues:
                if len(residues) == 1 or not best or any(atom.altloc == best for atom in residue):
                    yield chain.name, residue, [choose_place(places, best) for places in name_atoms(residue)]


def name_atoms(residue: gemmi.Residue) -> Iterable[list[gemmi.Atom]]:
    """The places of every atom of a residue: of one that is labelled somewhere, a blank label is one of them."""
    named: dict[str, list[gemmi.Atom]] = defaultdict(list)
    labelled = list_labelled(residue)
    for atom in residue:
        named[atom.name if atom.name in labelled else f"{atom.name} {len(named)}"].append(atom)
    return named.values()


def list_labelled(residue: gemmi.Residue) -> set[str]:
    """Names of atoms with alternate locations."""
    return {atom.name for atom in residue if atom.has_altloc()}


def choose_place(places: list[gemmi.Atom], best: str) -> gemmi.Atom:
    """That of the best label, else the most occupied."""
    return max(places, key=lambda atom: (atom.altloc == best, atom.occ))


def classify(residue: gemmi.Residue) -> ResidueKind:
    """What a residue is, by what it holds and, failing that, by its name."""
    known = gemmi.find_tabulated_residue(residue.name)
    names = {atom.name for atom in residue}
    heavy = {atom.name for atom in residue if not atom.is_hydrogen()}
    if known.is_water() or (len(heavy) == 1 and all(residue[name][0].element.name == "O" for name in heavy)):
        return "waters"
    if known.is_amino_acid() or residue.name in CAPS or names >= {"N", "CA", "C"}:
        return "protein"
    if known.is_nucleic_acid() or names >= {"P", "C1'", "O3'"}:
        return "nucleic"
    return "ions" if len(heavy) == 1 and len(names) == 1 else "others"


def hash_sequences(model: gemmi.Model) -> str:
    """14 hexadecimal digits of the sequences of protein and nucleic acid, each once, whatever the chains' names."""
    chains = set()
    for chain in model:
        polymer = [residue for residue in chain if classify(residue) in ("protein", "nucleic")]
        numbered = {str(residue.seqid): residue.name for residue in reversed(polymer) if residue.name not in CAPS}
        chains.add(" ".join(reversed(numbered.values())))
    chains.discard("")
    if not chains:
        chains = {f"{residue.name} {len(residue)}" for chain in model for residue in chain}
    return hashlib.sha256("\n".join(sorted(chains)).encode()).hexdigest()[:14]


def cut_pocket(structure: Structure, ligand: FloatArray, radius: float) -> IntArray:
    """Which atoms stand in residues that come within the radius of the ligand's atoms (bohr)."""
    distances, _ = cKDTree(ligand).query(structure.positions[0], distance_upper_bound=radius)
    near = np.unique(structure.residues[np.isfinite(distances)])
    return np.flatnonzero(np.isin(structure.residues, near))
