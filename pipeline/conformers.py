"""Molecules become conformers: an embedded and relaxed geometry, or the one they came with."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from pipeline.elements import SYMBOLS
from pipeline.failures import Clash, EmbeddingFailed, EmptyPocket, InvalidInput, NotConverged, TimedOut
from pipeline.molecule import (
    canonical_smiles,
    geometry_group,
    graph_charge,
    graph_composition,
    graph_group,
    graph_unpaired,
    read_graph,
)
from pipeline.units import ANGSTROM_PER_BOHR, BOHR_PER_ANGSTROM
from storage.schema import Conformer, FloatArray, IntArray, Molecule

Optimiser = Literal["none", "mmff", "gfn2"]
Gradient = Callable[[Conformer], tuple[float, FloatArray]]

CLOSEST_ANGSTROM = 0.3  # nuclei nearer than this are an error of the input (the shortest bond, H2, has 0.74 Å)
CLASH_ANGSTROM = 0.7  # between a ligand and a protein; force fields' poses have hydrogens 0.9 Å apart
HEAVY_CLASH_ANGSTROM = 1.2  # of atoms that are no hydrogens; covalent ligands keep 1.3 Å
EMBEDDING_SECONDS = 300  # per attempt; a limit for monsters, far beyond what any drug needs
FORCE_TOLERANCE = 3e-4  # hartree/bohr: largest component of the gradient after a GFN2 optimisation
STAND_IN_TOLERANCE = 3e-3  # the same where GFN2 stands in for a force field, whose geometries leave 0.02 to 0.05

# Covalent radii (Å) in double and triple bonds, Pyykkö and Atsumi, Chem. Eur. J. 15 (2009) 12770; 11 (2005) 3511.
_MULTIPLE_BOND_RADII = {
    "B": (0.78, 0.73), "C": (0.67, 0.60), "N": (0.60, 0.54), "O": (0.57, 0.53), "F": (0.59, 0.53), "Si": (1.07, 1.02),
    "P": (1.02, 0.94), "S": (0.94, 0.95), "Cl": (0.95, 0.93), "Se": (1.07, 1.07), "Br": (1.09, 1.10),
}  # fmt: skip
_LONGEST_MULTIPLE_BOND = 1.09  # times the sum of the radii; conjugation stretches by up to 1.06

_ATTEMPTS = 30  # trial geometries per way of embedding
_FORCE_FIELD_STEPS = 20_000
_GFN2_STEPS = 100  # per round
_GFN2_ROUNDS = 20
_REACH = 0.4  # bohr
_FIRST_STEP = 0.1  # bohr, over all atoms together: L-BFGS begins with a unit step


def conform(molecule: Molecule, *, keep: bool, count: int, optimise: Optimiser, seed: int) -> list[Conformer]:
    """The conformers of a molecule: with `keep` those it came with, else `count` made from its SMILES.

    A made geometry is a function of the canonical SMILES, the conformer's number, `optimise` and `seed` alone:
    spelling, order, worker and `count` do not matter. Stereocentres the SMILES leaves open are decided by the seed.
    Raises a MoleculeFailed.
    """
    graph = None if molecule.smiles is None else read_graph(molecule.smiles)
    if keep:
        return _keep(molecule, graph)
    if graph is None:
        raise InvalidInput("a geometry without a SMILES cannot be made anew: set [conformers] keep = true")
    if molecule.ligand_atoms:
        raise InvalidInput("a complex has the pose it came with: set [conformers] keep = true")
    smiles = canonical_smiles(graph)
    graph = read_graph(smiles)  # atoms in canonical order
    _check_one_fragment(graph, smiles)
    numbers = np.array([atom.GetAtomicNum() for atom in Chem.AddHs(graph).GetAtoms()], dtype=np.int64)
    template = _describe(molecule, graph, numbers, np.zeros((len(numbers), 3)))
    return [_make(graph, replace(template, id=f"{molecule.id}#{k}"), k, optimise, seed) for k in range(count)]


def _keep(molecule: Molecule, graph: Chem.Mol | None) -> list[Conformer]:
    if molecule.numbers is None or molecule.positions is None:
        raise InvalidInput("the row has no 3-D geometry to keep: set [conformers] keep = false to make one")
    if len(molecule.numbers) == 0:
        raise InvalidInput("the geometry holds no atoms")
    geometries = molecule.positions.reshape(-1, len(molecule.numbers), 3)
    for positions in geometries:
        _check_geometry(molecule.numbers, positions)
        _check_pocket(molecule.numbers, positions, molecule.ligand_atoms)
    drawn = molecule.numbers[: molecule.ligand_atoms or None]
    if graph is not None and not np.array_equal(np.sort(drawn), graph_composition(graph)):
        raise InvalidInput("the geometry and the SMILES are not of the same composition, hydrogens included")
    first = _describe(molecule, graph, molecule.numbers, geometries[0])
    return [replace(first, id=f"{molecule.id}#{k}", positions=one) for k, one in enumerate(geometries)]


def _check_pocket(numbers: IntArray, positions: FloatArray, ligand_atoms: int) -> None:
    """Raises EmptyPocket where a ligand stands alone, Clash where an atom of the pocket stands on one of its own."""
    if ligand_atoms and ligand_atoms == len(numbers):
        raise EmptyPocket(
            "no residue stands near the ligand: is it posed in this protein's frame? Else give a larger pocket_angstrom"
        )
    for least, lightest in ((CLASH_ANGSTROM, 1), (HEAVY_CLASH_ANGSTROM, 2)):
        ligand, pocket = np.split(np.where(numbers[:, None] >= lightest, positions, np.nan), [ligand_atoms])
        ligand, pocket = ligand[~np.isnan(ligand[:, 0])], pocket[~np.isnan(pocket[:, 0])]
        closest = cKDTree(ligand).query(pocket)[0].min(initial=np.inf) * ANGSTROM_PER_BOHR if len(ligand) else np.inf
        if closest < least:
            raise Clash(
                f"an atom of the protein is {closest:.2f} Å from one of the ligand, less than {least} Å: does the "
                "protein's file hold the ligand too, or another pose's side chain? Correct one of them"
            )


def _describe(molecule: Molecule, graph: Chem.Mol | None, numbers: IntArray, positions: FloatArray) -> Conformer:
    """The first conformer: charge and unpaired electrons as the row says, else the graph, else the least possible."""
    charge = molecule.charge if molecule.charge is not None else 0 if graph is None else graph_charge(graph)
    if graph is not None and graph_charge(graph) and charge != graph_charge(graph):
        raise InvalidInput(
            f"the row's charge is {charge}, its SMILES has {graph_charge(graph):+d}: correct one of them"
        )
    electrons = int(numbers.sum()) - charge
    unpaired = molecule.unpaired
    if unpaired is None:
        unpaired = electrons % 2
        if graph is not None and charge == graph_charge(graph) and not molecule.ligand_atoms:
            unpaired = graph_unpaired(graph)
    if electrons <= 0:
        raise InvalidInput(f"charge {charge} leaves {electrons} electrons: there is no density")
    if not 0 <= unpaired <= electrons or (electrons - unpaired) % 2:
        raise InvalidInput(
            f"{electrons} electrons (charge {charge}) cannot have {unpaired} unpaired: give their number"
        )
    return Conformer(
        id=f"{molecule.id}#0",
        numbers=numbers,
        positions=positions,
        charge=charge,
        unpaired=unpaired,
        smiles="" if graph is None else canonical_smiles(graph),
        group=molecule.group or (geometry_group(numbers, positions, charge) if graph is None else graph_group(graph)),
        ligand_atoms=molecule.ligand_atoms,
    )


def _make(graph: Chem.Mol, template: Conformer, number: int, optimise: Optimiser, seed: int) -> Conformer:
    """Embed and relax. Where no force field knows the elements, or the bonds as in CO2 and N2, GFN2 relaxes."""
    model = _embed(graph, template.smiles, number, seed)
    relaxed_by_force_field = optimise != "none" and len(template.numbers) > 1 and _relax(model)
    conformer = replace(template, positions=model.GetConformer().GetPositions() * BOHR_PER_ANGSTROM)
    _check_geometry(conformer.numbers, conformer.positions)
    if len(template.numbers) == 1 or optimise == "none" or (optimise == "mmff" and relaxed_by_force_field):
        return conformer
    from pipeline.engines.xtb import XtbEngine  # here, so that force-field geometries need no tblite

    tolerance = FORCE_TOLERANCE if optimise == "gfn2" else STAND_IN_TOLERANCE
    relaxed = optimise_geometry(conformer, XtbEngine(method="gfn2").gradient, tolerance)
    _check_hydrogens(model, relaxed)
    return relaxed


def _check_hydrogens(model: Chem.Mol, relaxed: Conformer) -> None:
    """Raises EmbeddingFailed where a hydrogen has left its heavy atom for another: it is another molecule then."""
    heavy = np.flatnonzero(relaxed.numbers > 1)
    for hydrogen in model.GetAtoms():
        bonded = [neighbour.GetIdx() for neighbour in hydrogen.GetNeighbors()]
        if hydrogen.GetAtomicNum() != 1 or len(bonded) != 1 or relaxed.numbers[bonded[0]] == 1:
            continue
        distances = np.linalg.norm(relaxed.positions[heavy] - relaxed.positions[hydrogen.GetIdx()], axis=1)
        reached = int(heavy[np.argmin(distances)])
        if reached != bonded[0]:
            names = [f"{SYMBOLS[int(relaxed.numbers[atom])]}{atom + 1}" for atom in (bonded[0], reached)]
            raise EmbeddingFailed(
                f"GFN2 moved a hydrogen from {names[0]} to {names[1]}: in the gas phase this is another molecule; "
                'write that one, or use optimise = "none", or give a geometry, with [conformers] keep = true'
            )


def _embed(graph: Chem.Mol, smiles: str, number: int, seed: int) -> Chem.Mol:
    """The graph with hydrogens and one ETKDGv3 geometry (Å); a lone atom sits at the origin."""
    model = Chem.AddHs(graph)
    if model.GetNumAtoms() == 1:
        model.AddConformer(Chem.Conformer(1))
        return model
    for parameters in _ways_of_embedding(_stable_seed(seed, smiles, number)):
        start = time.monotonic()
        with rdBase.BlockLogs():
            try:
                embedded = rdDistGeom.EmbedMolecule(model, parameters) == 0
            except (ValueError, RuntimeError) as error:  # RDKit: bounds that no geometry can meet
                raise EmbeddingFailed(f"no 3-D geometry: {error}") from error
        if embedded:
            return model
        if time.monotonic() - start > EMBEDDING_SECONDS:
            raise TimedOut(f"no 3-D geometry within {EMBEDDING_SECONDS} s: give one, with [conformers] keep = true")
    raise EmbeddingFailed(
        f"no 3-D geometry in {3 * _ATTEMPTS} attempts; its stereo marks may contradict each other. "
        "Correct them, or give a geometry, with [conformers] keep = true"
    )


def _ways_of_embedding(seed: int) -> list[rdDistGeom.EmbedParameters]:
    """ETKDGv3; from random coordinates; from random coordinates with neither torsion knowledge nor tight bounds."""
    ways = []
    for random, relaxed in ((False, False), (True, False), (True, True)):
        settings = {
            "randomSeed": seed,
            "numThreads": 1,
            "maxIterations": _ATTEMPTS,
            "timeout": EMBEDDING_SECONDS,
            "useRandomCoords": random,
            "useExpTorsionAnglePrefs": not relaxed,
            "useBasicKnowledge": not relaxed,
            "ignoreSmoothingFailures": relaxed,
        }
        parameters = rdDistGeom.ETKDGv3()
        for name, value in settings.items():
            setattr(parameters, name, value)
        ways.append(parameters)
    return ways


def _stable_seed(seed: int, smiles: str, number: int) -> int:
    """31 bits that every machine and every Python makes alike."""
    digest = hashlib.sha256(f"{seed} {smiles} {number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _relax(model: Chem.Mol) -> bool:
    """Relax in place by MMFF94s, or UFF where MMFF94s lacks an atom type. False: neither made a sound structure."""
    with rdBase.BlockLogs():
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(model):
            status = rdForceFieldHelpers.MMFFOptimizeMolecule(model, "MMFF94s", _FORCE_FIELD_STEPS)
        elif rdForceFieldHelpers.UFFHasAllMoleculeParams(model):
            status = rdForceFieldHelpers.UFFOptimizeMolecule(model, _FORCE_FIELD_STEPS)
        else:
            return False
    if status != 0:
        raise NotConverged(f"the force field did not reach a minimum in {_FORCE_FIELD_STEPS} steps")
    return _are_bonds_sound(model)


def _are_bonds_sound(model: Chem.Mol) -> bool:
    """False where a multiple bond is too long: MMFF94 guesses those it has no parameter for as if they were single.

    A bond of a linear atom to another one, or to a terminal atom, counts as double (N2O, diynes).
    """
    positions = model.GetConformer().GetPositions()
    for bond in model.GetBonds():
        first, second = bond.GetBeginAtom(), bond.GetEndAtom()
        radii = _MULTIPLE_BOND_RADII.get(first.GetSymbol()), _MULTIPLE_BOND_RADII.get(second.GetSymbol())
        order = int(bond.GetBondTypeAsDouble())
        linear = [atom.GetHybridization() == Chem.HybridizationType.SP for atom in (first, second)]
        if order == 1 and any(linear) and (all(linear) or 1 in (first.GetDegree(), second.GetDegree())):
            order = 2
        if None in radii or order not in (2, 3) or bond.GetIsAromatic():
            continue
        length = np.linalg.norm(positions[first.GetIdx()] - positions[second.GetIdx()])
        if length > _LONGEST_MULTIPLE_BOND * sum(radius[order - 2] for radius in radii if radius is not None):
            return False
    return True


def optimise_geometry(conformer: Conformer, gradient: Gradient, tolerance: float) -> Conformer:
    """The nearest minimum: no component of the gradient above `tolerance`. Raises NotConverged.

    `gradient` gives the energy (hartree) and its derivatives, shape (atoms, 3), hartree/bohr.
    """
    for _ in range(_GFN2_ROUNDS):
        conformer, largest_force = _descend(conformer, gradient, tolerance)
        if largest_force <= tolerance:
            return conformer
    raise NotConverged(
        f"a force of {largest_force:.1e} hartree/bohr is left after {_GFN2_ROUNDS} rounds of GFN2 descent"
    )


def _descend(conformer: Conformer, gradient: Gradient, tolerance: float) -> tuple[Conformer, float]:
    """The lowest geometry with no coordinate farther than _REACH from here, and its largest force.

    Without that bound, a line search from a steep place (a proton about to move) puts atoms on top of each other.
    """
    start = conformer.positions

    def moved(steps: FloatArray) -> Conformer:
        return replace(conformer, positions=start + _FIRST_STEP * steps.reshape(start.shape))

    def energy_and_slope(steps: FloatArray) -> tuple[float, FloatArray]:
        energy, slope = gradient(moved(steps))
        return energy, _FIRST_STEP * slope.ravel()

    reach = _REACH / _FIRST_STEP
    found = minimize(
        energy_and_slope,
        np.zeros(start.size),
        method="L-BFGS-B",
        jac=True,
        bounds=[(-reach, reach)] * start.size,
        options={"gtol": tolerance * _FIRST_STEP, "ftol": 0.0, "maxiter": _GFN2_STEPS, "maxcor": 30},
    )
    return moved(found.x), float(np.abs(found.jac).max()) / _FIRST_STEP


def _check_one_fragment(graph: Chem.Mol, smiles: str) -> None:
    fragments = smiles.split(".")
    if len(Chem.GetMolFrags(graph)) > 1:
        raise InvalidInput(
            f"{len(fragments)} fragments ({', '.join(fragments)}), and a SMILES does not say where they stand: "
            "give each a row, or give a geometry, with [conformers] keep = true"
        )


def _check_geometry(numbers: IntArray, positions: FloatArray) -> None:
    """Raises InvalidInput for dummy atoms, coordinates that are no numbers, and nuclei on top of each other."""
    if (numbers < 1).any():
        raise InvalidInput("the geometry holds a dummy atom: put a real one in its place")
    if not np.isfinite(positions).all():
        raise InvalidInput("a coordinate is not a finite number")
    if len(numbers) == 1:
        return
    distances = cKDTree(positions).query(positions, k=2)[0][:, 1] * ANGSTROM_PER_BOHR
    if distances.min() < CLOSEST_ANGSTROM:
        raise InvalidInput(
            f"two atoms are {distances.min():.3f} Å apart, less than {CLOSEST_ANGSTROM} Å: are the coordinates in Å?"
        )
