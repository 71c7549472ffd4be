"""Derives atoms.json: `python -m pipeline.engines.fit_atoms > pipeline/engines/atoms.json` (two minutes).

The valence of an element is that of GFN2-xTB's reference atom: its Slater functions, each shell with the method's
reference occupation spread evenly over it, neutral and spherical. Its core is the frozen one of `cores`. Both are
fitted by s-type Gaussians, which misplace at most the fraction of their electrons that `misplaced` says; each fit is
scaled to hold its electrons exactly.
"""

import json
import math
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from pipeline.engines.cores import core_shells, read_cores
from pipeline.engines.fit_slater import LOG_RADIUS, RADIUS, rounded
from pipeline.engines.xtb import element_basis, element_shells
from storage.schema import FloatArray, Shell

DIGITS = 10
GAUSSIANS = range(5, 15)  # tried in turn
STARTS = (0.5, 0.8, 1.2, 1.6)  # between neighbours' log exponents
CLOSEST = 0.25  # the same at the end: nearer, two of them would cancel
TOLERANCE = 1e-3  # of the electrons
NEGATIVE = 1e-6  # of the electrons, where a fit is negative
RADIAL = 4 * math.pi * RADIUS**2  # times a density: electrons per bohr
ROOT_WEIGHT = np.sqrt((LOG_RADIUS[1] - LOG_RADIUS[0]) * RADIUS)  # dot products become ∫ dr


def shell_density(shell: Shell, electrons: float) -> FloatArray:
    """Spherical density of so many electrons in a shell on the radial grid."""
    radial = RADIUS**shell.angular_momentum * (np.exp(-np.outer(RADIUS**2, shell.exponents)) @ shell.coefficients)
    values: FloatArray = electrons / (4 * math.pi) * radial**2
    return values


def valence_density(number: int) -> FloatArray:
    shells = zip(element_basis("gfn2", "tblite", number), element_shells("gfn2")[number], strict=True)
    return np.asarray(np.sum([shell_density(shell, slater.occupation) for shell, slater in shells], axis=0))


def core_density(number: int) -> FloatArray:
    return np.asarray(np.sum([shell_density(shell, 2.0 * shell.size) for shell in core_shells(number)], axis=0))


def count(density: FloatArray) -> float:
    """Electrons."""
    return float(np.sum(ROOT_WEIGHT**2 * RADIAL * density))


def design(log_exponents: FloatArray) -> FloatArray:
    """Gaussians of one electron each on the radial grid, (points, gaussians), times the root of the weight."""
    exponents = np.exp(log_exponents)
    values = (exponents / math.pi) ** 1.5 * np.exp(-np.outer(RADIUS**2, exponents))
    return np.asarray((ROOT_WEIGHT * RADIAL)[:, None] * values)


def ladder(steps: FloatArray) -> FloatArray:
    """Log exponents: the lowest, and each next one by how far it lies above."""
    return np.cumsum(steps)


def residual(steps: FloatArray, target: FloatArray) -> FloatArray:
    """What the best sum of these Gaussians leaves of the radial density."""
    span, _ = np.linalg.qr(design(ladder(steps)))
    return np.asarray(target - span @ (span.T @ target))


def fit(density: FloatArray) -> dict[str, Any]:
    """The table's entry: exponents, and the electrons in each Gaussian; as few as misplace no more than TOLERANCE."""
    entries: list[dict[str, Any]] = []
    for gaussians in GAUSSIANS:
        entries += fit_all(density, gaussians)
        best = min(entries, key=lambda entry: float(entry["misplaced"]), default=None)
        if best and best["misplaced"] <= TOLERANCE:
            break
    if best is None:
        raise RuntimeError("every fit is negative somewhere: try other starts")
    return best


def fit_all(density: FloatArray, gaussians: int) -> list[dict[str, Any]]:
    """Fits from several starts that are nowhere negative to speak of, the best first."""
    electrons = count(density)
    lowest = math.log(0.3 * electrons / float(np.sum(ROOT_WEIGHT**2 * RADIAL * RADIUS**2 * density)))
    target = ROOT_WEIGHT * RADIAL * density
    bounds = [-5.0, *[CLOSEST] * (gaussians - 1)], [5.0, *[4.0] * (gaussians - 1)]
    entries = []
    for step in STARTS:
        start = np.array([lowest, *[step] * (gaussians - 1)])
        steps = least_squares(residual, start, args=(target,), bounds=bounds).x
        exponents = rounded(np.exp(ladder(steps)), DIGITS)
        parts = np.linalg.lstsq(design(np.log(exponents)), target, rcond=None)[0]
        parts = rounded(parts * round(electrons) / parts.sum(), DIGITS)
        fitted = np.exp(-np.outer(RADIUS**2, exponents)) @ ((exponents / math.pi) ** 1.5 * parts)
        misplaced = float(np.sum(ROOT_WEIGHT**2 * RADIAL * abs(fitted - density))) / electrons
        if -count(np.minimum(fitted, 0)) <= NEGATIVE * electrons:
            entries.append(
                {"exponents": exponents.tolist(), "electrons": parts.tolist(), "misplaced": round(misplaced, 6)}
            )
    return sorted(entries, key=lambda entry: float(entry["misplaced"]))


def main() -> None:
    print("{")
    last = max(element_shells("gfn2"))
    for number in sorted(element_shells("gfn2")):
        entry = {"valence": fit(valence_density(number))}
        if core_shells(number) if number in read_cores() else ():
            entry["core"] = fit(core_density(number))
        print(f'"{number}": {json.dumps(entry)}' + ("," if number < last else ""), flush=True)
    print("}")


if __name__ == "__main__":
    main()
