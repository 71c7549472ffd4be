"""Frozen atomic cores: the doubly occupied orbitals that xTB leaves out, from H to Xe."""

import functools
import json
from collections.abc import Mapping
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from pipeline.elements import SYMBOLS
from pipeline.engines.slater import normalise, primitive_norm
from pipeline.failures import UnsupportedElement
from storage.schema import Basis, FloatArray, IntArray, Shell


@functools.cache
def read_cores() -> Mapping[int, tuple[Shell, ...]]:
    """The orbitals of each element's core, one normalised shell each, by angular momentum and then by energy.

    `pipeline.engines.fit_cores` wrote the table, and says how it was derived.
    """
    table = json.loads(resources.files("pipeline.engines").joinpath("cores.json").read_text(encoding="ascii"))
    return {
        int(number): tuple(
            core_shell(degree, np.array(subshells["exponents"]), np.array(coefficients))
            for degree, subshells in enumerate(entry)
            for coefficients in subshells["orbitals"]
        )
        for number, entry in table.items()
    }


def core_shell(degree: int, exponents: FloatArray, coefficients: FloatArray) -> Shell:
    """`coefficients` are those of normalised primitives; the table's rounding is taken out of the norm."""
    return normalise(Shell(degree, exponents, coefficients * primitive_norm(exponents, degree)))


def core_shells(number: int) -> tuple[Shell, ...]:
    """The core's orbitals of one element, none for H and He. Raises UnsupportedElement beyond Xe."""
    if number not in read_cores():
        raise UnsupportedElement(
            f"no atomic core is tabulated for {SYMBOLS[number]} (Z = {number}), only for H to Xe: "
            'leave the molecule out, or use electrons = "valence"'
        )
    return read_cores()[number]


def add_cores(orbitals: FloatArray, numbers: IntArray, basis: Basis) -> FloatArray:
    """Core orbitals, each one function of its own atom, and after them `orbitals`: (orbitals, functions).

    In `basis` the shells of every atom's core come last; `orbitals` has no columns for them.
    """
    in_core = np.concatenate([core_functions(int(number), basis) for number in numbers])
    cores = int(in_core.sum())
    joined = np.zeros((cores + len(orbitals), len(in_core)))
    joined[:cores, in_core] = np.eye(cores)
    joined[cores:, ~in_core] = orbitals
    return joined


def core_functions(number: int, basis: Basis) -> NDArray[np.bool_]:
    """Which functions of an atom are those of its core."""
    size = basis.size(np.array([number]))
    return np.arange(size) >= size - sum(shell.size for shell in core_shells(number))
