"""One conformer becomes one sample: states solved, voxels computed from them, electrons counted."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.collocation import count_electrons, integrate_density
from pipeline.engines.protocol import Engine
from pipeline.failures import WrongElectronCount
from pipeline.voxels import Sampling, atom_types, round_to_step, sample_density, sample_gradient_magnitude
from storage.schema import Conformer, ElectronicState, FloatArray, Grid, Sample

STATE_TOLERANCE = 1e-6  # electrons: a state's own count against the molecule's
VOXEL_TOLERANCE = 1e-4  # electrons: the voxels' sum against the analytic integral over the box


@dataclass(frozen=True)
class Fields:
    """Which channels to compute, and how."""

    sampling: Sampling
    densities: tuple[str, ...]
    gradient_magnitude: tuple[str, ...]  # names of densities
    atom_types: tuple[int, ...] | None  # atomic numbers with a channel of their own; None: no such channel
    round_to: float  # electrons/bohr³


def compute_sample(conformer: Conformer, grid: Grid, engines: Mapping[str, Engine], fields: Fields) -> Sample:
    """Solve every density and put its channels on the grid.

    Raises a MoleculeFailed when an engine refuses or fails, or when the electrons do not add up.
    """
    states: dict[str, ElectronicState] = {}
    channels = {}
    checks: dict[str, float] = {}
    for name, engine in engines.items():
        states[name] = engine.solve(conformer)
        missing = count_missing_electrons(name, states[name], conformer, engine)
        checks[f"{name}_missing_electrons"] = missing
    for name in fields.densities:
        values = sample_density(states[name], grid, fields.sampling)
        channels[name] = round_to_step(values, fields.round_to)
        checks.update(check_voxels(name, states[name], grid, fields.sampling, values, channels[name]))
    for name in fields.gradient_magnitude:
        values = sample_gradient_magnitude(states[name], grid, fields.sampling)
        channels[f"{name}_gradient"] = round_to_step(values, fields.round_to)
    if fields.atom_types is not None:
        values = atom_types(conformer.numbers, conformer.positions, grid, fields.sampling, fields.atom_types)
        channels["atom_types"] = round_to_step(values, fields.round_to)
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


def check_voxels(
    name: str, state: ElectronicState, grid: Grid, sampling: Sampling, values: FloatArray, rounded: NDArray[np.float32]
) -> dict[str, float]:
    """Electron counts of one density's voxels: before rounding, after, and the analytic integral over the box.

    Raises WrongElectronCount where cell averages miss the integral by more than 1e-4; point sums are only recorded.
    """
    summed = float(values.sum()) * grid.cell_volume
    stored = float(rounded.sum(dtype=np.float64)) * grid.cell_volume
    analytic = integrate_density(state, (grid.edges(0), grid.edges(1), grid.edges(2)))
    if sampling == "cell" and not abs(summed - analytic) <= VOXEL_TOLERANCE:
        raise WrongElectronCount(
            f"the voxels of density {name!r} hold {summed:.6f} electrons, its integral over the box is {analytic:.6f}: "
            "this is a fault of the voxelization; please report the molecule"
        )
    return {
        f"{name}_electrons": state.electrons,
        f"{name}_box_electrons": analytic,
        f"{name}_summed_electrons": summed,
        f"{name}_voxel_electrons": stored,
    }


def measure_channel(name: str, values: NDArray[np.float32]) -> dict[str, float]:
    """The moments from which a dataset's statistics are made."""
    return {
        f"{name}_mean": float(values.mean(dtype=np.float64)),
        f"{name}_square_mean": float(np.mean(np.square(values, dtype=np.float64))),
        f"{name}_maximum": float(values.max()),
    }
