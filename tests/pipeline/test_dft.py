"""DFT densities: electrons, energies, spins and basis functions agree with PySCF's own and with published numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
from pyscf import dft, gto, lib
from scipy.special import sph_harm_y

from pipeline.engines.dft import DftEngine
from pipeline.engines.pyscf_molecule import shells_of
from pipeline.failures import InvalidInput, NotConverged, UnsupportedElement
from storage.schema import Conformer, ElectronicState, FloatArray, Shell

ALL_ELECTRON = {"basis_set": "def2-svp", "pseudopotential": "none"}
QUICK = DftEngine(basis_set="gth-dzvp")


def conformer(numbers: list[int], positions: object, charge: int = 0, unpaired: int = 0) -> Conformer:
    xyz = np.asarray(positions, dtype=np.float64)
    return Conformer("sample#0", np.array(numbers), xyz, charge, unpaired, smiles="", group="")


ANGLE = math.radians(104.5)
BOND = 0.96 / 0.529177210903
WATER_XYZ = [[0, 0, 0], [BOND, 0, 0], [BOND * math.cos(ANGLE), BOND * math.sin(ANGLE), 0]]
WATER = conformer([8, 1, 1], WATER_XYZ)


def stock_mol(sample: Conformer, basis: str, pseudopotential: str | None = None) -> gto.Mole:
    atoms = list(zip(sample.numbers.tolist(), sample.positions.tolist(), strict=True))
    return gto.M(
        atom=atoms, unit="B", basis=basis, pseudo=pseudopotential, charge=sample.charge, spin=sample.unpaired, verbose=0
    )


def density_matrix(state: ElectronicState) -> FloatArray:
    return (state.orbitals.T * state.occupations) @ state.orbitals


def nmae(mol: gto.Mole, ours: FloatArray, theirs: FloatArray, spacing: float = 0.3) -> float:
    """∫|ρ − ρ'| over the electrons, by points."""
    corners = mol.atom_coords().min(axis=0) - 6, mol.atom_coords().max(axis=0) + 6
    axes = [np.arange(low, high, spacing) for low, high in zip(*corners, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    difference = dft.numint.eval_rho(mol, mol.eval_gto("GTOval", points), ours - theirs)
    return float(np.abs(difference).sum() * spacing**3 / mol.nelectron)


def test_fock_energy_is_the_published_one() -> None:
    state = DftEngine("HF", "cc-pvdz", "none").solve(WATER)
    assert state.energy == pytest.approx(
        -76.02663273, abs=5e-5
    )  # Psi4 manual, its first example; its fitting set differs


@pytest.mark.parametrize(
    ("engine", "tolerance"),
    [
        (DftEngine(basis_set="gth-dzvp"), 5e-4),  # fitting and the coarse quadrature
        (DftEngine("B3LYP", **ALL_ELECTRON), 5e-4),
        (DftEngine("r2scan", **ALL_ELECTRON), 2e-3),
        (DftEngine("HF", **ALL_ELECTRON, density_fitting=False), 1e-8),
        (DftEngine("PBE", **ALL_ELECTRON, density_fitting=False, quadrature_level=3), 1e-7),
    ],
    ids=["PBE/GTH", "B3LYP", "r2SCAN", "HF unfitted", "PBE unfitted"],
)
def test_state_agrees_with_the_defaults_of_pyscf(engine: DftEngine, tolerance: float) -> None:
    state = engine.solve(WATER)
    mol = stock_mol(WATER, engine.basis_set, None if engine.pseudopotential == "none" else engine.pseudopotential)
    reference = dft.RKS(mol, xc=engine.functional).run()
    assert state.energy == pytest.approx(reference.e_tot, abs=tolerance)
    assert state.homo == pytest.approx(reference.mo_energy[reference.mo_occ > 0].max(), abs=1e-3)
    assert state.lumo == pytest.approx(reference.mo_energy[reference.mo_occ == 0].min(), abs=1e-3)
    assert state.dipole == pytest.approx(reference.dip_moment(unit="AU", verbose=0), abs=1e-3)
    assert nmae(mol, density_matrix(state), reference.make_rdm1()) < 2e-4


def test_methanol_density_stays_within_a_ten_thousandth_of_the_defaults() -> None:
    xyz = [
        [-0.05, 0.66, 0],
        [-0.05, -0.76, 0],
        [-1.09, 0.98, 0],
        [0.44, 1.07, 0.89],
        [0.44, 1.07, -0.89],
        [0.86, -1.06, 0],
    ]
    methanol = conformer([6, 8, 1, 1, 1, 1], np.array(xyz) / 0.529177210903)
    mol = stock_mol(methanol, "gth-dzvp", "gth-pbe")
    reference = dft.RKS(mol, xc="PBE").run()
    assert nmae(mol, density_matrix(QUICK.solve(methanol)), reference.make_rdm1()) < 1e-4


@pytest.mark.parametrize(("charge", "unpaired"), [(0, 0), (1, 1), (0, 2)])
def test_orbitals_are_orthonormal_and_hold_every_electron(charge: int, unpaired: int) -> None:
    sample = conformer([8, 1, 1], WATER_XYZ, charge, unpaired)
    state = QUICK.solve(sample)
    overlap = stock_mol(sample, "gth-dzvp", "gth-pbe").intor("int1e_ovlp")
    assert np.sum(density_matrix(state) * overlap) == pytest.approx(8 - charge, abs=1e-10)
    assert state.electrons == 8 - charge
    assert len(state.orbitals) == QUICK.orbital_limit(sample)
    alpha = state.alpha_orbitals or len(state.orbitals)
    for spin in (state.orbitals[:alpha], state.orbitals[alpha:]):
        assert spin @ overlap @ spin.T == pytest.approx(np.eye(len(spin)), abs=1e-10)


def test_dipole_of_an_ion_is_about_the_coordinate_origin() -> None:
    shift = np.array([2.0, 0.0, -1.0])
    here = QUICK.solve(conformer([8, 1, 1], WATER_XYZ, charge=1, unpaired=1))
    there = QUICK.solve(conformer([8, 1, 1], WATER_XYZ + shift, charge=1, unpaired=1))
    assert np.subtract(there.dipole, here.dipole) == pytest.approx(shift, abs=1e-3)


@pytest.mark.parametrize("basis", ["def2-tzvp", "cc-pvqz", "gth-tzv2p"])
@pytest.mark.parametrize("cartesian", [False, True])
def test_shells_are_the_functions_pyscf_evaluates(basis: str, cartesian: bool) -> None:
    atom = gto.M(atom="O", basis=basis, cart=cartesian, verbose=0)
    points = np.random.default_rng(0).normal(size=(40, 3))
    ours = np.concatenate([evaluate(shell, points) for shell in shells_of(atom)])
    assert ours == pytest.approx(atom.eval_gto("GTOval", points).T, abs=1e-12)


def test_functions_of_a_molecule_run_over_atoms_then_shells() -> None:
    points = np.random.default_rng(1).normal(size=(40, 3))
    state = DftEngine("HF", "cc-pvqz", "none").solve(WATER)
    ours = [
        evaluate(shell, points - centre)
        for number, centre in zip(WATER.numbers, WATER.positions, strict=True)
        for shell in state.basis.shells[int(number)]
    ]
    assert np.concatenate(ours) == pytest.approx(stock_mol(WATER, "cc-pvqz").eval_gto("GTOval", points).T, abs=1e-12)


def evaluate(shell: Shell, points: FloatArray) -> FloatArray:
    """By the schema's formula, with SciPy's harmonics; shape (functions, points)."""
    degree, (x, y, z) = shell.angular_momentum, points.T
    radius = np.linalg.norm(points, axis=1)
    radial = np.exp(-np.outer(radius**2, shell.exponents)) @ shell.coefficients
    if shell.cartesian:
        powers = [(i, j, degree - i - j) for i in range(degree, -1, -1) for j in range(degree - i, -1, -1)]
        return np.array([radial * x**i * y**j * z**k for i, j, k in powers])
    orders = (1, -1, 0) if degree == 1 else range(-degree, degree + 1)
    return np.array([radial * radius**degree * real_harmonic(degree, m, z / radius, np.arctan2(y, x)) for m in orders])


def real_harmonic(degree: int, order: int, cosine: FloatArray, azimuth: FloatArray) -> FloatArray:
    complex_harmonic = sph_harm_y(degree, abs(order), np.arccos(cosine), azimuth)
    if order == 0:
        return np.asarray(complex_harmonic.real)
    part = complex_harmonic.real if order > 0 else complex_harmonic.imag
    return np.asarray((-1) ** order * math.sqrt(2) * part)


@pytest.mark.parametrize(
    ("numbers", "distance", "unpaired", "exact"),
    [
        ([8, 1], 1.83, 1, 0.75),
        ([7, 8], 2.17, 1, 0.75),
        ([6, 7], 2.21, 1, 0.75),
        ([8, 8], 2.29, 2, 2.0),
        ([1], 0.0, 1, 0.75),
    ],
    ids=["OH", "NO", "CN", "O2", "H"],
)
def test_radicals_have_nearly_their_exact_spin(
    numbers: list[int], distance: float, unpaired: int, exact: float
) -> None:
    positions = [[0, 0, distance * index] for index in range(len(numbers))]
    state = QUICK.solve(conformer(numbers, positions, unpaired=unpaired))
    assert state.spin_square == pytest.approx(exact, abs=0.02)
    assert state.spin_contamination == pytest.approx(state.spin_square - exact, abs=1e-12)
    assert 2 * state.alpha_orbitals - len(state.orbitals) == unpaired
    assert (state.occupations == 1).all()


def test_closed_shells_are_restricted() -> None:
    state = QUICK.solve(WATER)
    assert state.alpha_orbitals == 0
    assert (state.occupations == 2).all()
    assert math.isnan(state.spin_square)


@pytest.mark.parametrize(("charge", "unpaired"), [(1, 0), (0, 1), (8, 0), (9, 1), (0, 10), (0, -2)])
def test_impossible_electron_counts_are_refused(charge: int, unpaired: int) -> None:
    with pytest.raises(
        InvalidInput, match=rf"{8 - charge} electrons \(charge {charge}\) cannot have {unpaired} unpaired"
    ):
        QUICK.solve(conformer([8, 1, 1], WATER_XYZ, charge, unpaired))


@pytest.mark.parametrize("positions", [[[0, 0, 0], [0, 0, 0.01]], [[0, 0, 0], [0, 0, math.nan]]])
def test_impossible_geometries_are_refused(positions: list[list[float]]) -> None:
    with pytest.raises(InvalidInput, match="sample#0"):
        QUICK.solve(conformer([1, 1], positions))


@pytest.mark.parametrize(
    ("engine", "number", "named"),
    [
        (QUICK, 79, "Au: PySCF's gth-dzvp"),
        (QUICK, 19, "K: PySCF's gth-dzvp"),
        (QUICK, 0, "atomic number 0"),
        (QUICK, 119, "atomic number 119"),
        (DftEngine(**ALL_ELECTRON), 53, "I: basis def2-svp counts on an effective core potential"),
        (DftEngine(**ALL_ELECTRON), 92, "U: PySCF's def2-svp"),
    ],
)
def test_unsupported_elements_are_named(engine: DftEngine, number: int, named: str) -> None:
    with pytest.raises(UnsupportedElement, match=named):
        engine.basis(np.array([1, number]))
    with pytest.raises(UnsupportedElement, match=named):
        engine.solve(conformer([number], [[0, 0, 0]]))


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        *(({"basis_set": basis, "pseudopotential": "none"}, "gth-pbe") for basis in ("gth-dzvp", "DZVP-MOLOPT-GTH")),
        *(({"basis_set": basis}, "use a gth one") for basis in ("ccECP-cc-pVDZ", "bfd-vdz")),
        ({"functional": "PBEX"}, "PBEX"),
    ],
)
def test_meaningless_methods_are_refused_before_any_molecule(settings: dict[str, str], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        DftEngine(**settings)  # type: ignore[arg-type]


def test_core_electrons_are_those_of_the_pseudopotential() -> None:
    assert [QUICK.core_electrons(number) for number in (1, 6, 9, 17)] == [0, 2, 2, 10]
    assert DftEngine(**ALL_ELECTRON).core_electrons(17) == 0


def test_unconverged_densities_are_never_returned() -> None:
    with pytest.raises(
        NotConverged, match=r"sample#0: DIIS, .*second order.* hartree after \d+ cycles .*check its geometry"
    ):
        DftEngine(basis_set="gth-dzvp", max_cycles=1).solve(WATER)


def test_later_attempts_reach_the_same_state() -> None:
    hasty = DftEngine("PBE", **ALL_ELECTRON, max_cycles=5).solve(WATER)  # too few for the first attempt
    patient = DftEngine("PBE", **ALL_ELECTRON).solve(WATER)
    assert hasty.energy == pytest.approx(patient.energy, abs=1e-7)
    assert (hasty.homo, hasty.lumo) == pytest.approx((patient.homo, patient.lumo), abs=1e-4)
    assert (hasty.rung > 0, patient.rung) == (True, 0)


def lowest_energy(field: dft.rks.KohnShamDFT) -> float:
    """By PySCF's own solver and its own analysis of stability."""
    field.grids.level = 1
    field = field.newton().run()
    for _ in range(5):
        orbitals, _, is_stable, _ = field.stability(return_status=True)
        if is_stable:
            break
        field.kernel(orbitals, field.mo_occ)
    return float(field.e_tot)


def test_a_radical_is_brought_down_from_a_saddle_point() -> None:
    """CH: DIIS converges 0.9 millihartree above the minimum, where PySCF's analysis finds it unstable."""
    methylidyne = conformer([6, 1], [[0, 0, 0], [0, 0, 2.12]], unpaired=1)
    state = QUICK.solve(methylidyne)
    plain = dft.UKS(stock_mol(methylidyne, "gth-dzvp", "gth-pbe"), xc="PBE").run()
    assert state.energy < plain.e_tot - 8e-4
    assert state.energy == pytest.approx(lowest_energy(plain), abs=1e-4)
    assert state.rung == 0
    assert state.spin_contamination > 0.15  # its minimum holds a share of the quartet


def test_a_stretched_bond_needs_the_second_order_and_ends_in_its_minimum() -> None:
    """F₂ at 2.5 Å: DIIS fails, and second order alone stops at a saddle point 31 millihartree above."""
    fluorine = conformer([9, 9], [[0, 0, 0], [0, 0, 4.724]])
    state = QUICK.solve(fluorine)
    assert state.rung == 2
    expected = lowest_energy(dft.RKS(stock_mol(fluorine, "gth-dzvp", "gth-pbe"), xc="PBE"))
    assert state.energy == pytest.approx(expected, abs=1e-4)


def test_same_input_gives_the_same_bits_whatever_the_threads() -> None:
    with lib.with_omp_threads(2):
        first = QUICK.solve(WATER)
    second = QUICK.solve(WATER)
    assert (first.orbitals == second.orbitals).all()
    assert (first.energy, first.dipole) == (second.energy, second.dipole)


def test_nothing_is_printed_and_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lib.param, "TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotConverged):
        DftEngine(basis_set="gth-dzvp", max_cycles=1).solve(WATER)
    QUICK.solve(conformer([8, 1], WATER_XYZ[:2], unpaired=1))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_hydrogen_atom_has_half_a_hartree() -> None:
    state = DftEngine("HF", "cc-pvqz", "none").solve(conformer([1], [[0, 0, 0]], unpaired=1))
    assert state.energy == pytest.approx(-0.5, abs=1e-4)  # exact
