"""The way to a self-consistent state: a ladder of solvers, and down from saddle points."""

from pyscf import scf

from pipeline.engines.stability import find_descent
from pipeline.failures import NotConverged
from storage.schema import Conformer

LEVEL_SHIFT = 0.3  # hartree
DAMPING = 0.5  # of the first cycles under the shift
DESCENTS = 4


def converge(field: scf.hf.SCF, conformer: Conformer) -> tuple[scf.hf.SCF, int]:
    """The calculation that converged, and the rung that did it: 0 plain DIIS, 1 under a shift, 2 second order.

    Rungs differ in how they get there (second order starts where the rung before it stopped); energy expression and
    thresholds are the same, and descents are not counted. Unrestricted
    states, and what only a later rung reached, are followed down where they are saddle points. Closed shells stay
    restricted even where an unrestricted singlet would lie lower (stretched bonds, some diradicals).
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
        except ArithmeticError as error:
            raise NotConverged(f"{conformer.id}: whether its state is a minimum cannot be told ({error})") from error
        if rotation is None:
            return field
        if descents == DESCENTS:
            break
        occupations, energy = field.mo_occ, field.e_tot
        field = field.newton()
        turned = field.rotate_mo(field.mo_coeff, field.update_rotate_matrix(rotation, occupations))
        field.kernel(turned, occupations)
        if not field.converged:
            raise NotConverged(
                f"{conformer.id}: a saddle point at {energy:.6f} hartree, and no convergence on the way down from it: "
                "check its geometry, charge and unpaired electrons"
            )
    raise NotConverged(
        f"{conformer.id}: a saddle point at {energy:.6f} hartree, and no minimum in {DESCENTS} descents from there: "
        "check its geometry, charge and unpaired electrons"
    )
