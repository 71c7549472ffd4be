"""Spherical atoms on grids: exact averages, every electron, the atoms that xTB starts from, the seam to orbitals."""

from dataclasses import replace

import gemmi
import numpy as np
import pytest

from pipeline.elements import NUMBERS
from pipeline.engines.cores import add_cores
from pipeline.engines.promolecule import PromoleculeEngine, atom_gaussians, read_atoms
from pipeline.engines.xtb import Electrons, XtbEngine, element_shells
from pipeline.failures import InvalidInput, UnsupportedElement
from pipeline.superposition import (
    Superposition,
    integrate_superposition,
    sample_gradient_length,
    sample_superposition,
)
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import place_grid, sample_density, sample_gradient_magnitude
from storage.schema import Basis, Conformer, ElectronicState, Grid, Sampling, Shell

FORMALDEHYDE = Conformer(
    id="a#0",
    numbers=np.array([6, 8, 1, 1]),
    positions=np.array([[0.0, 0, 0], [2.28, 0, 0], [-1.1, 1.77, 0], [-1.1, -1.77, 0]]),
    charge=0,
    unpaired=0,
    smiles="C=O",
    group="",
)
GRID = place_grid(FORMALDEHYDE.positions, 0.4, 7.0, (48, 64))


def gaussians(exponents: list[float], electrons: list[float]) -> Superposition:
    centres = np.random.default_rng(1).uniform(-1, 1, (len(exponents), 3))
    return Superposition(np.array(exponents), centres, np.array(electrons))


def as_state(whole: Superposition) -> ElectronicState:
    """One s orbital for each Gaussian: its square is the Gaussian. Its element stands for its exponent."""
    elements = np.arange(1, len(whole.exponents) + 1)
    norms = np.sqrt(4 * np.pi) * (whole.exponents / np.pi) ** 0.75
    shells = {
        int(number): (Shell(0, np.array([exponent / 2]), np.array([norm])),)
        for number, exponent, norm in zip(elements, whole.exponents, norms, strict=True)
    }
    return ElectronicState(elements, whole.centres, Basis(shells), np.eye(len(elements)), whole.electrons)


@pytest.mark.parametrize("sampling", ["cell", "point"])
def test_gaussians_have_the_values_and_gradients_of_the_orbitals_they_are_squares_of(sampling: Sampling) -> None:
    whole = gaussians([0.4, 1.5, 9.0], [1.3, 2.0, 0.5])
    grid = Grid((20, 17, 33), (0.3, 0.35, 0.25), (-3, -2.9, -4))
    state = as_state(whole)
    assert sample_superposition(whole, grid, sampling) == pytest.approx(sample_density(state, grid, sampling), abs=1e-7)
    length = sample_gradient_magnitude(state, grid, sampling)
    assert sample_gradient_length(whole, grid, sampling) == pytest.approx(length, abs=1e-6)


def test_cells_hold_the_electrons_inside_the_box_wherever_it_lies() -> None:
    whole = gaussians([0.4, 1.5, 9.0, 2000.0], [1.3, -0.4, 0.5, 1.0])
    for origin in (-3.0, 0.0, 0.9, 40.0):
        grid = Grid((12, 20, 40), (0.3, 0.2, 0.1), (origin, -2, -2))
        summed = sample_superposition(whole, grid, "cell").sum() * grid.cell_volume
        assert summed == pytest.approx(integrate_superposition(whole, grid), abs=1e-9)


def test_a_coarser_grid_is_the_mean_of_the_finer_one() -> None:
    whole = PromoleculeEngine("all").superpose(FORMALDEHYDE)
    fine = Grid((32, 32, 32), (0.4,) * 3, (-6.2, -6.2, -6.2))
    coarse = Grid((16, 16, 16), (0.8,) * 3, (-6.0, -6.0, -6.0))
    mean = sample_superposition(whole, fine, "cell").reshape(16, 2, 16, 2, 16, 2).mean(axis=(1, 3, 5))
    assert mean == pytest.approx(sample_superposition(whole, coarse, "cell"), abs=1e-9)


@pytest.mark.parametrize("electrons", ["valence", "all"])
def test_every_atom_holds_its_electrons(electrons: Electrons) -> None:
    engine = PromoleculeEngine(electrons)
    for number in read_atoms():
        if electrons == "valence" or number <= 54:
            _, counts = atom_gaussians(number, electrons)
            assert counts.sum() == pytest.approx(number - engine.core_electrons(number), abs=1e-12)


def reference_atoms(conformer: Conformer, electrons: Electrons) -> ElectronicState:
    """The superposition of GFN2's reference atoms, as orbitals."""
    basis = XtbEngine("gfn2", electrons=electrons).basis(conformer.numbers)
    filled = [
        slater.occupation / (2 * slater.degree + 1)
        for number in conformer.numbers.tolist()
        for slater in element_shells("gfn2")[number]
        for _ in range(2 * slater.degree + 1)
    ]
    orbitals, occupations = np.eye(len(filled)), np.array(filled)
    if electrons == "all":
        orbitals = add_cores(orbitals, conformer.numbers, basis)
        occupations = np.concatenate([np.full(len(orbitals) - len(filled), 2.0), occupations])
    return ElectronicState(conformer.numbers, conformer.positions, basis, orbitals, occupations)


@pytest.mark.parametrize("electrons", ["valence", "all"])
def test_the_atoms_are_those_that_gfn2_starts_from(electrons: Electrons) -> None:
    """As their orbitals have them, but for the part of the electrons that the fits misplace."""
    expected = sample_density(reference_atoms(FORMALDEHYDE, electrons), GRID, "cell")
    found = sample_superposition(PromoleculeEngine(electrons).superpose(FORMALDEHYDE), GRID, "cell")
    assert np.abs(found - expected).sum() / expected.sum() < 1.2e-3
    assert found.min() > -1e-9


def test_no_fit_misplaces_more_than_the_table_may() -> None:
    parts = [part for entry in read_atoms().values() for part in entry.values()]
    assert len(parts) > 130
    assert max(float(part["misplaced"]) for part in parts) < 1.2e-3  # type: ignore[arg-type]


@pytest.mark.parametrize("symbol", ["C", "N", "O", "S", "Zn", "Br"])
def test_all_electron_atoms_scatter_x_rays_as_the_international_tables_say(symbol: str) -> None:
    """To 10 % of Z: those are free atoms, GFN2's carbon and nitrogen are the more compact ones of molecules."""
    exponents, electrons = atom_gaussians(NUMBERS[symbol], "all")
    for s in (0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2):  # sin θ/λ, 1/Å
        q = 4 * np.pi * s / BOHR_PER_ANGSTROM
        expected = gemmi.Element(symbol).it92.calculate_sf(stol2=s**2)
        assert electrons @ np.exp(-(q**2) / (4 * exponents)) == pytest.approx(expected, abs=0.1 * NUMBERS[symbol])


def formate(charge: int = -1) -> Conformer:
    """With a water for a pocket."""
    ligand = np.array([[0.0, 0, 0], [1.4, 1.9, 0], [1.4, -1.9, 0], [-2.1, 0, 0]])
    water = np.array([[9.0, 0, 0], [9.8, 1.5, 0], [9.8, -1.5, 0]])
    return Conformer("f#0", np.array([6, 8, 8, 1, 8, 1, 1]), np.vstack([ligand, water]), charge, 0, "O=C[O-]", "", 4)


def test_a_ligand_with_orbitals_has_its_own_charge_and_the_rest_are_spheres() -> None:
    whole = PromoleculeEngine(xtb_atoms=4).superpose(formate())
    assert (whole.orbital_atoms, whole.charge) == (4, -1)
    assert whole.count == pytest.approx(18 + 8, abs=1e-9)
    assert set(map(tuple, whole.centres.tolist())) == set(map(tuple, formate().positions[4:].tolist()))


@pytest.mark.parametrize("xtb_atoms", [0, 4])
def test_the_ligands_part_leaves_the_pocket_out(xtb_atoms: int) -> None:
    engine = PromoleculeEngine(xtb_atoms=xtb_atoms, part="ligand")
    ligand = replace(formate(), numbers=formate().numbers[:4], positions=formate().positions[:4])
    grid = place_grid(ligand.positions, 0.5, 3.0, (32,))
    alone = sample_superposition(PromoleculeEngine(xtb_atoms=xtb_atoms).superpose(ligand), grid, "cell")
    assert sample_superposition(engine.superpose(formate()), grid, "cell") == pytest.approx(alone, abs=1e-12)
    assert engine.select(formate()).tolist() == [6, 8, 8, 1]
    with pytest.raises(InvalidInput, match="there is no ligand"):
        engine.superpose(replace(formate(), ligand_atoms=0))


def test_at_the_ligand_the_density_is_xtbs_and_at_the_pocket_the_spheres() -> None:
    complex_, ligand = formate(), replace(formate(), numbers=formate().numbers[:4], positions=formate().positions[:4])
    water = replace(formate(), numbers=formate().numbers[4:], positions=formate().positions[4:], ligand_atoms=0)
    grid = place_grid(complex_.positions, 0.5, 5.0, (48, 64))
    parts = [
        sample_density(XtbEngine("gfn2").solve(ligand), grid, "cell"),
        sample_superposition(PromoleculeEngine().superpose(water), grid, "cell"),
    ]
    found = sample_superposition(PromoleculeEngine(xtb_atoms=4).superpose(complex_), grid, "cell")
    assert found == pytest.approx(sum(parts), abs=1e-8)


def test_a_ligand_beyond_the_limit_is_of_spheres_too() -> None:
    for limit in (0, 3):
        whole = PromoleculeEngine(xtb_atoms=limit).superpose(formate())
        assert (whole.state, whole.charge) == (None, 0)
        assert whole.count == pytest.approx(17 + 8)


def test_elements_that_no_atom_is_known_of_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedElement, match="Au"):
        PromoleculeEngine("all").core_electrons(79)
    assert PromoleculeEngine("valence").core_electrons(79) == 68
    with pytest.raises(UnsupportedElement, match="Fr"):
        PromoleculeEngine("valence").core_electrons(87)
