"""The way to a self-consistent state: a ladder of solvers, and down from saddle points."""

from pyscf import scf

from pipeline.engines.stability import find_descent
from pipeline.failures import NotConverged
from storage.schema import Conformer, FloatArray

LEVEL_SHIFT = 0.3  # hartree
DAMPING = 0.5  # of the first cycles under the shift
DESCENTS = 4


def converge(field: scf.hf.SCF, conformer: Conformer) -> tuple[scf.hf.SCF, int]:
    """The calculation that converged, and the rung that did it: 0 plain DIIS, 1 under a shift, 2 second order.

    Rungs differ in how they get there; energy expression and thresholds are the same. Unrestricted states, and what
    only a later rung reached, are followed down where they are saddle points; the rung does not count these descents.
    Closed shells stay restricted even where an unrestricted singlet would lie lower (stretched bonds, some diradicals).
    """
    changes: list[float] = []
    field.callback = lambda cycle: changes.append(abs(cycle["e_tot"] - cycle["last_hf_e"]))
    for rung, solve in enumerate((solve_plainly, solve_shifted, solve_to_second_order)):
        field = solve(field)
        if field.converged:
            return (descend(field, conformer) if rung or conformer.unpaired else field), rung
    raise NotConverged(
        f"{conformer.id}: DIIS, DIIS under a level shift and second order in turn: the energy still changed by "
        f"{changes[-1]:.1e} hartree after {len(changes)} cycles (limit {field.conv_tol:.0e}): "
        "check its geometry, charge and unpaired electrons"
    )


def solve_plainly(field: scf.hf.SCF) -> scf.hf.SCF:
    field.kernel()
    return field


def solve_shifted(field: scf.hf.SCF) -> scf.hf.SCF:
    field.level_shift, field.diis_start_cycle, field.damp = LEVEL_SHIFT, 5, DAMPING
    field.kernel(dm0=field.get_init_guess(field.mol, field.init_guess))
    field.level_shift = 0.0
    return field


def solve_to_second_order(field: scf.hf.SCF) -> scf.hf.SCF:
    """From where the rung before it stopped. It finds stationary points of any kind."""
    field = field.newton()
    field.kernel()
    return field


def descend(field: scf.hf.SCF, conformer: Conformer) -> scf.hf.SCF:
    """The minimum below a stationary point, or the point itself where it is one."""
    for descents in range(DESCENTS + 1):
        try:
            rotation = find_descent(field)
        except NotConverged as error:
            raise NotConverged(f"{conformer.id}: {error}") from error
        if rotation is None:
            return field
        if descents < DESCENTS:
            field = leave_saddle(field, rotation, conformer)
    raise NotConverged(
        f"{conformer.id}: {DESCENTS} descents from saddle points of the energy ended in another one, at "
        f"{field.e_tot:.6f} hartree: check its geometry, charge and unpaired electrons"
    )


def leave_saddle(field: scf.hf.SCF, rotation: FloatArray, conformer: Conformer) -> scf.hf.SCF:
    """The stationary point below, by second order."""
    occupations, energy = field.mo_occ, field.e_tot
    field = field.newton()
    turned = field.rotate_mo(field.mo_coeff, field.update_rotate_matrix(rotation, occupations))
    field.kernel(turned, occupations)
    if not field.converged:
        raise NotConverged(
            f"{conformer.id}: the descent from a saddle point of the energy at {energy:.6f} hartree did not converge: "
            "check its geometry, charge and unpaired electrons"
        )
    return field
