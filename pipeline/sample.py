"""One conformer becomes one sample: states solved, voxels computed from them, electrons counted."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.collocation import integrate_density
from pipeline.engines.protocol import DensityEngine, Engine, FieldEngine, SuperpositionEngine, select_solving
from pipeline.failures import WrongElectronCount
from pipeline.images import count_electrons, surround
from pipeline.superposition import (
    Superposition,
    integrate_superposition,
    sample_gradient_length,
    sample_superposition,
)
from pipeline.voxels import atom_types, molecular_shape, round_to_step, sample_density, sample_gradient_magnitude
from storage.schema import Conformer, ElectronicState, FloatArray, Grid, Sample, Sampling

STATE_TOLERANCE = 1e-6  # electrons: a state's own count against the molecule's
VOXEL_TOLERANCE = 1e-4  # electrons: the voxels' sum against the analytic integral over the box


@dataclass(frozen=True)
class Fields:
    """Which channels to compute, and how."""

    sampling: Sampling
    densities: tuple[str, ...]
    gradient_magnitude: tuple[str, ...]  # names of densities
    atom_types: tuple[int, ...] | None  # atomic numbers with a channel of their own; None: no such channel
    shape: bool
    round_to: float  # electrons/bohr³


def compute_sample(
    conformer: Conformer,
    grid: Grid,
    engines: Mapping[str, DensityEngine],
    fields: Fields,
    known: Mapping[str, ElectronicState] | None = None,
) -> Sample:
    """Solve every density that has orbitals and is not `known` already, and put the channels of all on the grid.

    Raises a MoleculeFailed when an engine refuses or fails, or when the electrons do not add up.
    """
    states = dict(known or {})
    for name, engine in select_solving(engines).items():
        if name not in states:
            states[name] = engine.solve(conformer)
    return sample_states(conformer, grid, states, engines, fields)


def sample_states(
    conformer: Conformer,
    grid: Grid,
    states: Mapping[str, ElectronicState],
    engines: Mapping[str, DensityEngine],
    fields: Fields,
) -> Sample:
    """The channels, from the densities that are solved already. Raises WrongElectronCount."""
    channels = {}
    checks: dict[str, float] = {}
    for name, engine in select_solving(engines).items():
        checks[f"{name}_missing_electrons"] = count_missing_electrons(name, states[name], conformer, engine)
    wholes = {
        name: superpose(name, engine, conformer)
        for name, engine in engines.items()
        if isinstance(engine, SuperpositionEngine) and name in (*fields.densities, *fields.gradient_magnitude)
    }
    for name in fields.densities:
        engine = engines[name]
        if isinstance(engine, FieldEngine):
            values = engine.sample(conformer, grid)
            channels[name] = round_to_step(values, fields.round_to)
            checks.update(sum_voxels(name, grid, values, channels[name]))
        elif name in wholes:
            values = sample_superposition(wholes[name], grid, fields.sampling)
            channels[name] = round_to_step(values, fields.round_to)
            checks.update(check_superposition(name, wholes[name], grid, fields.sampling, values, channels[name]))
        else:
            values = sample_density(states[name], grid, fields.sampling)
            channels[name] = round_to_step(values, fields.round_to)
            checks.update(check_voxels(name, states[name], grid, fields.sampling, values, channels[name]))
    for name in fields.gradient_magnitude:
        if name in wholes:
            values = sample_gradient_length(wholes[name], grid, fields.sampling)
        else:
            values = sample_gradient_magnitude(states[name], grid, fields.sampling)
        channels[f"{name}_gradient"] = round_to_step(values, fields.round_to)
    if fields.atom_types is not None:
        values = atom_types(conformer.numbers, conformer.positions, grid, fields.sampling, fields.atom_types)
        channels["atom_types"] = round_to_step(values, fields.round_to)
    if fields.shape:
        values = molecular_shape(conformer.numbers, conformer.positions, grid, fields.sampling)
        channels["shape"] = round_to_step(values, fields.round_to)
    for name, stored in channels.items():
        checks.update(measure_channel(name, stored))
    return Sample(conformer, grid, channels, states, checks)


def count_missing_electrons(name: str, state: ElectronicState, conformer: Conformer, engine: Engine) -> float:
    """The molecule's electrons less those of the state (trace of D·S). Raises WrongElectronCount beyond 1e-6."""
    expected = expected_electrons(conformer, engine)
    counted = count_electrons(state)
    if not abs(expected - counted) <= STATE_TOLERANCE:
        raise WrongElectronCount(
            f"density {name!r} holds {counted:.8f} electrons instead of {expected} (charge {conformer.charge}): "
            "the engine's orbitals are not normalised, or its core is not what was declared"
        )
    return expected - counted


def expected_electrons(conformer: Conformer, engine: Engine) -> int:
    """Electrons of the molecule that the engine counts."""
    return sum(int(z) - engine.core_electrons(int(z)) for z in conformer.numbers) - conformer.charge


def superpose(name: str, engine: SuperpositionEngine, conformer: Conformer) -> Superposition:
    """Raises WrongElectronCount where its parts miss the electrons of their atoms by more than 1e-6."""
    whole = engine.superpose(conformer)
    expected = sum(int(z) - engine.core_electrons(int(z)) for z in conformer.numbers) - whole.charge
    if not abs(expected - whole.count) <= STATE_TOLERANCE:
        raise WrongElectronCount(
            f"density {name!r} holds {whole.count:.8f} electrons instead of {expected}: its table of atoms is wrong"
        )
    return whole


def check_superposition(
    name: str, whole: Superposition, grid: Grid, sampling: Sampling, values: FloatArray, rounded: NDArray[np.float32]
) -> dict[str, float]:
    """As `check_voxels`; and how many atoms have orbitals, the first ones, before the spheres begin."""
    sums = sum_voxels(name, grid, values, rounded)
    inside = integrate_superposition(whole, grid)
    check_sum(name, sums, inside, sampling)
    orbital_atoms = 0 if whole.state is None else len(whole.state.numbers)
    return {
        f"{name}_electrons": whole.count,
        f"{name}_box_electrons": inside,
        f"{name}_orbital_atoms": float(orbital_atoms),
        **sums,
    }


def check_voxels(
    name: str, state: ElectronicState, grid: Grid, sampling: Sampling, values: FloatArray, rounded: NDArray[np.float32]
) -> dict[str, float]:
    """Electron counts of one density's voxels: before rounding, after, and the analytic integral over the box.

    Raises WrongElectronCount where cell averages miss the integral by more than 1e-4; point sums are only recorded.
    """
    sums = sum_voxels(name, grid, values, rounded)
    inside = integrate_density(surround(state, grid), (grid.edges(0), grid.edges(1), grid.edges(2)))
    check_sum(name, sums, inside, sampling)
    return {
        f"{name}_electrons": state.electrons,
        f"{name}_box_electrons": inside,
        **sums,
    }


def check_sum(name: str, sums: Mapping[str, float], inside: float, sampling: Sampling) -> None:
    """Raises WrongElectronCount where cell averages do not sum to the electrons inside the box."""
    summed = sums[f"{name}_summed_electrons"]
    if sampling == "cell" and not abs(summed - inside) <= VOXEL_TOLERANCE:
        raise WrongElectronCount(
            f"the voxels of density {name!r} hold {summed:.6f} electrons, its integral over the box is {inside:.6f}: "
            "this is a fault of the voxelization; please report the molecule"
        )


def sum_voxels(name: str, grid: Grid, values: FloatArray, rounded: NDArray[np.float32]) -> dict[str, float]:
    """Electrons in one density's voxels, before rounding and after: recorded, not judged."""
    return {
        f"{name}_summed_electrons": float(values.sum()) * grid.cell_volume,
        f"{name}_voxel_electrons": float(rounded.sum(dtype=np.float64)) * grid.cell_volume,
    }


def measure_channel(name: str, values: NDArray[np.float32]) -> dict[str, float]:
    """The moments from which a dataset's statistics are made."""
    return {
        f"{name}_mean": float(values.mean(dtype=np.float64)),
        f"{name}_square_mean": float(np.mean(np.square(values, dtype=np.float64))),
        f"{name}_maximum": float(values.max()),
    }
