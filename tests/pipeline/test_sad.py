"""Superposed atoms: every electron is there, spheres carry no dipole, and bonds are missing by the known amount."""

import math
from typing import Literal

import numpy as np
import pytest
from pyscf import dft, gto, scf

from pipeline.engines.dft import DftEngine
from pipeline.engines.periodic_box import PeriodicBox
from pipeline.engines.sad import SadEngine
from pipeline.failures import InvalidInput, UnsupportedElement
from pipeline.images import count_electrons
from storage.schema import Conformer, ElectronicState, FloatArray

CORNERS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
BOND = 2.054 / math.sqrt(3)  # bohr, per axis
METHANE_XYZ = np.vstack([np.zeros((1, 3)), BOND * CORNERS])
ENGINES = [
    SadEngine("minao", "gth-dzvp"),
    SadEngine("gth-szv", "gth-dzvp"),
    SadEngine("minao", "def2-svp", "none"),
]


def methane(charge: int = 0, unpaired: int = 0) -> Conformer:
    return Conformer("methane#0", np.array([6, 1, 1, 1, 1]), METHANE_XYZ, charge, unpaired, smiles="C", group="")


def stock_mol(engine: SadEngine | DftEngine) -> gto.Mole:
    pseudopotential = None if engine.pseudopotential == "none" else engine.pseudopotential
    atoms = list(zip(methane().numbers.tolist(), METHANE_XYZ.tolist(), strict=True))
    return gto.M(atom=atoms, unit="B", basis=engine.basis_set, pseudo=pseudopotential, verbose=0)


def density_matrix(state: ElectronicState) -> FloatArray:
    return (state.orbitals.T * state.occupations) @ state.orbitals


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("charge", [-2, 0, 1])
def test_every_electron_is_there(engine: SadEngine, charge: int) -> None:
    state = engine.solve(methane(charge, unpaired=charge % 2))
    overlap = stock_mol(engine).intor("int1e_ovlp")
    electrons = sum(6 - engine.core_electrons(6) if number == 6 else 1 for number in state.numbers) - charge
    assert state.electrons == pytest.approx(electrons, abs=1e-9)
    assert np.sum(density_matrix(state) * overlap) == pytest.approx(electrons, abs=1e-9)
    assert state.orbitals @ overlap @ state.orbitals.T == pytest.approx(np.eye(len(state.orbitals)), abs=1e-9)
    assert len(state.orbitals) <= engine.orbital_limit(methane())
    assert math.isnan(state.energy)


def test_minao_is_the_guess_of_pyscf() -> None:
    engine = ENGINES[0]
    mol = stock_mol(engine)
    guess = scf.hf.init_guess_by_minao(mol)
    guess = guess * 8 / np.sum(guess * mol.intor("int1e_ovlp"))
    assert density_matrix(engine.solve(methane())) == pytest.approx(guess, abs=1e-10)


def test_single_zeta_atoms_keep_to_their_own_functions() -> None:
    """The density is a sum of atoms: those of one element are alike, and nothing lies between atoms."""
    engine = SadEngine("gth-szv", "gth-tzv2p")
    matrix = density_matrix(engine.solve(methane()))
    atom = density_matrix(engine.solve(Conformer("H#0", np.array([1]), np.zeros((1, 3)), 0, 1, "", "")))
    spans = [slice(start, stop) for start, stop in stock_mol(engine).aoslice_by_atom()[:, 2:].tolist()]
    hydrogens = np.array([matrix[span, span] for span in spans[1:]])
    assert hydrogens == pytest.approx(np.array([atom * hydrogens[0, 0, 0] / atom[0, 0]] * 4), abs=1e-12)
    for span in spans:
        matrix[span, span] = 0
    assert np.abs(matrix).max() < 1e-12


@pytest.mark.parametrize("variant", ["minao", "gth-szv"])
def test_a_periodic_box_holds_every_electron(variant: Literal["minao", "gth-szv"]) -> None:
    engine = SadEngine(variant, "gth-dzvp", "gth-pbe", PeriodicBox(3.8, 0.157, 2))
    state = engine.solve(methane())
    assert state.cell is not None
    assert count_electrons(state) == pytest.approx(8, abs=1e-9)
    assert state.electrons == pytest.approx(8, abs=1e-9)
    assert np.isnan(state.dipole).all()


@pytest.mark.parametrize("engine", ENGINES[:2], ids=str)
def test_methane_lacks_its_bonds(engine: SadEngine) -> None:
    axis = np.arange(-8.0, 8.0, 0.35)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    mol = stock_mol(engine)
    converged = density_matrix(DftEngine(basis_set=engine.basis_set).solve(methane()))
    difference = density_matrix(engine.solve(methane())) - converged
    moved = np.abs(dft.numint.eval_rho(mol, mol.eval_gto("GTOval", points), difference)).sum() * 0.35**3
    assert 0.13 < moved / 8 < 0.19  # measured on small molecules: minao 13–16 %; published data, gth-szv: 17.5 %


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_lone_atoms_are_spheres(engine: SadEngine) -> None:
    atom = Conformer("O#0", np.array([8]), np.array([[0.5, -1.0, 2.0]]), 0, 2, smiles="", group="")
    state = engine.solve(atom)
    assert state.dipole == pytest.approx((0, 0, 0), abs=1e-8)
    mol = gto.M(
        atom=[(8, (0.5, -1.0, 2.0))],
        unit="B",
        basis=engine.basis_set,
        pseudo=None if engine.pseudopotential == "none" else engine.pseudopotential,
        verbose=0,
    )
    directions = np.array([[1, 0, 0], [0, 1, 0], [0, 0, -1], [0.6, 0.8, 0], [0.48, 0.6, 0.64]])
    values = dft.numint.eval_rho(mol, mol.eval_gto("GTOval", directions + atom.positions), density_matrix(state))
    assert values == pytest.approx(np.full(5, values[0]), rel=1e-8)


def test_dipole_is_that_of_the_density() -> None:
    state = ENGINES[0].solve(Conformer("OH#0", np.array([8, 1]), np.array([[0, 0, 0], [0, 0, 1.8]]), -1, 0, "", ""))
    mol = gto.M(atom="O 0 0 0; H 0 0 1.8", unit="B", basis="gth-dzvp", pseudo="gth-pbe", charge=-1, verbose=0)
    expected = scf.hf.dip_moment(mol, density_matrix(state), unit="AU", verbose=0)
    assert state.dipole == pytest.approx(expected, abs=1e-9)


def test_what_dft_refuses_is_refused() -> None:
    with pytest.raises(UnsupportedElement, match="Au"):
        ENGINES[0].basis(np.array([79]))
    with pytest.raises(UnsupportedElement, match="I: basis def2-svp"):
        ENGINES[2].basis(np.array([53]))
    with pytest.raises(InvalidInput, match="cannot have 1 unpaired"):
        ENGINES[0].solve(methane(unpaired=1))
    with pytest.raises(ValueError, match="minao"):
        SadEngine("gth-szv", "def2-svp", "none")
    with pytest.raises(ValueError, match="needs a pseudopotential"):
        SadEngine("minao", "def2-svp", "none", PeriodicBox(3.8, 0.157, 2))


def test_both_variants_count_the_same_electrons_for_every_element() -> None:
    for number in range(1, 19):
        atom = Conformer("atom#0", np.array([number]), np.zeros((1, 3)), 0, number % 2, "", "")
        counts = [engine.solve(atom).electrons for engine in ENGINES[:2]]
        assert counts == pytest.approx([number - ENGINES[0].core_electrons(number)] * 2, abs=1e-9)
