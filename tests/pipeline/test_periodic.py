"""Periodic DFT: published densities and energies, PySCF's plain plane-wave route, and the isolated molecule's limit."""

import math
from pathlib import Path

import numpy as np
import pytest
from pyscf import lib
from pyscf.pbc import dft, gto
from pyscf.soscf import newton_ah

from pipeline.elements import NUMBERS
from pipeline.engines.dft import DftEngine
from pipeline.engines.periodic import PeriodicDftEngine
from pipeline.engines.periodic_box import PeriodicBox
from pipeline.engines.pyscf_cell import build_cell
from pipeline.engines.sad import SadEngine
from pipeline.failures import InvalidInput, NotConverged, UnsupportedElement
from pipeline.images import count_electrons
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import sample_density
from storage.schema import Conformer, ElectronicState, FloatArray, Grid

PUBLISHED = PeriodicBox(2.0 * BOHR_PER_ANGSTROM, 0.0831215 * BOHR_PER_ANGSTROM, 2)
ENGINE = PeriodicDftEngine("PBE", "gth-dzvp", "gth-pbe", PUBLISHED)
QUICK = PeriodicDftEngine("PBE", "gth-szv", "gth-pbe", PeriodicBox(3.0, 0.19, 2))
WATER_XYZ = np.array([[0.0, 0.0, 0.0], [1.8, 0.0, 0.0], [-0.45, 1.75, 0.0]])
HYDROGEN_XYZ = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]])


def conformer(numbers: list[int], positions: FloatArray, charge: int = 0, unpaired: int = 0) -> Conformer:
    return Conformer("sample#0", np.array(numbers), positions, charge, unpaired, smiles="", group="")


WATER = conformer([8, 1, 1], WATER_XYZ)
HYDROGEN = conformer([1, 1], HYDROGEN_XYZ)
OXYGEN = conformer([8, 8], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.28]]), unpaired=2)


@pytest.fixture
def published(reference: Path) -> dict[str, FloatArray]:
    with np.load(reference / "density" / "sr_pair_ch4" / "ch4_pbe_gth_tzv2p.npz") as arrays:
        return dict(arrays)


def published_methane(published: dict[str, FloatArray]) -> Conformer:
    numbers = [NUMBERS[str(symbol)] for symbol in published["symbols"]]
    return conformer(numbers, published["xyz_ang"] * BOHR_PER_ANGSTROM)


def nmae(state: ElectronicState, values: FloatArray, cell: FloatArray) -> float:
    """∫|ρ − ρ'| over one box per electron; `values` at the points that divide its edges, from its corner on."""
    nx, ny, nz = values.shape
    x, y, z = (np.diag(cell) * BOHR_PER_ANGSTROM / values.shape).tolist()
    grid = Grid((nx, ny, nz), (x, y, z), (0.0, 0.0, 0.0))
    difference = sample_density(state, grid, "point") - values
    return float(np.abs(difference).sum() * grid.cell_volume / 8)


@pytest.mark.reference
def test_methane_has_the_published_box_density_and_energy(published: dict[str, FloatArray]) -> None:
    methane = published_methane(published)
    state = PeriodicDftEngine("PBE", "gth-tzv2p", "gth-pbe", PUBLISHED).solve(methane)
    assert PUBLISHED.mesh(methane.positions) == published["rho_dft"].shape
    assert state.cell == pytest.approx(np.diag(published["cell_ang"]) * BOHR_PER_ANGSTROM, rel=1e-6)
    assert state.energy == pytest.approx(float(published["energy_Ha"]), abs=2e-6)
    assert nmae(state, published["rho_dft"], published["cell_ang"]) < 1e-5
    assert count_electrons(state) == pytest.approx(8, abs=1e-10)


@pytest.mark.reference
def test_methane_has_the_published_guess(published: dict[str, FloatArray]) -> None:
    state = SadEngine("gth-szv", "gth-tzv2p", "gth-pbe", PUBLISHED).solve(published_methane(published))
    assert nmae(state, published["rho_sad"], published["cell_ang"]) < 1e-5
    assert count_electrons(state) == pytest.approx(8, abs=1e-10)


def test_hydrogen_agrees_with_a_single_mesh_at_the_same_points() -> None:
    """PySCF's FFTDF: every function on the whole mesh, where our engine sorts them over several."""
    state = QUICK.solve(HYDROGEN)
    cell = gto.M(
        atom=[(1, xyz) for xyz in HYDROGEN_XYZ], unit="B", basis="gth-szv", pseudo="gth-pbe", verbose=0,
        a=np.diag(QUICK.box.edges(HYDROGEN_XYZ)), mesh=QUICK.box.mesh(HYDROGEN_XYZ),
    )  # fmt: skip
    field = dft.RKS(cell, xc="PBE").run()
    assert state.energy == pytest.approx(field.e_tot, abs=1e-5)
    grid = Grid((5, 6, 7), (1.3, 1.1, 0.9), (-3.0, 0.5, -2.0))
    points = np.stack(np.meshgrid(*(grid.centres(axis) for axis in range(3)), indexing="ij"), axis=-1).reshape(-1, 3)
    expected = 2 * (cell.pbc_eval_gto("GTOval", points) @ field.mo_coeff[:, 0]) ** 2
    assert sample_density(state, grid, "point").reshape(-1) == pytest.approx(expected, abs=1e-6)


def test_a_roomy_box_gives_the_isolated_molecule() -> None:
    roomy = PeriodicDftEngine("PBE", "gth-dzvp", "gth-pbe", PeriodicBox(9.0, 0.19, 2)).solve(WATER)
    alone = DftEngine("PBE", "gth-dzvp", "gth-pbe").solve(WATER)
    assert roomy.energy == pytest.approx(alone.energy, abs=1e-3)
    assert roomy.lumo - roomy.homo == pytest.approx(alone.lumo - alone.homo, abs=2e-2)
    grid = Grid((30, 30, 30), (0.3, 0.3, 0.3), (-4.0, -3.5, -4.35))
    difference = sample_density(roomy, grid, "point") - sample_density(alone, grid, "point")
    assert np.abs(difference).sum() * grid.cell_volume / 8 < 2e-3


@pytest.mark.parametrize(
    ("sample", "electrons", "spin_square"),
    [
        (WATER, 8, math.nan),
        (conformer([8, 1], WATER_XYZ[:2], unpaired=1), 7, 0.75),
        (OXYGEN, 12, 2.0),
    ],
)
def test_every_electron_and_spin_is_there(sample: Conformer, electrons: int, spin_square: float) -> None:
    state = ENGINE.solve(sample)
    assert count_electrons(state) == pytest.approx(electrons, abs=1e-9)
    assert state.electrons == electrons
    assert len(state.orbitals) == ENGINE.orbital_limit(sample)
    assert 2 * state.alpha_orbitals - len(state.orbitals) * bool(sample.unpaired) == sample.unpaired
    assert state.spin_square == pytest.approx(spin_square, abs=0.02, nan_ok=True)
    assert state.homo < state.lumo
    assert np.isnan(state.dipole).all()


def test_the_place_of_a_molecule_does_not_matter() -> None:
    here, there = (QUICK.solve(conformer([8, 1, 1], WATER_XYZ + shift)) for shift in (0.0, [0.07, -3.0, 50.0]))
    assert there.energy == pytest.approx(here.energy, abs=1e-9)
    assert there.orbitals == pytest.approx(here.orbitals, abs=1e-6)


def test_same_input_gives_the_same_bits_whatever_the_threads() -> None:
    with lib.with_omp_threads(2):
        first = QUICK.solve(WATER)
    second = QUICK.solve(WATER)
    assert (first.orbitals == second.orbitals).all()
    assert first.energy == second.energy


@pytest.mark.parametrize("sample", [WATER, OXYGEN], ids=["restricted", "unrestricted"])
def test_later_attempts_reach_the_same_state(sample: Conformer) -> None:
    hasty = PeriodicDftEngine("PBE", "gth-szv", "gth-pbe", QUICK.box, max_cycles=4).solve(sample)
    patient = QUICK.solve(sample)
    assert hasty.energy == pytest.approx(patient.energy, abs=1e-7)
    assert (hasty.rung > 0, patient.rung) == (True, 0)


def test_curvatures_are_those_of_the_energy() -> None:
    """Of OH, along one rotation of all its orbitals: what stability is judged by, against differences of energies."""
    radical = conformer([8, 1], WATER_XYZ[:2], unpaired=1)
    field = QUICK.mean_field(build_cell(radical, "gth-szv", "gth-pbe", QUICK.box)).run()
    gradient, half_hessian, _ = newton_ah.gen_g_hop_uhf(field, field.mo_coeff, field.mo_occ)
    rotation = np.ones(len(gradient)) / math.sqrt(len(gradient))
    solver = field.newton()

    def energy(angle: float) -> float:
        turn = solver.update_rotate_matrix(angle * rotation, field.mo_occ)
        return float(field.energy_tot(field.make_rdm1(solver.rotate_mo(field.mo_coeff, turn), field.mo_occ)))

    numerical = (energy(0.02) - 2 * field.e_tot + energy(-0.02)) / 0.02**2
    assert 2 * rotation @ half_hessian(rotation) == pytest.approx(numerical, rel=1e-3)


def test_unconverged_densities_are_never_returned() -> None:
    with pytest.raises(
        NotConverged, match=r"sample#0: DIIS, .*second order.* hartree after \d+ cycles .*check its geometry"
    ):
        PeriodicDftEngine("PBE", "gth-dzvp", "gth-pbe", QUICK.box, max_cycles=1).solve(WATER)


def test_nothing_is_printed_and_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lib.param, "TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    QUICK.solve(HYDROGEN)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("multiple", [1, 2, 4, 6])
def test_the_box_is_the_smallest_of_its_kind(multiple: int) -> None:
    box = PeriodicBox(3.0, 0.19, multiple)
    mesh, edges = np.array(box.mesh(WATER_XYZ)), np.array(box.edges(WATER_XYZ))
    needed = np.ptp(WATER_XYZ, axis=0) + 6.0
    assert (mesh % multiple == 0).all()
    assert edges == pytest.approx(mesh * 0.19)
    assert (edges >= needed - 1e-9).all()
    assert (edges - multiple * 0.19 < needed).all()


@pytest.mark.parametrize(
    ("rule", "remedy"), [((0.5, 0.19, 2), "vacuum of 0.5 bohr .* at least 1"), ((3.0, 0.3, 2), "at most 0.2 .*0.106 Å")]
)
def test_boxes_that_give_nonsense_are_refused(rule: tuple[float, float, int], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        PeriodicBox(*rule)


@pytest.mark.parametrize(
    ("method", "remedy"),
    [
        (("B3LYP", "gth-dzvp", "gth-pbe"), 'not "B3LYP": use for example "PBE"'),
        (("r2scan", "gth-dzvp", "gth-pbe"), 'not "r2scan"'),
        (("HF", "gth-dzvp", "gth-pbe"), 'not "HF"'),
        (("PBEX", "gth-dzvp", "gth-pbe"), "PBEX"),
        (("PBE", "def2-svp", "none"), "pseudopotential"),
    ],
)
def test_methods_that_no_mesh_serves_are_refused_before_any_molecule(method: tuple[str, str, str], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        PeriodicDftEngine(*method, PUBLISHED)


def test_charges_elements_and_impossible_molecules_are_refused_by_name() -> None:
    for engine in (QUICK, SadEngine("gth-szv", box=QUICK.box)):
        with pytest.raises(InvalidInput, match=r'charge \(-1\) repeated in every periodic box .* "open"'):
            engine.solve(conformer([8, 1], WATER_XYZ[:2], charge=-1))
    with pytest.raises(InvalidInput, match="cannot have 1 unpaired"):
        QUICK.solve(conformer([8, 1, 1], WATER_XYZ, unpaired=1))
    with pytest.raises(UnsupportedElement, match="Au"):
        QUICK.solve(conformer([79], WATER_XYZ[:1]))
