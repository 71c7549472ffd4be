"""One conformer becomes one sample: states solved, voxels computed from them, electrons counted."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.collocation import integrate_density, integrate_inside_and_everywhere
from pipeline.engines.protocol import (
    DensityEngine,
    Engine,
    FieldEngine,
    RefiningEngine,
    ResamplingEngine,
    SuperpositionEngine,
)
from pipeline.failures import InvalidInput, WrongElectronCount
from pipeline.images import count_electrons, surround
from pipeline.superposition import (
    Superposition,
    integrate_superposition,
    sample_gradient_length,
    sample_superposition,
)
from pipeline.voxels import (
    OCCUPANCY_STEP,
    atom_types,
    choose_epsilon,
    molecular_shape,
    round_to_step,
    sample_density,
    sample_density_and_gradient,
    sample_gradient_magnitude,
)
from storage.schema import Conformer, ElectronicState, FloatArray, Grid, Sample, Sampling

STATE_TOLERANCE = 1e-6  # electrons: a state's own count against the molecule's
VOXEL_TOLERANCE = 1e-4  # electrons: the voxels' sum against the analytic integral over the box


@dataclass(frozen=True)
class Fields:
    """Which channels to compute, and how."""

    sampling: Sampling
    densities: tuple[str, ...]
    gradient_magnitude: tuple[str, ...] = ()  # names of densities
    atom_types: tuple[int, ...] | None = None  # atomic numbers with a channel of their own; None: no such channel
    shape: bool = False
    shape_radius: float | None = None  # bohr, of every atom; None: van der Waals radii
    round_to: float = 0.0  # electrons/bohr³; 0 keeps every bit


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
    for name, engine in engines.items():
        if name not in states and isinstance(engine, Engine):
            if conformer.ligand_atoms:
                raise InvalidInput(
                    f"density {name!r} needs orbitals, which are not computed of a complex, a pocket cut from its "
                    'protein: use engine = "promolecule"'
                )
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
    inside: dict[str, float] = {}
    for name, engine in engines.items():
        if isinstance(engine, Engine):
            counted, inside[name] = integrate_state(states[name], grid)
            checks[f"{name}_missing_electrons"] = find_missing_electrons(name, counted, conformer, engine)
    for name in fields.densities:
        engine = engines[name]
        if isinstance(engine, FieldEngine):
            values = engine.sample(conformer, grid)
            channels[name] = round_to_step(values, fields.round_to)
            checks.update(sum_voxels(name, grid, values, channels[name]))
        elif isinstance(engine, Engine):
            found, sums = voxelize_state(name, states[name], grid, fields, inside[name])
            channels.update(found)
            checks.update(sums)
        elif isinstance(engine, ResamplingEngine):
            values, known = engine.resample(conformer, grid)
            channels[name] = round_to_step(values, fields.round_to)
            checks.update({f"{name}_{fact}": number for fact, number in known.items()})
        elif isinstance(engine, SuperpositionEngine):
            found, sums = voxelize_superposition(name, superpose(name, engine, conformer), grid, fields)
            channels.update(found)
            checks.update(sums)
            inside[name] = sums[f"{name}_box_electrons"]
    for name in fields.densities:
        engine = engines[name]
        if isinstance(engine, RefiningEngine):
            values, known = engine.refine(conformer, grid, channels[engine.input], inside[engine.input])
            channels[name] = round_to_step(values, fields.round_to)
            checks.update(sum_voxels(name, grid, values, channels[name]))
            checks.update({f"{name}_{fact}": number for fact, number in known.items()})
    for name in fields.gradient_magnitude:
        engine = engines[name]
        if name in fields.densities:
            continue
        if isinstance(engine, SuperpositionEngine):
            values = sample_gradient_length(superpose(name, engine, conformer), grid, fields.sampling)
        else:
            values = sample_gradient_magnitude(states[name], grid, fields.sampling, choose_epsilon(fields.round_to))
        channels[f"{name}_gradient"] = round_to_step(values, fields.round_to)
    occupancy_step = max(OCCUPANCY_STEP, fields.round_to) if fields.round_to else 0.0
    if fields.atom_types is not None:
        values = atom_types(conformer.numbers, conformer.positions, grid, fields.sampling, fields.atom_types)
        channels["atom_types"] = round_to_step(values, occupancy_step)
    if fields.shape:
        values = molecular_shape(conformer.numbers, conformer.positions, grid, fields.sampling, fields.shape_radius)
        channels["shape"] = round_to_step(values, occupancy_step)
    for name, stored in channels.items():
        checks.update(measure_channel(name, stored))
    return Sample(conformer, grid, channels, states, checks)


def voxelize_state(
    name: str, state: ElectronicState, grid: Grid, fields: Fields, inside: float
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """A density, with its gradient's length where that is wanted too, and its electrons, of which `inside` are here.

    Raises WrongElectronCount where cells miss that by more than 1e-4; point sums are only recorded.
    """
    epsilon, channels = choose_epsilon(fields.round_to), {}
    if name in fields.gradient_magnitude:
        values, lengths = sample_density_and_gradient(state, grid, fields.sampling, epsilon)
        channels[f"{name}_gradient"] = round_to_step(lengths, fields.round_to)
    else:
        values = sample_density(state, grid, fields.sampling, epsilon)
    channels[name] = round_to_step(values, fields.round_to)
    sums = sum_voxels(name, grid, values, channels[name])
    if fields.sampling == "cell":
        check_voxels(name, sums[f"{name}_summed_electrons"], inside)
    return channels, {f"{name}_electrons": state.electrons, f"{name}_box_electrons": inside, **sums}


def voxelize_superposition(
    name: str, whole: Superposition, grid: Grid, fields: Fields
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """As `voxelize_state`."""
    channels = {}
    values = sample_superposition(whole, grid, fields.sampling)
    channels[name] = round_to_step(values, fields.round_to)
    if name in fields.gradient_magnitude:
        lengths = sample_gradient_length(whole, grid, fields.sampling)
        channels[f"{name}_gradient"] = round_to_step(lengths, fields.round_to)
    sums, inside = sum_voxels(name, grid, values, channels[name]), integrate_superposition(whole, grid)
    if fields.sampling == "cell":
        check_voxels(name, sums[f"{name}_summed_electrons"], inside)
    counts = {f"{name}_electrons": whole.count, f"{name}_box_electrons": inside}
    return channels, {**counts, **sums, f"{name}_orbital_atoms": float(whole.orbital_atoms)}


def superpose(name: str, engine: SuperpositionEngine, conformer: Conformer) -> Superposition:
    """Raises WrongElectronCount where its parts miss the electrons of their atoms by more than 1e-6."""
    whole = engine.superpose(conformer)
    expected = sum(int(z) - engine.core_electrons(int(z)) for z in engine.select(conformer)) - whole.charge
    if not abs(expected - whole.count) <= STATE_TOLERANCE:
        raise WrongElectronCount(
            f"density {name!r} holds {whole.count:.8f} electrons instead of {expected}: its table of atoms is wrong"
        )
    return whole


def integrate_state(state: ElectronicState, grid: Grid) -> tuple[float, float]:
    """Electrons in all space, or in one box of a periodic state, the trace of D·S; and those over the grid."""
    edges = (grid.edges(0), grid.edges(1), grid.edges(2))
    if state.cell is None:
        inside, everywhere = integrate_inside_and_everywhere(state, edges)
        return everywhere, inside
    return count_electrons(state), integrate_density(surround(state, grid), edges)


def find_missing_electrons(name: str, counted: float, conformer: Conformer, engine: Engine) -> float:
    """The molecule's electrons less those of the state. Raises WrongElectronCount beyond 1e-6."""
    expected = expected_electrons(conformer, engine)
    if not abs(expected - counted) <= STATE_TOLERANCE:
        raise WrongElectronCount(
            f"density {name!r} holds {counted:.8f} electrons instead of {expected} (charge {conformer.charge}): "
            "the engine's orbitals are not normalised, or its core is not what was declared"
        )
    return expected - counted


def expected_electrons(conformer: Conformer, engine: Engine) -> int:
    """Electrons of the molecule that the engine counts."""
    return sum(int(z) - engine.core_electrons(int(z)) for z in conformer.numbers) - conformer.charge


def check_voxels(name: str, summed: float, analytic: float) -> None:
    """Raises WrongElectronCount where cell averages miss the integral over the box by more than 1e-4 electrons."""
    if not abs(summed - analytic) <= VOXEL_TOLERANCE:
        raise WrongElectronCount(
            f"the voxels of density {name!r} hold {summed:.6f} electrons, its integral over the box is {analytic:.6f}: "
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
