"""Protein–ligand complexes: a posed ligand, and the residues around it.

The ligand's atoms come first, the pocket's follow: a complex is a molecule that says how many of its atoms are the
ligand's. Hydrogens that the ligand's file lacks are added to it; the pocket has those of its file.
"""

import contextlib
import functools
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.records import read_mol2_block, read_mol_block, split_sdf_record
from pipeline.residues import Rules
from pipeline.structures import cut_pocket, is_structure_file, read_structure
from storage.schema import FloatArray, IntArray

PROTEIN, LIGAND, LIGANDS = "_protein", "_ligand", "_ligands"
LIGAND_ENDINGS = (".sdf", ".sdf.gz", ".mol", ".mol2")


@dataclass(frozen=True)
class Complex:
    """A molecule as `storage.schema.Molecule` has it."""

    smiles: str | None  # of the ligand
    numbers: IntArray  # (atoms,), the ligand's first
    positions: FloatArray  # (models · atoms, 3), bohr
    group: str  # the protein's
    ligand_atoms: int  # 0: there is no ligand


@dataclass(frozen=True)
class Parts:
    """Where a complex, or a structure alone, lies."""

    structure: Path | None  # None: the row names none
    ligands: tuple[Path, ...] | None = None  # of one ligand, read in turn until one can be; None: a structure alone
    record: str = ""  # which record of it, by title or number from 0; "": the only one


def build_complex(parts: Parts, rules: Rules) -> Complex:
    """Raises ValueError where a file is missing or cannot be read."""
    if parts.structure is None:
        raise ValueError("there is no structure in it: name the structure's file")
    if parts.ligands is None:
        structure = read_structure(parts.structure, rules.residues, rules.model)
        return Complex(None, structure.numbers, structure.positions.reshape(-1, 3), structure.group, 0)
    if not parts.ligands:
        raise ValueError(f"beside {parts.structure.name} lies no ligand: put NAME{LIGAND}.sdf or .mol2 there")
    smiles, numbers, positions = read_ligand(parts.ligands, parts.record)
    structure = read_structure(parts.structure, rules.residues, rules.model or 1)
    pocket = cut_pocket(structure, positions, rules.pocket)
    return Complex(
        smiles=smiles,
        numbers=np.concatenate([numbers, structure.numbers[pocket]]),
        positions=np.concatenate([positions, structure.positions[0, pocket]]),
        group=structure.group,
        ligand_atoms=len(numbers),
    )


def read_ligand(paths: tuple[Path, ...], record: str) -> tuple[str, IntArray, FloatArray]:
    """SMILES, atomic numbers and positions (bohr), from the first of the files that RDKit understands.

    Raises ValueError with the first file's fault.
    """
    faults = []
    for path in paths:
        try:
            block = find_record(path, record)
            smiles, numbers, positions = (read_mol2_block if path.suffix == ".mol2" else read_mol_block)(block)[:3]
        except ValueError as error:
            faults.append(f"the ligand in {path.name}{f' ({record})' if record else ''}: {error}")
            continue
        if numbers is not None and positions is not None:
            return smiles, numbers, positions
        faults.append(f"the ligand in {path.name} is a drawing: give it coordinates in the protein's frame")
    raise ValueError(faults[0])


def find_record(path: Path, record: str) -> str:
    """The text of a ligand: that of a title, or of a number, or the only one. Raises ValueError where there is none."""
    if not path.is_file():
        raise ValueError("there is no such file: put it there, or correct the path")
    records = read_records(path)
    titles = [fields["title"] for _, fields in records]
    if record in titles and titles.count(record) == 1:
        return records[titles.index(record)][0]
    if record.isdecimal() and int(record) < len(records) and record not in titles:
        return records[int(record)][0]
    if not record and len(records) == 1:
        return records[0][0]
    asked = f"no record, or several, with the title or number {record!r}" if record else f"{len(records)} records"
    raise ValueError(f"the file has {asked}: name one by its title or its number from 0")


def read_records(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The blocks of a ligand's file, and the data fields of each with its title. Raises ValueError."""
    try:
        return split_records(path, path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"the gzip file is damaged ({error}): fetch it again") from error


@functools.lru_cache(maxsize=4)
def split_records(path: Path, content: bytes) -> list[tuple[str, dict[str, str]]]:
    """From the bytes of a file."""
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8", errors="replace")
    if path.suffix == ".mol2":
        blocks = [block for block in re.split(r"(?m)^(?=@<TRIPOS>MOLECULE)", text) if block.startswith("@")]
        return [(block, {"title": block.splitlines()[1].strip()}) for block in blocks]
    records = re.split(r"(?m)^\$\$\$\$.*\n?", text.replace("\r\n", "\n"))
    return [split_sdf_record(record.splitlines()) for record in records if record.strip()]


@dataclass(frozen=True)
class Entry:
    """A complex that a folder holds."""

    name: str
    protein: Path
    parts: Parts
    fields: Mapping[str, str]  # data fields of the ligand's record, and of PDBbind's index


def list_complexes(folder: Path) -> list[Entry]:
    """The complexes of a folder or its subfolders, by name.

    NAME_protein.pdb goes with NAME_ligand.sdf or .mol2, as in PDBbind, or with NAME_ligands.sdf, which holds several.
    """
    affinities = read_affinities(folder)
    found: list[Entry] = []
    for protein in list_proteins(folder):
        name = protein.name.partition(PROTEIN + ".")[0]
        several = find_ligands(protein.parent, name + LIGANDS)[:1]
        for number, fields in enumerate(list_fields(several)):
            title = fields["title"] or str(number)
            found.append(Entry(f"{name}_{title}", protein, Parts(protein, several, str(number)), fields))
        if not list_fields(several):
            ligands = several or find_ligands(protein.parent, name + LIGAND)
            fields = next(iter(list_fields(ligands)), {})
            found.append(Entry(name, protein, Parts(protein, ligands), {**fields, **affinities.get(name, {})}))
    return found


def list_fields(paths: tuple[Path, ...]) -> list[dict[str, str]]:
    """The data fields of every record; a file that cannot be read is its complex's failure, when that is built."""
    found = []
    for path in paths:
        with contextlib.suppress(ValueError):
            found += [fields for _, fields in read_records(path)]
    return found


def find_ligands(folder: Path, name: str) -> tuple[Path, ...]:
    """The files of that name that hold a ligand, those with bond orders that are easier to read first."""
    return tuple(path for path in (folder / f"{name}{ending}" for ending in LIGAND_ENDINGS) if path.is_file())


def list_proteins(folder: Path) -> list[Path]:
    """Files called NAME_protein.pdb (or .cif …) in a folder and its subfolders, by name."""
    found = [*folder.glob(f"*{PROTEIN}.*"), *folder.glob(f"*/*{PROTEIN}.*")]
    return sorted(path for path in found if is_structure_file(path))


def list_structures(folder: Path) -> list[Path]:
    """PDB and mmCIF files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if is_structure_file(path) and not path.name.startswith("."))


def list_indices(folder: Path) -> list[Path]:
    """PDBbind's lists of affinities."""
    return sorted([*folder.glob("INDEX*"), *folder.glob("index/INDEX*")])


def read_affinities(folder: Path) -> dict[str, dict[str, str]]:
    """By PDB code, `pK` and `measurement`, as PDBbind's lists in the folder, or in its index/, have them."""
    found: dict[str, dict[str, str]] = {}
    for index in list_indices(folder):
        for line in index.read_text(encoding="utf-8", errors="replace").splitlines():
            found.update(read_affinity(line.split("//")[0].split()))
    return found


def read_affinity(words: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Code, resolution, year and then −log10 of the affinity (mol/l), where the file has it, and the measurement."""
    if len(words) >= 4 and len(words[0]) == 4:
        value, measured = (words[3], words[4]) if len(words) > 4 else ("", words[3])
        yield words[0], {"pK": value, "measurement": measured}
