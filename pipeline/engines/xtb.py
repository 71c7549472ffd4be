"""GFN1-xTB and GFN2-xTB through tblite or xtb-python: valence electrons in Slater functions, with cores if asked."""

import functools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.spatial.distance import pdist
from tblite import library as tblite_library
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator, Result

from pipeline.elements import NUMBERS, SYMBOLS
from pipeline.engines.cores import add_cores, core_shells
from pipeline.engines.slater import expand_slater, normalise, orthogonalise
from pipeline.failures import InvalidInput, NotConverged, UnsupportedElement
from pipeline.units import ANGSTROM_PER_BOHR
from storage.schema import Basis, Conformer, ElectronicState, FloatArray, IntArray, Shell

if TYPE_CHECKING:
    from xtb.interface import Results

Method = Literal["gfn2", "gfn1"]
Library = Literal["tblite", "xtb-python"]
Electrons = Literal["valence", "all"]
Order = Mapping[int, tuple[tuple[int, ...], tuple[float, ...]]]

NAMES: Mapping[Method, str] = {"gfn2": "GFN2-xTB", "gfn1": "GFN1-xTB"}
EXPORTS = {"gfn2": tblite_library.export_gfn2_param, "gfn1": tblite_library.export_gfn1_param}

# Angular momentum → where each of our components (p: x, y, z; d: xy, yz, z², xz, x²−y²) stands among the library's,
# and its sign there.
TBLITE_ORDER: Order = {  # p: y, z, x; d: ours
    0: ((0,), (1,)),
    1: ((2, 0, 1), (1, 1, 1)),
    2: ((0, 1, 2, 3, 4), (1, 1, 1, 1, 1)),
}
XTB_ORDER: Order = {  # p: ours; d: x²−y², −z², xy, xz, yz
    0: ((0,), (1,)),
    1: ((0, 1, 2), (1, 1, 1)),
    2: ((2, 4, 1, 3, 0), (1, 1, -1, 1, 1)),
}

# Principal quantum numbers whose six-term s and p functions (GFN1, K to Ba) have exponents in common. That the
# libraries differ here was seen in the electron count: with the other one's 5s and 5p, iodine is 2e-5 electrons off.
SHARED_EXPONENTS: Mapping[Library, tuple[int, ...]] = {"tblite": (4, 5), "xtb-python": (4,)}

# Iterations, damping and memory of tblite's mixer, tried in turn: its defaults, then slow and steady. They change how
# the fixed point is reached, not where it lies. Memory is short where iterations are many, because its cost grows with
# its cube.
MIXERS = ((250, 0.4, 250), (500, 0.05, 20))
ITERATIONS = 250  # of xtb-python, which has no other such setting
# Where these fail, electrons so hot are easily converged, and each result starts the next. The last step has the
# method's own temperature: the result is none of a warmer system.
COOLING = (16000, 6000, 2000, 800)  # kelvin
HARTREE_PER_KELVIN = 3.166811563e-6

CLOSEST = 0.5  # bohr; a third of the shortest bond there is (H2, 1.4 bohr): nearer atoms are a mistake in the input
EMPTY = 1e-12  # electrons; orbitals with no more are left out


@dataclass(frozen=True)
class SlaterShell:
    """One shell of an element, as the method's parameters have it."""

    principal: int
    degree: int
    zeta: float  # 1/bohr
    gaussians: int
    occupation: float  # electrons in the method's reference atom


@dataclass(frozen=True)
class Solution:
    """What either library returns, in our order of functions."""

    energy: float  # hartree
    gradient: FloatArray  # (atoms, 3), hartree/bohr
    dipole: FloatArray  # (3,), e·bohr
    orbitals: FloatArray  # (orbitals, functions)
    occupations: FloatArray  # (orbitals,), up to 2
    orbital_energies: FloatArray  # (orbitals,), hartree
    rung: int  # of MIXERS, or the one after them: cooled down


@functools.cache
def element_shells(method: Method) -> Mapping[int, tuple[SlaterShell, ...]]:
    """The shells of every element the method knows, from the parameters inside tblite, in the order of its basis."""
    parameters, table = tblite_library.new_param(), tblite_library.new_table()
    EXPORTS[method](parameters)
    tblite_library.dump_param(parameters, table)
    return {
        NUMBERS[symbol]: tuple(
            SlaterShell(int(name[0]), "spd".index(name[1]), zeta, gaussians, occupation)
            for name, zeta, gaussians, occupation in zip(
                element["shells"], element["slater"], element["ngauss"], element["refocc"], strict=True
            )
        )
        for symbol, element in tblite_library.table_to_dict(table)["element"].items()
    }


@functools.cache
def element_basis(method: Method, library: Library, number: int) -> tuple[Shell, ...]:
    """Our shells of one element; a second one of a kind (2s of hydrogen in GFN1) is made orthogonal to the first."""
    shells: list[Shell] = []
    for slater in element_shells(method)[number]:
        shared = slater.gaussians == 6 and slater.principal in SHARED_EXPONENTS[library]
        shell = expand_slater(slater.principal, slater.degree, slater.zeta, slater.gaussians, shared=shared)
        if library == "xtb-python":  # its overlap matrix has ones on the diagonal, whatever the table's last digits say
            shell = normalise(shell)
        for earlier in shells:
            if earlier.angular_momentum == shell.angular_momentum:
                shell = orthogonalise(shell, earlier)
        shells.append(shell)
    return tuple(shells)


@functools.cache  # looking a version up takes longer than solving water
def program_name(library: Library) -> str:
    return f"{library} {version('xtb' if library == 'xtb-python' else library)}"


def valence_electrons(method: Method, number: int) -> int:
    """Electrons of the neutral atom that the method treats."""
    return round(sum(shell.occupation for shell in element_shells(method)[number]))


@dataclass(frozen=True)
class XtbEngine:
    """An xTB method, the library that computes it, whether frozen atomic cores are added, and how tightly.

    With all electrons the density is the sum of two that know nothing of each other: xTB's valence orbitals are not
    orthogonal to the core and have no nodes in it. Each part is normalised by itself, so the count is exact. The dipole
    is the valence calculation's: a core, on its nucleus, adds nothing to that of the ions.

    `accuracy` scales the libraries' thresholds: 0.01 stops at changes of 1e-8 hartree and 2e-7 electrons per iteration.
    """

    method: Method = "gfn2"
    library: Library = "tblite"
    accuracy: float = 0.01
    electrons: Electrons = "valence"

    def basis(self, numbers: IntArray) -> Basis:
        check_elements(self.method, numbers)
        return Basis({int(number): self.shells(int(number)) for number in np.unique(numbers)})

    def shells(self, number: int) -> tuple[Shell, ...]:
        valence = element_basis(self.method, self.library, number)
        return valence + core_shells(number) if self.electrons == "all" else valence

    def core_electrons(self, number: int) -> int:
        check_elements(self.method, np.array([number]))
        left_out = number - valence_electrons(self.method, number)
        added = 2 * sum(shell.size for shell in core_shells(number)) if self.electrons == "all" else 0
        return left_out - added

    def orbital_limit(self, conformer: Conformer) -> int:
        return self.basis(conformer.numbers).size(conformer.numbers)

    def solve(self, conformer: Conformer) -> ElectronicState:
        basis = self.basis(conformer.numbers)
        solution = self.calculate(conformer)
        kept = solution.occupations > EMPTY
        orbitals, occupations = solution.orbitals[kept], solution.occupations[kept]
        if self.electrons == "all":
            orbitals = add_cores(orbitals, conformer.numbers, basis)
            occupations = np.concatenate([np.full(len(orbitals) - len(occupations), 2.0), occupations])
        alpha = (count_electrons(self.method, conformer) + conformer.unpaired) // 2  # orbitals filled at 0 K
        energies = np.append(solution.orbital_energies, np.nan)  # a full basis has no LUMO
        return ElectronicState(
            numbers=conformer.numbers,
            positions=conformer.positions,
            basis=basis,
            orbitals=orbitals,
            occupations=occupations,
            energy=solution.energy,
            dipole=(float(solution.dipole[0]), float(solution.dipole[1]), float(solution.dipole[2])),
            homo=float(energies[alpha - 1]),
            lumo=float(energies[alpha]),
            rung=solution.rung,
            program=program_name(self.library),
        )

    def gradient(self, conformer: Conformer) -> tuple[float, FloatArray]:
        """Energy in hartree, and its derivative by the positions, (atoms, 3), hartree/bohr."""
        solution = self.calculate(conformer)
        return solution.energy, solution.gradient

    def calculate(self, conformer: Conformer) -> Solution:
        """Refuse what the libraries crash on or answer with nonsense; then call one."""
        check_elements(self.method, conformer.numbers)
        check_geometry(conformer)
        check_electrons(self.method, conformer)
        return (run_tblite if self.library == "tblite" else run_xtb)(self, conformer)


def check_elements(method: Method, numbers: IntArray) -> None:
    """Raises UnsupportedElement, naming the first element without parameters."""
    for number in numbers:
        if int(number) not in element_shells(method):
            symbol = SYMBOLS[number] if 0 <= number < len(SYMBOLS) else "?"
            raise UnsupportedElement(f"{NAMES[method]} has no parameters for {symbol} (Z = {number}), only for H to Rn")


def check_geometry(conformer: Conformer) -> None:
    if len(conformer.numbers) == 0:
        raise InvalidInput(f"{conformer.id} has no atoms")
    if not np.isfinite(conformer.positions).all():
        raise InvalidInput(f"{conformer.id} has coordinates that are not finite numbers; correct its geometry")
    distances = pdist(conformer.positions)
    if len(distances) and distances.min() < CLOSEST:
        first, second = np.column_stack(np.triu_indices(len(conformer.numbers), 1))[distances.argmin()]
        raise InvalidInput(
            f"{conformer.id}: atoms {first} and {second} are {distances.min() * ANGSTROM_PER_BOHR:.4f} Å apart, "
            f"less than {CLOSEST * ANGSTROM_PER_BOHR:.2f} Å; correct the geometry or its unit of length"
        )


def count_electrons(method: Method, conformer: Conformer) -> int:
    return sum(valence_electrons(method, int(number)) for number in conformer.numbers) - conformer.charge


def check_electrons(method: Method, conformer: Conformer) -> None:
    electrons, unpaired = count_electrons(method, conformer), conformer.unpaired
    places = sum(2 * degree + 1 for degree in degrees(method, conformer))
    case = f"{conformer.id} (charge {conformer.charge}, {unpaired} unpaired)"
    if electrons < 1:
        raise InvalidInput(
            f"{case} has {electrons} valence electrons, so {NAMES[method]} has no density of it; correct the charge, "
            "or leave it out: a bare core is no valence density"
        )
    if electrons > 2 * places:
        raise InvalidInput(f"{case} has {electrons} electrons for {places} orbitals; correct its charge")
    if not 0 <= unpaired <= min(electrons, 2 * places - electrons):
        most = min(electrons, 2 * places - electrons)
        raise InvalidInput(f"{case}: {electrons} electrons in {places} orbitals allow 0 to {most} unpaired; correct it")
    if (electrons - unpaired) % 2:
        raise InvalidInput(
            f"{case} has {electrons} electrons: give an {'odd' if electrons % 2 else 'even'} number of unpaired"
        )


def degrees(method: Method, conformer: Conformer) -> list[int]:
    """Angular momentum of each shell of the molecule."""
    return [shell.degree for number in conformer.numbers for shell in element_shells(method)[int(number)]]


def reorder(coefficients: FloatArray, degrees: list[int], order: Order) -> FloatArray:
    """Orbitals by functions in our order, from functions by orbitals in a library's."""
    starts = np.cumsum([0] + [2 * degree + 1 for degree in degrees])
    places = np.concatenate(
        [start + np.array(order[degree][0]) for start, degree in zip(starts, degrees, strict=False)]
    )
    signs = np.concatenate([np.array(order[degree][1], dtype=np.float64) for degree in degrees])
    return np.ascontiguousarray(coefficients[places].T * signs)


def run_tblite(engine: XtbEngine, conformer: Conformer) -> Solution:
    result, rung = converge_tblite(engine, conformer)
    return Solution(
        energy=float(result.get("energy")),
        gradient=result.get("gradient"),
        dipole=result.get("dipole"),
        orbitals=reorder(result.get("orbital-coefficients"), degrees(engine.method, conformer), TBLITE_ORDER),
        occupations=result.get("orbital-occupations"),
        orbital_energies=result.get("orbital-energies"),
        rung=rung,
    )


def converge_tblite(engine: XtbEngine, conformer: Conformer) -> tuple[Result, int]:
    for rung, mixer in enumerate(MIXERS):
        with suppress(NotConverged):
            return iterate_tblite(engine, conformer, mixer), rung
    warm = None
    for kelvin in COOLING:
        warm = iterate_tblite(engine, conformer, MIXERS[-1], warm, kelvin)
    return iterate_tblite(engine, conformer, MIXERS[-1], warm), len(MIXERS)


def iterate_tblite(
    engine: XtbEngine,
    conformer: Conformer,
    mixer: tuple[int, float, int],
    start: Result | None = None,
    kelvin: int | None = None,
) -> Result:
    """At the method's own electronic temperature, unless another is given."""
    calculator = Calculator(
        NAMES[engine.method], conformer.numbers, conformer.positions, float(conformer.charge), conformer.unpaired,
        color=False,
    )  # fmt: skip
    calculator.set("verbosity", 0)
    calculator.set("accuracy", engine.accuracy)
    for key, value in zip(("max-iter", "mixer-damping", "mixer-memory"), mixer, strict=True):
        calculator.set(key, value)
    if kelvin:
        calculator.set("temperature", kelvin * HARTREE_PER_KELVIN)
    try:
        return calculator.singlepoint(start)
    except TBLiteRuntimeError as error:
        if "not converged" not in str(error):
            raise
        raise NotConverged(
            f"{conformer.id}: tblite found no self-consistent charges with (iterations, damping, memory) in {MIXERS}, "
            f"nor on cooling from {COOLING} K: check its charge, unpaired electrons and geometry"
        ) from error


def run_xtb(engine: XtbEngine, conformer: Conformer) -> Solution:
    result, rung = converge_xtb(engine, conformer)
    return Solution(
        energy=float(result.get_energy()),
        gradient=result.get_gradient(),
        dipole=result.get_dipole(),
        orbitals=reorder(result.get_orbital_coefficients(), degrees(engine.method, conformer), XTB_ORDER),
        occupations=result.get_orbital_occupations(),
        orbital_energies=result.get_orbital_eigenvalues(),
        rung=rung,
    )


def converge_xtb(engine: XtbEngine, conformer: Conformer) -> "tuple[Results, int]":
    with suppress(NotConverged):
        return iterate_xtb(engine, conformer), 0
    warm = None
    for kelvin in COOLING:
        warm = iterate_xtb(engine, conformer, warm, kelvin)
    return iterate_xtb(engine, conformer, warm), len(MIXERS)


def iterate_xtb(
    engine: XtbEngine, conformer: Conformer, start: "Results | None" = None, kelvin: int | None = None
) -> "Results":
    from xtb.interface import Calculator as XtbCalculator  # an extra of its own, with wheels for few platforms
    from xtb.interface import XTBException
    from xtb.utils import get_method

    calculator = XtbCalculator(
        get_method(NAMES[engine.method]), conformer.numbers, conformer.positions, conformer.charge, conformer.unpaired
    )
    calculator.set_verbosity("muted")
    calculator.set_accuracy(engine.accuracy)
    calculator.set_max_iterations(ITERATIONS)
    if kelvin:
        calculator.set_electronic_temperature(kelvin)
    try:
        return calculator.singlepoint(start)
    except XTBException as error:
        if "did not converge" not in str(error):
            raise
        raise NotConverged(
            f"{conformer.id}: no self-consistent charges in {ITERATIONS} iterations of xtb-python, nor on cooling from "
            f"{COOLING} K: check its charge, unpaired electrons and geometry"
        ) from error
