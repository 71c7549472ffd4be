"""A small dataset without chemistry: each atom a Gaussian, wide in the guess and narrow in the target."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from storage.generations import Generation, Run, write_generation
from storage.header import Header, begin_store
from storage.parts import ConformedRow, write_conformer_part
from storage.plan import ChannelLayout, GenerationPlan, Plan, read_shard_samples, write_plan
from storage.receipts import Outcome, Receipt, write_receipt
from storage.sample_tables import PlannedSample
from storage.schema import Conformer, Grid, Sample
from storage.seal import seal
from storage.writer import write_shard

RECIPE = {
    "electrons": "valence",
    "source": {"path": ""},
    "grid": {"sampling": "cell"},
    "densities": {"guess": {"engine": "gaussian"}, "target": {"engine": "gaussian"}},
    "channels": {"gradient_magnitude": []},
}
CELLS = 20
SPACING = 0.5  # bohr
ELECTRONS = {1: 1.0, 6: 4.0, 8: 6.0}
EXPONENTS: Mapping[str, Mapping[int, float]] = {  # 1/bohr², of the density
    "guess": {1: 0.9, 6: 0.7, 8: 1.0},
    "target": {1: 1.1, 6: 0.9, 8: 1.2},
}
GRID = Grid((CELLS,) * 3, (SPACING,) * 3, (-SPACING * (CELLS - 1) / 2,) * 3)


def sum_gaussians(conformer: Conformer, density: str, grid: Grid = GRID) -> NDArray[np.float32]:
    """Exact cell averages, electrons/bohr³."""
    field = np.zeros(grid.shape)
    for number, position in zip(conformer.numbers.tolist(), conformer.positions, strict=True):
        root = np.sqrt(EXPONENTS[density][number])
        x, y, z = (np.diff(erf(root * (grid.edges(axis) - position[axis]))) / 2 for axis in range(3))
        field += ELECTRONS[number] * np.einsum("i,j,k->ijk", x, y, z)
    return (field / grid.cell_volume).astype(np.float32)


def make_conformer(name: str) -> Conformer:
    """Two to four atoms about 2 bohr apart, drawn from the name."""
    random = np.random.default_rng(list(name.encode()))
    atoms = int(random.integers(2, 5))
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=np.float64)[:atoms]
    positions = corners + random.normal(0, 0.3, (atoms, 3))
    numbers = random.choice(list(ELECTRONS), size=atoms)
    return Conformer(f"{name}#0", numbers, positions, 0, 0, "", name)


def make_grid(shape: tuple[int, int, int], spacing: float = SPACING) -> Grid:
    """Centred on the coordinate origin."""
    x, y, z = (-spacing * (cells - 1) / 2 for cells in shape)
    return Grid(shape, (spacing,) * 3, (x, y, z))


def write_store(store: Path, splits: Mapping[str, int], prefix: str = "", grids: Sequence[Grid] = (GRID,)) -> Path:
    """A sealed store with so many samples in each split, on each of the grids in turn."""
    names = [(split, f"{prefix}{split}-{k}") for split, count in splits.items() for k in range(count)]
    return write_conformers(store, [(split, make_conformer(name)) for split, name in names], grids)


def write_conformers(store: Path, conformers: Sequence[tuple[str, Conformer]], grids: Sequence[Grid] = (GRID,)) -> Path:
    """A sealed store of these, each in its split."""
    planned: dict[int, list[PlannedSample]] = {}
    for (split, one), grid in zip(conformers, cycle(grids), strict=False):
        planned.setdefault(max(grid.shape), []).append(PlannedSample(one, grid, split, np.eye(3)))
    planned = dict(sorted(planned.items()))
    counts = {cells: len(samples) for cells, samples in planned.items()}
    channels = [ChannelLayout(name, "electrons bohr-3", name) for name in EXPONENTS]
    generation = GenerationPlan(1, dict.fromkeys(planned, 0), counts, [], {}, [], {}, {})
    plan = Plan(4, channels, [], False, [generation])
    begin_store(store, Header(RECIPE, ""))
    rows = [
        ConformedRow(row, one.id.removesuffix("#0"), "ok", conformers=(one,)) for row, (_, one) in enumerate(conformers)
    ]
    write_generation(store, Generation(1, "", "", None, 0, 1, [Run(0, 0, len(rows))]))
    write_conformer_part(store, 0, rows, {})
    write_plan(store, plan, planned, [])
    for shard in plan.shards():
        samples = [_compute(sample.conformer, sample.grid) for sample in read_shard_samples(store, shard)]
        objects = write_shard(store, plan, shard, samples)
        outcomes = [Outcome(sample.conformer.id, "ok", facts=sample.checks) for sample in samples]
        write_receipt(store, Receipt(shard.number, outcomes, objects, {}))
    seal(store)
    return store


def _compute(conformer: Conformer, grid: Grid) -> Sample:
    channels = {name: sum_gaussians(conformer, name, grid) for name in EXPONENTS}
    checks: dict[str, float] = {}
    for name, values in channels.items():
        checks[f"{name}_mean"] = float(values.mean(dtype=np.float64))
        checks[f"{name}_square_mean"] = float(np.square(values, dtype=np.float64).mean())
        checks[f"{name}_maximum"] = float(values.max())
    return Sample(conformer, grid, channels, checks=checks)
