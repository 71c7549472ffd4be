"""Derives the table in slater.py: `python -m pipeline.engines.fit_slater` prints it anew (about a minute).

Three kinds of expansion are in use. *Separate*: the maximum-overlap fit of one Slater function (R. F. Stewart, J. Chem.
Phys. 52, 431 (1970)), the best of all optima found. *Shared*: GFN1's 4s with 4p and 5s with 5p, one set of exponents
for both (W. J. Pietro et al., Inorg. Chem. 19, 2225 (1980)). *Recovered*: the libraries' 6s and 6p are at no optimum
(their squared errors, 3.4e-9 and 3.5e-9, compare with 1.1e-9 and 3.1e-9 of the best fits), so they are read off
tblite's overlap matrix: orbitals are only worth keeping in the functions they were expanded in.
"""

import math
from contextlib import suppress

import numpy as np
from scipy.optimize import least_squares, root
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator, Result

from pipeline.engines.slater import primitive_norm
from pipeline.engines.xtb import element_shells
from storage.schema import FloatArray

Expansion = tuple[FloatArray, FloatArray]  # exponents for ζ = 1, falling; coefficients of normalised primitives

SEPARATE = {
    0: ((1, 3), (1, 4), (2, 3), (2, 4), (2, 6), (3, 4), (3, 6), (4, 4), (5, 4), (5, 6)),
    1: ((2, 4), (2, 6), (3, 4), (3, 6), (4, 4), (5, 4), (5, 6)),
    2: ((3, 3), (3, 4), (4, 3), (4, 4), (5, 3), (5, 4)),
}  # angular momentum → (principal quantum number, gaussians)
SHARED_DIGITS = {4: 7, 5: 10}  # principal quantum number → significant digits the libraries keep

# A trapezium rule in log r: for these integrands its error falls exponentially, far below double precision.
LOG_RADIUS = np.linspace(-16.0, 5.2, 1500)
RADIUS = np.exp(LOG_RADIUS)
ROOT_WEIGHT = np.sqrt((LOG_RADIUS[1] - LOG_RADIUS[0]) * RADIUS**3)  # dot products of functions become ∫ r² dr


def slater_function(principal: int) -> FloatArray:
    """The normalised radial function with ζ = 1 on the radial grid, times the root of the weight."""
    norm = 2.0 ** (principal + 0.5) / math.sqrt(math.factorial(2 * principal))
    values: FloatArray = ROOT_WEIGHT * norm * RADIUS ** (principal - 1) * np.exp(-RADIUS)
    return values


def gaussian_functions(exponents: FloatArray, degree: int) -> FloatArray:
    """Normalised primitives on the radial grid, (points, gaussians), times the root of the weight."""
    radial = ROOT_WEIGHT * RADIUS**degree
    values: FloatArray = radial[:, None] * np.exp(-np.outer(RADIUS**2, exponents)) * primitive_norm(exponents, degree)
    return values


def residual(log_exponents: FloatArray, principal: int, degree: int) -> FloatArray:
    """What the best linear combination leaves of the Slater function."""
    span, _ = np.linalg.qr(gaussian_functions(np.exp(log_exponents), degree))
    left = slater_function(principal)
    for _ in range(2):  # the second pass removes the rounding of the first
        left -= span @ (span.T @ left)
    return left


def slope(log_exponents: FloatArray, principal: int, degree: int) -> FloatArray:
    """Derivative of the squared residual by each log exponent, up to a factor; precise where the residual is tiny."""
    exponents = np.exp(log_exponents)
    gaussians = gaussian_functions(exponents, degree)
    coefficients = np.linalg.lstsq(gaussians, slater_function(principal), rcond=None)[0]
    moved = gaussians * RADIUS[:, None] ** 2 * exponents * coefficients
    values: FloatArray = moved.T @ residual(log_exponents, principal, degree)
    return values


def best_exponents(principal: int, degrees: tuple[int, ...], gaussians: int, starts: int = 40) -> FloatArray:
    """Exponents of least squared residual, summed over `degrees`, among the optima reached from random starts."""
    rng = np.random.default_rng(principal)

    def left(x: FloatArray) -> FloatArray:
        return np.concatenate([residual(x, principal, degree) for degree in degrees])

    def gradient(x: FloatArray) -> FloatArray:
        return np.asarray(sum(slope(x, principal, degree) for degree in degrees))

    best, least = np.empty(0), math.inf
    for _ in range(starts):
        smallest = math.log(0.25 / principal**1.4)  # where the most diffuse exponent lies, roughly
        start = smallest + np.arange(gaussians) * rng.uniform(0.3, 1.3) + rng.normal(scale=0.25, size=gaussians)
        near = least_squares(left, start, xtol=1e-9, ftol=1e-9, gtol=1e-14, max_nfev=100)
        exact = root(gradient, near.x, options={"xtol": 1e-14})
        log_exponents = np.sort(exact.x)[::-1]
        is_distinct = bool(np.all(-np.diff(log_exponents) > 0.05))  # merging exponents are a saddle, not an optimum
        error = float(np.sum(left(log_exponents) ** 2))
        if is_distinct and np.max(np.abs(exact.fun)) < 1e-14 and error < least:
            best, least = np.exp(log_exponents), error
    return best


def normalised(exponents: FloatArray, principal: int, degree: int) -> Expansion:
    """The maximum-overlap coefficients that belong to the exponents."""
    gaussians = gaussian_functions(exponents, degree)
    coefficients = np.linalg.lstsq(gaussians, slater_function(principal), rcond=None)[0]
    return exponents, coefficients / np.linalg.norm(gaussians @ coefficients)


def axial_overlap(first: Expansion, degree: int, second: Expansion, distances: FloatArray) -> FloatArray:
    """⟨s or p_z at the origin | s on the z axis⟩ at each distance."""
    a, b = first[0][:, None], second[0][None]
    weight = np.outer(first[1] * primitive_norm(first[0], degree), second[1] * primitive_norm(second[0], 0))
    total = a + b
    decay = np.exp(-(a * b / total) * distances[:, None, None] ** 2)
    arm = (b / total * distances[:, None, None]) ** degree
    values = math.sqrt(2 * degree + 1) / (4 * math.pi) * (weight * (math.pi / total) ** 1.5 * decay * arm)
    summed: FloatArray = values.sum(axis=(1, 2))
    return summed


def caesium_hydride_overlap(distance: float) -> FloatArray:
    """tblite's GFN2 overlap matrix, over Cs s, y, z, x and H s, with H at +z."""
    calculator = Calculator("GFN2-xTB", np.array([55, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, distance]]))
    calculator.set("verbosity", 0)
    calculator.set("save-integrals", 1)
    calculator.set("max-iter", 1)
    result = Result()
    with suppress(TBLiteRuntimeError):  # one cycle cannot converge, but the overlap is already there
        calculator.singlepoint(result)
    overlap: FloatArray = result.get("overlap-matrix")
    return overlap


def recover(degree: int) -> Expansion:
    """tblite's 6s (or 6p) from its overlap with hydrogen's 1s in CsH at 120 distances, starting at the best fit."""
    distances = np.linspace(0.5, 30.0, 120)
    zeta = element_shells("gfn2")[55][degree].zeta
    hydrogen = [rounded(part, 10) for part in normalised(best_exponents(1, (0,), 3), 1, 0)]
    probe = hydrogen[0] * element_shells("gfn2")[1][0].zeta ** 2, hydrogen[1]
    measured = np.array([caesium_hydride_overlap(distance)[(0, 2)[degree], 4] for distance in distances])

    def error(x: FloatArray) -> FloatArray:
        values: FloatArray = axial_overlap((np.exp(x[:6]) * zeta**2, x[6:]), degree, probe, distances) - measured
        return values

    exponents, coefficients = normalised(best_exponents(6, (degree,), 6), 6, degree)
    start = np.concatenate([np.log(exponents), coefficients])
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    found = least_squares(error, start, method="lm", x_scale="jac", max_nfev=20000, **tight)
    return np.exp(found.x[:6]), found.x[6:]


def rounded(values: FloatArray, digits: int) -> FloatArray:
    return np.array([float(f"{value:.{digits - 1}e}") for value in values])


def print_row(key: tuple[int, int, int], expansion: Expansion, digits: int = 10) -> None:
    """One entry of the table, to as many digits as the libraries keep, so that their functions are met to the last."""
    exponents, coefficients = (", ".join(map(repr, rounded(part, digits).tolist())) for part in expansion)
    print(f"    {key}: (\n        ({exponents}),\n        ({coefficients}),\n    ),", flush=True)


def main() -> None:
    print("SEPARATE: Table = {")
    for degree, cases in SEPARATE.items():
        for principal, gaussians in cases:
            exponents = best_exponents(principal, (degree,), gaussians)
            print_row((principal, degree, gaussians), normalised(exponents, principal, degree))
    for degree in (0, 1):
        print_row((6, degree, 6), recover(degree))
    print("}\nSHARED: Table = {")
    for principal, digits in SHARED_DIGITS.items():
        exponents = best_exponents(principal, (0, 1), 6)
        for degree in (0, 1):
            print_row((principal, degree, 6), normalised(exponents, principal, degree), digits)
    print("}")


if __name__ == "__main__":
    main()
