"""The door to PySCF: conformers become its molecules, its basis functions become our shells."""

import functools
import math
import re
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import scipy.spatial.distance
from pyscf import __config__ as settings
from pyscf import __version__, gto
from pyscf.lib.exceptions import BasisNotFoundError

from pipeline.elements import SYMBOLS
from pipeline.failures import InvalidInput, UnsupportedElement
from storage.schema import Basis, Conformer, FloatArray, IntArray, Shell

PROGRAM = f"pyscf {__version__}"
ALL_ELECTRON = "none"  # in place of a pseudopotential's name
UNBOUNDED = 10**9  # MB; PySCF cuts sums by the memory left, which must not decide over last bits
CLOSEST_ATOMS = 0.5  # bohr; the bond of H₂ has 1.4


def check_method(basis: str, pseudopotential: str) -> None:
    """Refuse what would give wrong densities in silence, before any molecule is computed."""
    name = re.sub(r"[\W_]", "", basis.lower())
    if name.startswith(("ccecp", "bfd")):
        raise ValueError(
            f'basis "{basis}" has no core functions, and its pseudopotential is unknown here: use a gth one'
        )
    if "gth" in name and pseudopotential == ALL_ELECTRON:
        raise ValueError(f'basis "{basis}" has no core functions: give its pseudopotential too, for example "gth-pbe"')
    if settings.conf_file:
        raise ValueError(
            f"{settings.conf_file} changes PySCF's defaults, and with them results: "
            "move it away, or let PYSCF_CONFIG_FILE name an empty file"
        )


def build_mol(conformer: Conformer, basis: str, pseudopotential: str) -> gto.Mole:
    """The conformer as PySCF sees it, once its elements, its distances and its electrons make sense."""
    for number in np.unique(conformer.numbers):
        build_atom(int(number), basis, pseudopotential)
    symbols = [SYMBOLS[int(number)] for number in conformer.numbers]
    mol = make_mol(symbols, conformer.positions, basis, pseudopotential)
    check_distances(conformer)
    check_electrons(conformer, int(mol.atom_charges().sum()) - conformer.charge)
    mol.charge, mol.spin = conformer.charge, conformer.unpaired
    return mol


@functools.cache  # parsing PySCF's basis files takes milliseconds, and planning asks for every atom
def build_atom(number: int, basis: str, pseudopotential: str) -> gto.Mole:
    """One neutral atom at the origin. Raises UnsupportedElement where the basis or the pseudopotential lacks it."""
    if not 0 < number < len(SYMBOLS):
        raise UnsupportedElement(f"atomic number {number} is no element: remove the atom, or name what it stands for")
    symbol = SYMBOLS[number]
    require(gto.basis.load, basis, symbol)
    if pseudopotential != ALL_ELECTRON:
        require(gto.basis.load_pseudo, pseudopotential, symbol)
    if pseudopotential == ALL_ELECTRON and replaces_core(basis, symbol):
        raise UnsupportedElement(
            f"{symbol}: basis {basis} counts on an effective core potential there, so it is not all-electron: "
            "choose an all-electron basis for this element"
        )
    return make_mol([symbol], np.zeros((1, 3)), basis, pseudopotential)


def require(load: Callable[[str, str], object], name: str, symbol: str) -> None:
    """Let PySCF load what is called `name` for the element, or raise UnsupportedElement."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an advice to install another package comes before the exception
        try:
            load(name, symbol)
        except BasisNotFoundError as error:
            raise UnsupportedElement(f"{symbol}: PySCF's {name} lacks this element: choose one that has it") from error


def replaces_core(basis: str, symbol: str) -> bool:
    """Whether the basis set comes with an effective core potential for the element (def2 from Rb on, for example)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `require`
        try:
            return bool(gto.basis.load_ecp(basis, symbol))
        except RuntimeError:  # what PySCF raises for a basis set that has none for any element
            return False


def make_mol(symbols: Sequence[str], positions: FloatArray, basis: str, pseudopotential: str) -> gto.Mole:
    """A neutral molecule with as few unpaired electrons as parity allows."""
    atoms = list(zip(symbols, positions.tolist(), strict=True))
    mol = gto.Mole(atom=atoms, unit="Bohr", basis=basis, charge=0, spin=None, cart=False, symmetry=False, verbose=0)
    mol.pseudo = None if pseudopotential == ALL_ELECTRON else pseudopotential
    return mol.build(dump_input=False, parse_arg=False)


def check_distances(conformer: Conformer) -> None:
    if not np.isfinite(conformer.positions).all():
        raise InvalidInput(f"{conformer.id}: a position is not a number: give three finite coordinates per atom")
    closest = scipy.spatial.distance.pdist(conformer.positions).min(initial=math.inf)
    if closest < CLOSEST_ATOMS:
        raise InvalidInput(
            f"{conformer.id}: two atoms are {closest:.3g} bohr apart (the least is {CLOSEST_ATOMS}): "
            "check the geometry and its unit"
        )


def check_electrons(conformer: Conformer, electrons: int) -> None:
    charge, unpaired = conformer.charge, conformer.unpaired
    if electrons <= 0 or not 0 <= unpaired <= electrons or (electrons - unpaired) % 2:
        raise InvalidInput(
            f"{conformer.id}: {electrons} electrons (charge {charge}) cannot have {unpaired} unpaired: "
            "correct the charge or the number of unpaired electrons"
        )


def basis_of(numbers: IntArray, basis: str, pseudopotential: str) -> Basis:
    """The shells of each element, in PySCF's order."""
    distinct = [int(number) for number in np.unique(numbers)]
    return Basis({number: shells_of(build_atom(number, basis, pseudopotential)) for number in distinct})


def shells_of(atom: gto.Mole) -> tuple[Shell, ...]:
    """One Shell per contracted function set of a one-atom molecule, in PySCF's order of functions.

    PySCF normalises each primitive's radial part against orthonormal harmonics, and so do we; but of its Cartesian
    functions only s and p are harmonics, from d on they are plain monomials.
    """
    shells = []
    for index in range(atom.nbas):
        degree = int(atom.bas_angular(index))
        exponents = atom.bas_exp(index)
        norms = gto.gto_norm(degree, exponents)
        if atom.cart and degree < 2:
            norms *= math.sqrt((2 * degree + 1) / (4 * math.pi))
        for coefficients in atom.bas_ctr_coeff(index).T:
            shells.append(Shell(degree, exponents, coefficients * norms, bool(atom.cart)))
    return tuple(shells)


def dipole_of(mol: gto.Mole, density: FloatArray) -> tuple[float, float, float]:
    """Of ions and electrons, about the coordinate origin; `density` is the total density matrix."""
    with mol.with_common_orig((0.0, 0.0, 0.0)):
        electrons = np.einsum("xij,ji->x", mol.intor_symmetric("int1e_r", comp=3), density)
    x, y, z = mol.atom_charges() @ mol.atom_coords() - electrons
    return float(x), float(y), float(z)
