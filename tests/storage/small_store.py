"""A small store made by the storage room alone, with values any test can predict."""

from pathlib import Path

import numpy as np

from storage.generations import Generation, Place, Run, write_generation
from storage.header import Header, begin_store
from storage.parts import ConformedRow, SourceRow, write_conformer_part, write_source_part
from storage.plan import ChannelLayout, DensityLayout, GenerationPlan, Plan, Refusal, write_plan
from storage.receipts import Outcome, Receipt, write_receipt
from storage.sample_tables import PlannedSample
from storage.schema import Basis, Conformer, ElectronicState, Grid, Molecule, Sample, Shell
from storage.splits import assign_split
from storage.writer import write_shard

CELLS = 4
RECIPE = {
    "source": {"path": "x.csv"},
    "grid": {"spacing_angstrom": 0.2, "sampling": "cell"},
    "channels": {"gradient_magnitude": []},
}
SPLITS = {"train": 0.5, "validation": 0.25, "test": 0.25}
BASIS = Basis(
    {1: (Shell(0, np.array([1.2, 0.3]), np.array([0.5, 0.25])),), 8: (Shell(1, np.array([2.0]), np.array([1.0])),)}
)


def make_conformer(name: str, atoms: int = 2) -> Conformer:
    numbers = np.array([8] + [1] * (atoms - 1), dtype=np.int64)
    positions = np.arange(3.0 * atoms).reshape(atoms, 3) + len(name) / 7
    return Conformer(f"{name}#0", numbers, positions, 0, 0, "O", f"GROUP-{name}")


def make_sample(conformer: Conformer) -> Sample:
    shape = (CELLS, CELLS, CELLS) if conformer.id != "g#0" else (CELLS, 3, CELLS - 1)
    grid = Grid(shape, (0.5,) * 3, (-1.0, 0.0, 0.25))
    functions = BASIS.size(conformer.numbers)
    orbitals = np.arange(2.0 * functions).reshape(2, functions) + conformer.positions[0, 0]
    state = ElectronicState(conformer.numbers, conformer.positions, BASIS, orbitals, np.array([2.0, 0.5]), energy=-1.25)
    values = np.full(grid.shape, conformer.positions[0, 0], dtype=np.float32)
    values[1, 2, -1] = 7
    return Sample(conformer, grid, {"guess": values}, {"guess": state})


def facts_of(sample: Sample) -> dict[str, float]:
    values = sample.channels["guess"].astype(np.float64)
    return {
        "guess_mean": values.mean(),
        "guess_square_mean": np.square(values).mean(),
        "guess_maximum": values.max(),
        "guess_energy_hartree": -1.25,
        "guess_homo_hartree": float("nan"),
        "guess_lumo_hartree": 0.5,
        "guess_spin_square": float("nan"),
        "guess_spin_contamination": float("nan"),
        "guess_rung": 0.0,
        "guess_dipole_x_ebohr": 0.1,
        "guess_dipole_y_ebohr": 0.2,
        "guess_dipole_z_ebohr": 0.3,
        "guess_orbitals": 2.0,
        "guess_alpha_orbitals": 0.0,
    }


NAMES = ["water", "größe", "c", "broken", "e", "f", "g"]
FAILING = {"broken"}


def plan_store(store: Path) -> Plan:
    """Seven rows computed in shards of three, one row refused before, one a duplicate."""
    begin_store(store, Header(RECIPE, "text"))
    samples = [make_sample(make_conformer(name, atoms=2 + len(name) % 3)) for name in NAMES]
    planned = [
        PlannedSample(
            sample.conformer,
            sample.grid,
            assign_split(sample.conformer.group, SPLITS),
            np.eye(3),
            key=bytes([row] * 16),
            state_keys=(bytes([row + 100] * 16),),
        )
        for row, sample in enumerate(samples)
    ]
    rows = [
        ConformedRow(row, name, "ok", "", {"dG": row / 3, "kind": "a"}, (planned[row].conformer,))
        for row, name in enumerate(NAMES)
    ]
    twin = Conformer(**{**vars(planned[0].conformer), "id": "twin#0"})
    giant = Conformer(**{**vars(planned[0].conformer), "id": "giant#0"})
    rows += [
        ConformedRow(7, "nonsense", "invalid_input", "no molecule", {"dG": float("nan"), "kind": "b"}),
        ConformedRow(8, "twin", "ok", "", {"dG": 9.0, "kind": "c"}, (twin,)),
        ConformedRow(9, "giant", "ok", "", {"dG": 8.0, "kind": "d"}, (giant,)),
    ]
    write_source_part(store, 0, [SourceRow(Molecule(row.row, row.id, labels=row.labels)) for row in rows])
    write_generation(store, Generation(1, "x.csv", "", None, 0, 1, [Run(0, 0, len(rows))]))
    write_conformer_part(store, 0, rows, {"computing_seconds": 1.0, "host": "here"})
    generation = GenerationPlan(
        number=1,
        first={CELLS: 0},
        samples={CELLS: len(NAMES)},
        refusals=[Refusal("giant#0", "too_large", "needs 99 cells")],
        aliases={"twin#0": Place(CELLS, 0)},
        retried=[],
        programs={},
        bases={},
    )
    plan = Plan(
        shard_samples=3,
        channels=[ChannelLayout("guess", "electrons bohr-3", "a density")],
        densities=["guess"],
        keeps_wavefunctions=True,
        generations=[generation],
    )
    write_plan(store, plan, {CELLS: planned}, [DensityLayout("guess", BASIS, {CELLS: 3})])
    return plan


def finish_shard(store: Path, plan: Plan, number: int) -> None:
    shard = plan.shards()[number]
    samples, outcomes = [], []
    for name in NAMES[shard.first : shard.last]:
        sample = make_sample(make_conformer(name, atoms=2 + len(name) % 3))
        if name in FAILING:
            samples.append(None)
            outcomes.append(Outcome(f"{name}#0", "not_converged", "after 50 cycles"))
        else:
            samples.append(sample)
            outcomes.append(Outcome(f"{name}#0", "ok", "", facts_of(sample), {"guess": "test 1.0"}))
    objects = write_shard(store, plan, shard, samples)
    write_receipt(store, Receipt(number, outcomes, objects, {"computing_seconds": 2.0, "host": "here"}))
