import numpy as np
import pytest
from pyscf import gto
from scipy.integrate import quad

from pipeline.engines import fit_slater
from pipeline.engines.slater import SEPARATE, SHARED, expand_slater, normalise, orthogonalise, shell_overlap
from storage.schema import FloatArray, Shell


def radial(shell: Shell, r: float) -> float:
    return float(r**shell.angular_momentum * (shell.coefficients @ np.exp(-shell.exponents * r**2)))


CASES = [(key, shared) for shared, table in ((False, SEPARATE), (True, SHARED)) for key in table]


@pytest.mark.parametrize(("key", "shared"), CASES)
def test_an_expansion_is_normalised_and_close_to_its_slater_function(key: tuple[int, int, int], shared: bool) -> None:
    principal, degree, gaussians = key
    zeta = 1.7
    shell = expand_slater(principal, degree, zeta, gaussians, shared=shared)
    norm = np.sqrt((2 * zeta) ** (2 * principal + 1) / float(np.prod(np.arange(1.0, 2 * principal + 1))))

    def slater(r: float) -> float:
        return float(norm * r ** (principal - 1) * np.exp(-zeta * r))

    square, _ = quad(lambda r: (r * radial(shell, r)) ** 2, 0, 60, limit=200)
    overlap, _ = quad(lambda r: r * r * radial(shell, r) * slater(r), 0, 60, limit=200)
    assert square == pytest.approx(1, abs=3e-7)  # the shared 4s and 4p have seven digits
    assert overlap > 1 - 2e-4


def test_primitives_are_scaled_as_pyscf_normalises_them() -> None:
    shell = expand_slater(3, 2, 1.2, 3)
    norms = np.array([gto.gto_norm(2, exponent) for exponent in shell.exponents])
    np.testing.assert_allclose(shell.coefficients / norms, SEPARATE[3, 2, 3][1], rtol=1e-12)


def test_one_gaussian_for_1s_is_the_published_one() -> None:
    """R. F. Stewart, J. Chem. Phys. 52, 431 (1970), table I."""
    assert fit_slater.best_exponents(1, (0,), 1) == pytest.approx([0.2709498091], abs=1e-10)


@pytest.mark.parametrize("key", [(1, 0, 3), (2, 0, 4), (2, 1, 4), (3, 2, 3), (5, 0, 4)])
def test_the_table_is_what_the_derivation_gives(key: tuple[int, int, int]) -> None:
    principal, degree, gaussians = key
    exponents = fit_slater.best_exponents(principal, (degree,), gaussians, starts=10)
    derived = fit_slater.normalised(exponents, principal, degree)
    for found, stored in zip(derived, SEPARATE[key], strict=True):
        np.testing.assert_allclose(found, stored, rtol=5e-10)  # ten digits


def test_no_exponents_nearby_fit_better() -> None:
    exponents = np.log(SEPARATE[5, 1, 6][0])

    def error(log_exponents: FloatArray) -> float:
        return float(np.sum(fit_slater.residual(log_exponents, 5, 1) ** 2))

    rng = np.random.default_rng(0)
    assert all(error(exponents + rng.normal(scale=1e-3, size=6)) > error(exponents) for _ in range(50))


def test_orthogonalised_shell_is_normalised_and_orthogonal() -> None:
    first, second = (normalise(expand_slater(*shell)) for shell in ((1, 0, 1.2, 4), (2, 0, 2.0, 3)))
    assert abs(shell_overlap(first, second)) > 0.1
    rest = orthogonalise(second, first)
    assert shell_overlap(rest, first) == pytest.approx(0, abs=1e-14)
    assert shell_overlap(rest, rest) == pytest.approx(1, abs=1e-14)
