"""The door to periodic PySCF: conformers in boxes become its cells."""

import math

import numpy as np
from pyscf.pbc import gto

from pipeline.engines.periodic_box import PeriodicBox
from pipeline.engines.pyscf_molecule import ALL_ELECTRON, UNBOUNDED, build_mol
from pipeline.failures import InvalidInput
from storage.schema import Conformer, FloatArray


def check_periodic(pseudopotential: str) -> None:
    """Refuse what no mesh resolves."""
    if pseudopotential == ALL_ELECTRON:
        raise ValueError(
            'boundary "periodic" needs a pseudopotential (no mesh resolves a core): use "gth-pbe", or "open"'
        )


def build_cell(conformer: Conformer, basis: str, pseudopotential: str, box: PeriodicBox) -> gto.Cell:
    """The conformer in its box, once its elements, its distances and its electrons make sense."""
    mol = build_mol(conformer, basis, pseudopotential)
    if conformer.charge:
        raise InvalidInput(
            f"{conformer.id}: a charge ({conformer.charge}) repeated in every periodic box has no defined energy: "
            'use boundary = "open"'
        )
    edges = box.edges(conformer.positions)
    # The mean of the atoms is the centre of the box, as in the published data: where atoms lie between the points of
    # the mesh is worth 1e-5 hartree, and so does not depend on where the molecule is.
    inside = conformer.positions - conformer.positions.mean(axis=0) + np.array(edges) / 2
    symbols = [mol.atom_pure_symbol(atom) for atom in range(mol.natm)]
    atoms = list(zip(symbols, inside.tolist(), strict=True))
    cell = gto.Cell(atom=atoms, unit="Bohr", basis=basis, pseudo=pseudopotential, verbose=0, max_memory=UNBOUNDED)
    cell.a, cell.mesh = np.diag(edges), np.array(box.mesh(conformer.positions))
    cell.ke_cutoff = (math.pi / box.spacing) ** 2 / 2  # hartree, of the shortest wave on the mesh
    cell.spin = conformer.unpaired
    return cell.build(dump_input=False, parse_arg=False)


def periodic_overlap(cell: gto.Cell) -> FloatArray:
    """Overlaps summed over all images, shape (functions, functions)."""
    return np.asarray(cell.pbc_intor("int1e_ovlp", hermi=1)).real
