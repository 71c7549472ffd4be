"""What a molecular graph says: its reading, canonical form, charge, unpaired electrons and group."""

import hashlib
import re

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds, rdinchi
from rdkit.Chem.Scaffolds import MurckoScaffold

from pipeline.failures import InvalidInput
from pipeline.units import ANGSTROM_PER_BOHR
from storage.schema import FloatArray, IntArray

UNREADABLE = "unreadable: "  # begins the `smiles` of a row whose record its source could not read; the reason follows

_BOND_ORDER_TRIALS = 1000
_BOND_STRETCH = (
    1.15  # atoms nearer than this many times the sum of their covalent radii are bonded; 1.3 bonds across cages
)

TRIPLETS = ("O=O", "S=S", "O=S")  # canonical SMILES of closed-shell drawings whose ground state is a triplet
# Atoms on which two radical electrons are parallel, and the neighbours that leave them so; of neutral nitrenes and
# phosphinidenes halogens, too.
HUND = {6: {1, 6}, 7: {1, 6}, 8: {1, 6}}
HUND_OF_NITRENES = {7: {1, 6, 9, 17, 35, 53}, 15: {1, 6, 9, 17, 35, 53}}


def read_graph(smiles: str) -> Chem.Mol:
    """The graph of a SMILES (or CXSMILES), without atom maps; the atoms keep the order of the text.

    Raises InvalidInput, with RDKit's reason, for what is no SMILES or is no definite molecule.
    """
    text = smiles.strip()
    if text.startswith(UNREADABLE):
        raise InvalidInput(text.removeprefix(UNREADABLE))
    if not text:
        raise InvalidInput("the SMILES is empty")
    if re.search(r"\s", re.sub(r"\s+\|.*\|$", "", text)):  # RDKit would take what follows for a name and drop it
        raise InvalidInput(f"{_shorten(text)!r} holds a blank: give the SMILES alone, the name in a column of its own")
    with rdBase.BlockLogs(), rdBase.CaptureErrorLog() as errors:
        graph = Chem.MolFromSmiles(text)
    if graph is None:
        raise InvalidInput(f"{_shorten(text)!r} is no SMILES of a molecule: {first_error(errors.messages)}")
    for atom in graph.GetAtoms():
        atom.SetAtomMapNum(0)
    _check_definite(graph, text)
    return graph


def canonical_smiles(graph: Chem.Mol) -> str:
    """Isomeric canonical SMILES: the same text for every spelling of a molecule; isotopes and stereo are kept."""
    return str(Chem.MolToSmiles(graph))


def graph_charge(graph: Chem.Mol) -> int:
    """Sum of the formal charges."""
    return int(Chem.GetFormalCharge(graph))


def graph_unpaired(graph: Chem.Mol) -> int:
    """Unpaired electrons: one for each atom with an odd number of radical electrons, two where Hund's rule says so.

    Two on one atom are a triplet in methylene, alkylcarbenes, nitrenes and phosphinidenes; they are a pair in SiH2,
    SnCl2, AlCl and CH+, beside a lone pair (CCl2, N-heterocyclic carbenes), at a double bond (vinylidene) and in a ring
    of three (cyclopropylidene). Dioxygen, disulphur and SO are triplets, drawn as double bonds. A bare main-group atom
    or ion follows Hund's rule (C has two, N three). Where the radical electrons do not fit the parity of the electron
    count, as with metals, whose spin no graph tells: as few as parity allows.
    """
    numbers = [atom.GetAtomicNum() for atom in graph.GetAtoms()]
    hydrogens = sum(atom.GetTotalNumHs() for atom in graph.GetAtoms())
    electrons = sum(numbers) + hydrogens - graph_charge(graph)
    if len(numbers) == 1 and hydrogens == 0:
        unpaired = _atom_unpaired(numbers[0], graph_charge(graph))
    else:
        unpaired = sum(_atom_share(atom) for atom in graph.GetAtoms())
        if Chem.MolToSmiles(graph, isomericSmiles=False) in TRIPLETS:
            unpaired = 2
    return unpaired if (electrons - unpaired) % 2 == 0 else electrons % 2


def graph_composition(graph: Chem.Mol) -> IntArray:
    """Atomic numbers of all atoms, hydrogens too, ascending."""
    numbers = [atom.GetAtomicNum() for atom in graph.GetAtoms()]
    hydrogens = sum(atom.GetTotalNumHs() for atom in graph.GetAtoms())
    return np.array(sorted(numbers + [1] * hydrogens), dtype=np.int64)


def graph_group(graph: Chem.Mol) -> str:
    """Connectivity block of the InChIKey (14 letters): one for all stereoisomers, isotopomers and conformers.

    Where InChI fails: 14 hexadecimal digits of a hash of the SMILES without stereo.
    """
    with rdBase.BlockLogs():
        key = str(rdinchi.MolToInchiKey(graph))
        return key[:14] if key else _hash_block(Chem.MolToSmiles(graph, isomericSmiles=False))


def smiles_group(smiles: str) -> str:
    """`graph_group` of a SMILES that was read before."""
    return graph_group(read_graph(smiles))


def find_scaffold(smiles: str) -> str:
    """SMILES of the rings and what links them, without stereo (Bemis and Murcko 1996); "" where there is no ring."""
    if not smiles:
        return ""
    graph = read_graph(smiles)
    Chem.RemoveStereochemistry(graph)
    return str(Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(graph)))  # type: ignore[no-untyped-call]


def geometry_group(numbers: IntArray, positions: FloatArray, charge: int) -> str:
    """The group of a geometry (bohr) that came without a graph: that of the graph found from its distances.

    Where no bond orders fit: a hash of the bare connectivity.
    """
    graph = _connect(numbers, positions)
    with rdBase.BlockLogs():
        try:
            rdDetermineBonds.DetermineBondOrders(
                graph, charge=charge, embedChiral=False, maxIterations=_BOND_ORDER_TRIALS
            )
            Chem.SanitizeMol(graph)
        except (ValueError, RuntimeError):  # RDKit: no bond orders make a molecule of this charge
            return _hash_block(Chem.MolToSmiles(_connect(numbers, positions), isomericSmiles=False))
        return graph_group(Chem.RemoveHs(graph))


def first_error(log: str) -> str:
    """The first line of RDKit's error log, without its time stamp."""
    lines = log.strip().splitlines()
    return re.sub(r"^\[[\d:]+\] ", "", lines[0]) if lines else "RDKit gives no reason"


def _check_definite(graph: Chem.Mol, text: str) -> None:
    """A definite molecule has atoms, none of them a dummy, and no query feature."""
    if graph.GetNumAtoms() == 0:
        raise InvalidInput(f"{_shorten(text)!r} holds no atoms")
    if any(atom.GetAtomicNum() == 0 for atom in graph.GetAtoms()):
        raise InvalidInput(f"{_shorten(text)!r} holds a dummy atom (*): put a real substituent in its place")
    if any(atom.HasQuery() for atom in graph.GetAtoms()) or any(bond.HasQuery() for bond in graph.GetBonds()):
        raise InvalidInput(f"{_shorten(text)!r} is a pattern that many molecules match: write one molecule")


def _atom_share(atom: Chem.Atom) -> int:
    """The unpaired electrons of one atom in a molecule."""
    radical, number = int(atom.GetNumRadicalElectrons()), atom.GetAtomicNum()
    outer = Chem.GetPeriodicTable().GetNOuterElecs(number) - atom.GetFormalCharge()
    neighbours = {neighbour.GetAtomicNum() for neighbour in atom.GetNeighbors()}
    is_single = all(bond.GetBondType() == Chem.BondType.SINGLE for bond in atom.GetBonds())
    leaving = (HUND_OF_NITRENES if outer == 5 else {}).get(number) or HUND.get(number)
    can_be_parallel = leaving is not None and neighbours <= leaving and is_single and not atom.IsInRingSize(3)
    return 2 if radical == 2 and outer >= 4 and can_be_parallel else radical % 2


def _atom_unpaired(number: int, charge: int) -> int:
    """Hund's rule for s and p shells; 0 or 1 by parity for the other elements."""
    table = Chem.GetPeriodicTable()
    valence = table.GetNOuterElecs(number) - charge
    is_main_group = number <= 20 or number in (*range(31, 39), *range(49, 57), *range(81, 89))
    if not is_main_group or not 0 <= valence <= 8:
        return (number - charge) % 2
    if valence <= 2:
        return valence % 2
    return 3 - abs(5 - valence)


def _connect(numbers: IntArray, positions: FloatArray) -> Chem.Mol:
    graph = Chem.RWMol()
    shape = Chem.Conformer(len(numbers))
    for index, (number, position) in enumerate(zip(numbers, positions, strict=True)):
        atom = Chem.Atom(int(number))
        atom.SetNoImplicit(True)
        graph.AddAtom(atom)
        shape.SetAtomPosition(index, (position * ANGSTROM_PER_BOHR).tolist())
    graph.AddConformer(shape)
    with rdBase.BlockLogs():
        rdDetermineBonds.DetermineConnectivity(graph, useVdw=True, covFactor=_BOND_STRETCH)
    return graph


def _hash_block(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:14]


def _shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
