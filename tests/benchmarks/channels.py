"""QM9 molecules through GFN2-xTB to voxels of every channel at 0.25 Å, beside a plain script that makes the same.

The script makes fixed cubes, so that its arrays can be stacked; ours makes tight boxes, which training lays into cubes.
A second figure is for a script that makes the same tight boxes.

The script solves with tblite, evaluates the orbitals and their slopes with PySCF at the cells' centres, sums the atoms'
Gaussians with NumPy, and writes with numpy.save. Ours averages exactly, counts the electrons, rounds, compresses, keeps
the wavefunctions, and isolates every molecule. CPU seconds of all processes, shard by shard in turns.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from pyscf import dft, gto
from tblite.interface import Calculator

from flows.conform import conform_part
from flows.plan import plan_dataset
from flows.recipe import read_recipe, recipe_values
from flows.shard import compute_shard
from flows.source import read_source
from pipeline.atomic_properties import VAN_DER_WAALS
from pipeline.engines.xtb import element_basis
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import place_grid
from storage.generations import count_parts
from storage.header import Header, begin_store
from storage.plan import Shard, read_shard_samples
from storage.sample_tables import PlannedSample
from storage.schema import FloatArray
from tests.benchmarks.timing import cpu_seconds

RECIPE = Path(__file__).parents[2] / "deploy/datasets/qm9-channels.toml"
MOLECULES, SHARD = 96, 16
ELEMENTS = (1, 6, 7, 8, 9)
SHAPE_RADIUS = 1.7 * BOHR_PER_ANGSTROM
CUBE, CUBES = 64, 4  # cells along an edge, of every so-manieth molecule
POINTS = 8000  # at a time


def plan(store: Path) -> list[Shard]:
    text = RECIPE.read_text()
    changes = {"count = 10000": f"count = {MOLECULES}", "shard_samples = 64": f"shard_samples = {SHARD}"}
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    file = store.with_suffix(".toml")
    file.write_text(text)
    recipe = read_recipe(file)
    begin_store(store, Header(recipe_values(recipe), text))
    read_source(store, recipe)
    for part in range(count_parts(store)):
        conform_part(store, part)
    return plan_dataset(store).shards()


def seconds_of_all_processes(work: Callable[[], object]) -> float:
    """CPU, of this process and of its children, which stay alive."""
    mine = psutil.Process()

    def spent() -> float:
        times = [process.cpu_times() for process in (mine, *mine.children(recursive=True))]
        return sum(time.user + time.system for time in times)

    before = spent()
    work()
    return spent() - before


def build_molecule(sample: PlannedSample) -> gto.Mole:
    """GFN2's Gaussians as PySCF takes them."""
    numbers, positions = sample.conformer.numbers.tolist(), sample.conformer.positions
    basis = {
        gto.mole._symbol(number): [
            [
                shell.angular_momentum,
                *(
                    [exponent, coefficient / gto.gto_norm(shell.angular_momentum, exponent)]
                    for exponent, coefficient in zip(shell.exponents, shell.coefficients, strict=True)
                ),
            ]
            for shell in element_basis("gfn2", "tblite", number)
        ]
        for number in set(numbers)
    }
    atoms = list(zip(numbers, positions.tolist(), strict=True))
    return gto.M(atom=atoms, unit="Bohr", basis=basis, spin=None, verbose=0)


def solve(sample: PlannedSample) -> tuple[FloatArray, FloatArray]:
    """Orbital coefficients (functions, orbitals) in tblite's order, and occupations."""
    calculator = Calculator("GFN2-xTB", sample.conformer.numbers, sample.conformer.positions, color=False)
    calculator.set("verbosity", 0)
    calculator.set("accuracy", 0.01)
    result = calculator.singlepoint()
    return result.get("orbital-coefficients"), result.get("orbital-occupations")


def reorder(molecule: gto.Mole, coefficients: FloatArray) -> FloatArray:
    """tblite's y, z, x of each p shell to x, y, z."""
    places, first = [], 0
    for shell in range(molecule.nbas):
        size = 2 * molecule.bas_angular(shell) + 1
        places += [first] if size == 1 else [first + 2, first, first + 1]
        first += size
    return coefficients[places]


def evaluate(sample: PlannedSample) -> dict[str, FloatArray]:
    """Every channel, at the centres of the cells."""
    grid = sample.grid
    coefficients, occupations = solve(sample)
    molecule = build_molecule(sample)
    orbitals = reorder(molecule, coefficients)
    axes = [grid.centres(axis) for axis in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    fields = []
    for block in np.array_split(points, max(1, len(points) // POINTS)):
        values = molecule.eval_gto("GTOval_sph_deriv1", block)
        fields.append(dft.numint.eval_rho2(molecule, values, orbitals, occupations, xctype="GGA"))
    density, *slopes = np.concatenate(fields, axis=1).reshape(4, *grid.shape)
    types, empty = np.zeros((len(ELEMENTS) + 1, *grid.shape)), np.ones(grid.shape)
    for number, position in zip(sample.conformer.numbers.tolist(), sample.conformer.positions, strict=True):
        squares = np.sum((points - position) ** 2, axis=1).reshape(grid.shape)
        types[ELEMENTS.index(number)] += np.exp(-2 * squares / (VAN_DER_WAALS[number] * BOHR_PER_ANGSTROM) ** 2)
        empty *= 1 - np.exp(-2 * squares / SHAPE_RADIUS**2)
    gradient = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2)
    return {"xtb": density, "xtb_gradient": gradient, "atom_types": types, "shape": 1 - empty}


def run_script(samples: Sequence[PlannedSample], folder: Path) -> None:
    for sample in samples:
        for name, values in evaluate(sample).items():
            np.save(folder / f"{sample.conformer.id}_{name}.npy", values.astype(np.float32))


def lay_cube(sample: PlannedSample) -> PlannedSample:
    """The sample with the cube that every molecule gets."""
    grid = place_grid(sample.conformer.positions, sample.grid.spacing[0], 0.0, (CUBE,))
    return replace(sample, grid=grid)


@dataclass(frozen=True)
class Round:
    """CPU seconds of one molecule."""

    ours: float
    cubes: float
    tight: float
    gfn2: float


def take_round(store: Path, shard: Shard, folder: Path) -> Round:
    samples = read_shard_samples(store, shard)
    cubes = [lay_cube(sample) for sample in samples[::CUBES]]
    ours = seconds_of_all_processes(lambda: compute_shard(store, shard.number))
    of_cubes = cpu_seconds(lambda: run_script(cubes, folder))
    tight = cpu_seconds(lambda: run_script(samples, folder))
    gfn2 = cpu_seconds(lambda: [solve(sample) for sample in samples])
    count = len(samples)
    return Round(ours / count, of_cubes / len(cubes), tight / count, gfn2 / count)


def main() -> None:
    gto.mole.NORMALIZE_GTO = False  # the coefficients are complete
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = folder / "channels.zarr"
        first, *shards = plan(store)
        compute_shard(store, first.number)  # a child is started, and everything imported
        run_script(read_shard_samples(store, first)[:2], folder)
        rounds = [take_round(store, shard, folder) for shard in shards]
    ours, gfn2 = (statistics.median(getattr(one, name) for one in rounds) for name in ("ours", "gfn2"))
    print(
        f"  QM9 at 0.25 Å, CPU of all processes: {1e3 * ours:.1f} ms a molecule, {3600 / ours:,.0f} per core-hour; "
        f"GFN2 alone {1e3 * gfn2:.1f} ms"
    )
    for name, what in (("cubes", f"making cubes of {CUBE}³"), ("tight", "making the same tight boxes")):
        peer = statistics.median(getattr(one, name) for one in rounds)
        ratio = statistics.median(getattr(one, name) / one.ours for one in rounds)
        print(f"  {ratio:6.1f}×  ({1e3 * ours:.1f} ms against {1e3 * peer:.1f} ms) tblite, PySCF, numpy.save, {what}")


if __name__ == "__main__":
    main()
