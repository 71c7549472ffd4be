"""Whether a converged calculation is a minimum: the lowest curvature of its energy under rotations of its orbitals."""

from collections.abc import Callable

import numpy as np
from pyscf import scf
from pyscf.soscf import newton_ah

from pipeline.failures import NotConverged
from storage.schema import FloatArray

# Turning a degenerate state (an atom's half-empty p shell, the π hole of OH) costs nothing, which the quadrature makes
# ±5e-3 hartree. At saddle points below -0.03 were seen.
UNSTABLE = -1e-2  # hartree per radian²
STARTS = 6  # rotations between the orbitals nearest in energy, of every symmetry that a molecule may have there
ROUNDS = 40  # of the search for the lowest curvature


def find_descent(field: scf.hf.SCF) -> FloatArray | None:
    """The rotation, shape (pairs,), along which the energy of a converged calculation falls; None at a minimum.

    Real rotations within one kind of state (R. Seeger, J. A. Pople, J. Chem. Phys. 66, 3045 (1977)): restricted stays
    restricted. Davidson's method, in PySCF's order of pairs; it ends as soon as the sign of every candidate is certain.
    """
    restricted = field.mo_occ.ndim == 1
    generate = newton_ah.gen_g_hop_rhf if restricted else newton_ah.gen_g_hop_uhf
    gradient, half_hessian, half_diagonal = generate(field, field.mo_coeff, field.mo_occ)
    return lowest_curvature(lambda rotation: 2 * half_hessian(rotation), 2 * half_diagonal) if gradient.size else None


def lowest_curvature(hessian: Callable[[FloatArray], FloatArray], diagonal: FloatArray) -> FloatArray | None:
    """A unit vector along which the symmetric `hessian` is below `UNSTABLE`; None where there is none.

    Raises NotConverged where neither is certain.
    """
    lowest = np.argsort(diagonal, kind="stable")[:STARTS]
    trials = np.zeros((len(lowest), len(diagonal)))
    trials[range(len(lowest)), lowest] = 1
    vectors, products = np.empty((0, len(diagonal))), np.empty((0, len(diagonal)))
    for _ in range(ROUNDS):
        vectors = np.vstack([vectors, trials])
        products = np.vstack([products, [hessian(trial) for trial in trials]])
        values, mixtures = np.linalg.eigh(vectors @ products.T)
        values, mixtures = values[:STARTS], mixtures.T[:STARTS]
        if values[0] < UNSTABLE:
            return np.asarray(mixtures[0] @ vectors)
        residuals = mixtures @ products - values[:, None] * (mixtures @ vectors)
        open_ = np.linalg.norm(residuals, axis=1) > np.abs(values - UNSTABLE)
        if not open_.any():
            return None
        steps = residuals[open_] / np.maximum(np.abs(diagonal - values[open_, None]), 1e-2)
        trials = orthonormal(steps, vectors)
        if not len(trials):
            break
    raise NotConverged(
        f"the lowest curvature of the energy is near {values[0]:.3f} hartree per radian², and after {len(vectors)} "
        f"trial rotations it is not certain whether below {UNSTABLE}: check its geometry, charge and unpaired electrons"
    )


def orthonormal(steps: FloatArray, vectors: FloatArray) -> FloatArray:
    """What the steps add to the orthonormal `vectors`."""
    added = vectors
    for step in steps:
        rest = remove(added, step / np.linalg.norm(step))
        if (length := np.linalg.norm(rest)) > 1e-6:
            rest = remove(added, rest / length)  # once leaves rounding errors
            added = np.vstack([added, rest / np.linalg.norm(rest)])
    return added[len(vectors) :]


def remove(vectors: FloatArray, step: FloatArray) -> FloatArray:
    """What is left of a step without its part along the orthonormal `vectors`."""
    return step - vectors.T @ (vectors @ step)
