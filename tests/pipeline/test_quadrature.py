"""Our quadrature and Coulomb matrix are PySCF's, but for what their cutoffs leave out."""

import numpy as np
import pytest
from pyscf import df, dft, gto, lib, scf

from pipeline.engines.coulomb import CoulombFit
from pipeline.engines.quadrature import KeptQuadrature


@pytest.fixture(scope="module")
def mol() -> gto.Mole:
    return gto.M(atom="O; N 1 1.15; H 2 1.1 1 110", basis="gth-dzvp", pseudo="gth-pbe", verbose=0)


@pytest.fixture(scope="module")
def grids(mol: gto.Mole) -> dft.gen_grid.Grids:
    grids = dft.gen_grid.Grids(mol)
    grids.level = 0
    return grids.build(with_non0tab=True)


def density(mol: gto.Mole) -> lib.NPArrayWithTag:
    return scf.hf.init_guess_by_minao(mol)


@pytest.mark.parametrize("functional", ["LDA,VWN", "PBE", "B3LYP", "r2scan"])
@pytest.mark.parametrize("limit", [2**30, 2**16], ids=["kept", "computed again"])
def test_restricted_potential_is_that_of_pyscf(
    mol: gto.Mole, grids: dft.gen_grid.Grids, functional: str, limit: int
) -> None:
    quadrature = KeptQuadrature(limit)
    expected = dft.numint.NumInt().nr_rks(mol, grids, functional, density(mol))
    for _ in range(2):  # the second time from what was kept
        electrons, energy, potential = quadrature.nr_rks(mol, grids, functional, density(mol))
        assert electrons == pytest.approx(expected[0], abs=1e-8)
        assert energy == pytest.approx(expected[1], abs=1e-8)
        assert potential == pytest.approx(expected[2], abs=1e-8)


@pytest.mark.parametrize("functional", ["LDA,VWN", "PBE"])
def test_unrestricted_potential_is_that_of_pyscf(mol: gto.Mole, grids: dft.gen_grid.Grids, functional: str) -> None:
    guess = density(mol)
    occupations = np.array([guess.mo_occ * 0.6, guess.mo_occ * 0.4])
    orbitals = np.array([guess.mo_coeff, guess.mo_coeff])
    matrices = lib.tag_array(np.array([guess * 0.6, guess * 0.4]), mo_coeff=orbitals, mo_occ=occupations)
    expected = dft.numint.NumInt().nr_uks(mol, grids, functional, matrices)
    for ours, theirs in zip(KeptQuadrature().nr_uks(mol, grids, functional, matrices), expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-8)


@pytest.mark.parametrize("functional", ["LDA,VWN", "PBE", "r2scan"])
@pytest.mark.parametrize("spins", [1, 2])
def test_response_of_the_potential_is_that_of_pyscf(
    mol: gto.Mole, grids: dft.gen_grid.Grids, functional: str, spins: int
) -> None:
    guess = density(mol)
    change = np.random.default_rng(0).normal(size=(spins, mol.nao, mol.nao))
    change = np.squeeze(change + change.transpose(0, 2, 1))
    occupations = np.squeeze([guess.mo_occ] if spins == 1 else [guess.mo_occ * 0.6, guess.mo_occ * 0.4])
    orbitals = np.squeeze([guess.mo_coeff] * spins)

    def respond(quadrature: dft.numint.NumInt) -> object:
        kernel = quadrature.cache_xc_kernel(mol, grids, functional, orbitals, occupations, spin=spins - 1)
        function = quadrature.nr_rks_fxc if spins == 1 else quadrature.nr_uks_fxc
        return function(mol, grids, functional, None, change, 0, 1, *kernel)

    assert respond(KeptQuadrature()) == pytest.approx(respond(dft.numint.NumInt()), abs=1e-6)


def test_coulomb_matrix_is_that_of_pyscf(mol: gto.Mole) -> None:
    matrices = np.array([density(mol), 0.3 * density(mol)])
    ours, _ = CoulombFit(mol, "def2-universal-jfit").build().get_jk(matrices)
    theirs, _ = df.DF(mol, "def2-universal-jfit").build().get_jk(matrices, with_k=False)
    assert ours == pytest.approx(theirs, abs=1e-9)
