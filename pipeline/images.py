"""Periodic states as ordinary ones: the images of a molecule that reach a grid, and the electrons of one box."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pipeline import collocation
from pipeline.collocation import DensityMatrix
from storage.schema import ElectronicState, FloatArray, Grid, IntArray, Shell

TAIL = 1e-7  # bohr^(−3/2); image atoms whose part of every orbital is below it all over the grid are left out
OVERLAP_TAIL = 1e-12
RADII = np.arange(0.25, 80.0, 0.25)  # bohr


def surround(state: ElectronicState, grid: Grid) -> ElectronicState:
    """An ordinary state whose density on the grid is the periodic one; an isolated molecule as it is.

    It holds the molecule and the images that reach the grid: away from it the density is incomplete.
    """
    if state.cell is None:
        return state
    low, high = (np.array([grid.edges(axis)[end] for axis in range(3)]) for end in (0, -1))
    reaches = _reaches(state)
    margin = reaches.max()
    atoms, positions = [np.arange(len(state.numbers))], [state.positions]
    first, last = low - margin - state.positions.max(axis=0), high + margin - state.positions.min(axis=0)
    for shift in _translations(state.cell, first, last):
        centres = state.positions + shift
        near = np.linalg.norm(centres - np.clip(centres, low, high), axis=1) < reaches
        if shift.any():
            atoms.append(np.flatnonzero(near))
            positions.append(centres[near])
    return _gather(state, np.concatenate(atoms), np.concatenate(positions))


def count_electrons(state: ElectronicState) -> float:
    """Trace of D·S: electrons in all space of an isolated molecule, in one box of a periodic state."""
    home = collocation.density_matrix(state)
    total = collocation.count_electrons(home)
    if state.cell is None:
        return total
    softest = min(float(shell.exponents.min()) for shells in state.basis.shells.values() for shell in shells)
    reach = np.ptp(state.positions, axis=0) + math.sqrt(-2 * math.log(OVERLAP_TAIL) / softest)
    between = np.asarray(np.kron([[0.0, 0.5], [0.5, 0.0]], home.values), dtype=np.float64)
    for shift in _translations(state.cell, -reach, reach):
        if tuple(shift) > (0.0, 0.0, 0.0):  # its opposite counts as many
            pair = np.concatenate([state.positions, state.positions + shift])
            total += 2 * collocation.count_electrons(
                DensityMatrix(np.tile(state.numbers, 2), pair, state.basis, between)
            )
    return total


def _translations(cell: tuple[float, float, float], first: FloatArray, last: FloatArray) -> Iterator[FloatArray]:
    """The lattice's translations between two corners, each with shape (3,)."""
    steps = [range(math.ceil(a / edge), math.floor(b / edge) + 1) for a, b, edge in zip(first, last, cell, strict=True)]
    for step in itertools.product(*steps):
        yield np.array(step) * cell


def _gather(state: ElectronicState, atoms: IntArray, positions: FloatArray) -> ElectronicState:
    """The state of these atoms of `state` at new positions, orbitals taken along."""
    sizes = np.array([state.basis.size(state.numbers[[atom]]) for atom in range(len(state.numbers))])
    starts = np.cumsum(sizes) - sizes
    functions = np.concatenate([np.arange(starts[atom], starts[atom] + sizes[atom]) for atom in atoms])
    orbitals = np.ascontiguousarray(state.orbitals[:, functions])
    return replace(state, numbers=state.numbers[atoms], positions=positions, orbitals=orbitals, cell=None)


def _reaches(state: ElectronicState) -> FloatArray:
    """Distance from each atom beyond which its part of every orbital stays below TAIL, shape (atoms,), bohr."""
    largest = np.abs(state.orbitals).max(axis=0)
    reaches, function = [], 0
    for number in state.numbers.tolist():
        bound = np.zeros(len(RADII))
        for shell in state.basis.shells[number]:
            bound += largest[function : function + shell.size].sum() * _envelope(shell)
            function += shell.size
        reaches.append(RADII[np.flatnonzero(bound > TAIL).max(initial=-1) + 1])
    return np.array(reaches)


def _envelope(shell: Shell) -> FloatArray:
    """A bound of every function of the shell at RADII: the harmonics up to l = 5 stay below one."""
    radial = np.abs(shell.coefficients) @ np.exp(-np.outer(shell.exponents, RADII**2))
    return np.asarray(radial * RADII**shell.angular_momentum)
