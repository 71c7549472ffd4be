"""The text of one SDF record or one xyz frame, understood."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from rdkit import Chem, rdBase

from pipeline.elements import NUMBERS
from pipeline.molecule import canonical_smiles, first_error
from pipeline.units import BOHR_PER_ANGSTROM
from storage.schema import FloatArray, IntArray


def split_sdf_record(lines: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The mol block, and the data fields with the title line as `title` among them."""
    end = next((index for index, line in enumerate(lines) if line.startswith("M  END")), len(lines) - 1) + 1
    fields: dict[str, str] = {}
    name = None
    for line in lines[end:]:
        header = re.match(r">.*?<(.*)>", line)
        if header and name is None:
            name = header[1]
            fields[name] = ""
        elif not line.strip():
            name = None
        elif name is not None:
            fields[name] = f"{fields[name]}\n{line}".strip()
    return "\n".join(lines[:end]) + "\n", {"title": lines[0].strip() if lines else "", **fields}


def read_mol_block(block: str) -> tuple[str, IntArray | None, FloatArray | None, int | None, int | None]:
    """SMILES, atomic numbers, positions (bohr), unpaired electrons, and the charge by which hydrogens were added.

    Numbers and positions are None for a drawing: no z, and a header that does not say 3D or an atom with four
    neighbours. Unpaired electrons are None where the block states no spins (RAD), the charge where no hydrogen was
    added to a geometry. Raises ValueError with RDKit's reason, and for charge code 4, a radical, which RDKit would give
    a hydrogen.
    """
    if number := _find_code_4(block):
        raise ValueError(f"atom {number} has charge code 4, a doublet radical: write it as an M  RAD line")
    with rdBase.BlockLogs(), rdBase.CaptureErrorLog() as errors:
        graph = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        if graph is None:
            raise ValueError(first_error(errors.messages))
        graph.UpdatePropertyCache(strict=False)
        is_geometry = graph.GetNumAtoms() > 0 and _is_geometry(graph, block)
        graph = _repair_nitro(graph) if is_geometry else Chem.MolFromMolBlock(block, removeHs=False)
        if graph is None or Chem.SanitizeMol(graph, catchErrors=True):
            raise ValueError(first_error(errors.messages))
        for atom in graph.GetAtoms():
            atom.SetAtomMapNum(0)
        if is_geometry:
            Chem.AssignStereochemistryFrom3D(graph)
        smiles = canonical_smiles(Chem.RemoveHs(graph))
        spins = [int(spin) - 1 for spin in _read_radicals(block)]
        unpaired = sum(spins) if spins else None
        if not is_geometry:
            return smiles, None, None, unpaired, None
        held = graph.GetNumAtoms()
        graph = Chem.AddHs(graph, addCoords=True)
    numbers = np.array([atom.GetAtomicNum() for atom in graph.GetAtoms()], dtype=np.int64)
    positions = graph.GetConformer().GetPositions() * BOHR_PER_ANGSTROM
    return smiles, numbers, positions, unpaired, Chem.GetFormalCharge(graph) if len(numbers) > held else None


def read_mol2_block(block: str) -> tuple[str, IntArray, FloatArray]:
    """SMILES, atomic numbers and positions (bohr) of a mol2 text's first molecule.

    Raises ValueError with RDKit's reason, and where carbons lack hydrogens, or nitrogens and oxygens two: bonds and
    atom types tell charges only beside them. An oxygen that lacks one is taken for an anion, as carboxylates are.
    """
    with rdBase.BlockLogs(), rdBase.CaptureErrorLog() as errors:
        graph = Chem.MolFromMol2Block(block, removeHs=False)
        if graph is None:
            raise ValueError(first_error(errors.messages))
        if bare := next((atom.GetIdx() + 1 for atom in graph.GetAtoms() if _lacks_hydrogens(atom)), 0):
            raise ValueError(
                f"atom {bare} of the mol2 lacks hydrogens, without which it tells no charges: add them, or give an SDF"
            )
        Chem.AssignStereochemistryFrom3D(graph)
        smiles = canonical_smiles(Chem.RemoveHs(graph))
    numbers = np.array([atom.GetAtomicNum() for atom in graph.GetAtoms()], dtype=np.int64)
    return smiles, numbers, graph.GetConformer().GetPositions() * BOHR_PER_ANGSTROM


def read_comment(comment: str) -> dict[str, str]:
    """The key=value pairs among the words of an xyz comment line."""
    pair = re.compile(r"""(?:^|(?<=[\s,;]))([^\s=,;"']+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s,;]+))""")
    return {name: next(filter(None, texts), "") for name, *texts in pair.findall(comment)}


def read_frame(atoms: str, fields: Mapping[str, object]) -> tuple[IntArray, FloatArray]:
    """Atomic numbers and positions (bohr) from the atom lines, in Å, of an xyz or extxyz frame. Raises ValueError."""
    pbc = str(fields.get("pbc", "T" if "Lattice" in fields else "F"))
    if re.search("[tT1]", pbc):
        raise ValueError('it is periodic, which is not computed; for a molecule in a box write pbc="F F F"')
    species, position = _places(str(fields.get("Properties", "species:S:1:pos:R:3")))
    numbers, positions = [], []
    for line in atoms.splitlines():
        cells = line.split()
        if len(cells) < max(species + 1, position + 3):
            raise ValueError(f"{line.strip()!r} is not an element and three coordinates")
        numbers.append(_read_element(cells[species]))
        positions.append([float(cell) for cell in cells[position : position + 3]])
    if not np.isfinite(positions).all():
        raise ValueError("a coordinate is not a finite number")
    return np.array(numbers, dtype=np.int64), np.array(positions, dtype=np.float64).reshape(-1, 3) * BOHR_PER_ANGSTROM


def read_electrons(fields: Mapping[str, object], numbers: IntArray) -> tuple[int | None, int | None]:
    """Charge and unpaired electrons as a comment gives them, None where it does not. Raises ValueError."""
    given = {name.lower(): str(value) for name, value in fields.items()}
    charge = read_whole(given["charge"], "charge") if "charge" in given else None
    for name, subtracted in (("uhf", 0), ("unpaired", 0), ("multiplicity", 1)):
        if name in given:
            return charge, read_whole(given[name], name) - subtracted
    if "spin" in given:
        spin = read_whole(given["spin"], "spin")
        electrons = int(numbers.sum()) - (charge or 0)
        return charge, spin if (electrons - spin) % 2 == 0 else spin - 1
    return charge, None


def read_whole(text: str, name: str) -> int:
    """A whole number; raises ValueError, with `name`, for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not value.is_integer():
        raise ValueError(f"{name} {text!r} is not a whole number")
    return int(value)


def _repair_nitro(graph: Chem.Mol) -> Chem.Mol:
    """The graph with nitro groups written as such where a program left out their charges, or gave both oxygens one."""
    for pattern in ("[ND3+0](=[OD1])-[OD1]", "[ND3+0](-[OD1-])-[OD1-]"):
        for nitrogen, first, second in graph.GetSubstructMatches(Chem.MolFromSmarts(pattern)):
            graph.GetBondBetweenAtoms(nitrogen, first).SetBondType(Chem.BondType.DOUBLE)
            graph.GetAtomWithIdx(first).SetFormalCharge(0)
            graph.GetAtomWithIdx(second).SetFormalCharge(-1)
            graph.GetAtomWithIdx(nitrogen).SetFormalCharge(1)
    return graph


def _is_geometry(graph: Chem.Mol, block: str) -> bool:
    if graph.GetConformer().GetPositions()[:, 2].any():
        return True
    degrees = [atom.GetTotalDegree() for atom in graph.GetAtoms()]
    says_3d = block.split("\n", 2)[1][20:22].upper() == "3D"
    return degrees == [0] or (says_3d and max(degrees) < 4)


def _read_radicals(block: str) -> list[str]:
    """The RAD values of V2000 (M  RAD lines) or V3000 atoms: 1 singlet, 2 doublet, 3 triplet."""
    lines = re.findall(r"^M  RAD ..(.*)$", block, re.MULTILINE)
    return [value for line in lines for value in line.split()[1::2]] + re.findall(
        r"^M  V30 .* RAD=([123])", block, re.MULTILINE
    )


def _lacks_hydrogens(atom: Chem.Atom) -> bool:
    """RDKit adds none to atoms of a mol2: a carbon is left with open valences, others become anions."""
    is_isonitrile = any(bond.GetBondType() == Chem.BondType.TRIPLE for bond in atom.GetBonds())
    is_bare_carbon = atom.GetAtomicNum() == 6 and atom.GetNumRadicalElectrons() > 0 and not is_isonitrile
    return is_bare_carbon or (atom.GetAtomicNum() in (7, 8) and atom.GetFormalCharge() <= -2)


def _find_code_4(block: str) -> int:
    """The first atom of a V2000 block with that charge code, from 1; 0 where there is none, or M lines say it all."""
    lines = block.splitlines()
    if len(lines) < 4 or "V3000" in lines[3] or re.search(r"^M  (CHG|RAD)", block, re.MULTILINE):
        return 0
    atoms = lines[4 : 4 + int(lines[3][:3].strip() or 0)] if lines[3][:3].strip().isdigit() else []
    return next((number for number, line in enumerate(atoms, start=1) if line[36:39].strip() == "4"), 0)


def _places(properties: str) -> tuple[int, int]:
    """The columns at which species (or Z) and pos stand in an extxyz frame."""
    parts = properties.split(":")
    starts: dict[str, int] = {}
    column = 0
    for name, width in zip(parts[::3], parts[2::3], strict=False):
        starts[name] = column
        column += read_whole(width, "a width in Properties")
    species = starts.get("species", starts.get("Z"))
    if species is None or "pos" not in starts:
        raise ValueError(f"Properties={properties} names no species or no pos")
    return species, starts["pos"]


def _read_element(text: str) -> int:
    if text in ("D", "T"):
        return 1
    number = int(text) if text.isdecimal() else NUMBERS.get(text.capitalize(), 0)
    if not 1 <= number < len(NUMBERS):
        raise ValueError(f"{text!r} is no element")
    return number
