"""Physics again: some samples of a store, computed anew from their conformers, beside what is stored."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.care.compare_stores import ArrayDifference, StoredShards, compare_arrays
from flows.conform import read_stored_recipe
from flows.engines import build_engines, choose_fields
from flows.kept import KeptStates
from flows.recipe import Recipe
from flows.workers.isolation import borrow_child
from flows.workers.kernel import name_kernel
from pipeline.failures import MoleculeFailed
from pipeline.sample import compute_sample, sample_states
from storage.generations import Place
from storage.layout import receipt_key
from storage.objects import Location
from storage.parts import read_circumstances
from storage.plan import Shard

SEED = 7
NMAE_TOLERANCE = 1e-5  # another CPU kernel moves values at the edge of a rounding step, and the ends of iterations
ELECTRON_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Recomputation:
    """One sample computed again. Empty differences: every bit is the same."""

    id: str
    outcome: str  # "ok", or how it failed this time
    kernel: str  # on which it had been computed; "" where that is this one
    engines: Mapping[str, ArrayDifference]  # channels from the conformer that differ, by name
    electrons: Mapping[str, float]  # of these channels: by how much their sums over all cells differ
    voxels: Mapping[str, ArrayDifference]  # channels from the kept wavefunctions that differ

    @property
    def is_sound(self) -> bool:
        """Within the tolerances; voxels from kept wavefunctions repeat every bit, on the kernel that made them."""
        nmae = max((difference.nmae for difference in self.engines.values()), default=0.0)
        apart = max(map(abs, self.electrons.values()), default=0.0)
        drift = max((difference.nmae for difference in self.voxels.values()), default=0.0)
        allowed = NMAE_TOLERANCE if self.kernel else 0.0
        return self.outcome == "ok" and nmae <= NMAE_TOLERANCE and apart <= ELECTRON_TOLERANCE and drift <= allowed


def recompute_samples(store: Location, count: int, seed: int = SEED) -> Iterator[Recomputation]:
    """`count` of the samples that are ok, or all where there are fewer, chosen by `seed`."""
    stored = StoredShards(store)
    places = [
        (shard, row)
        for shard in stored.shards
        for row, outcome in enumerate(stored.receipt(shard).outcomes)
        if outcome.outcome == "ok" and Place(shard.cells, shard.first + row) in stored.version.owners
    ]
    chosen = sorted(random.Random(seed).sample(range(len(places)), min(count, len(places))))
    recipe = read_stored_recipe(store)
    kept = KeptStates(store) if stored.plan.keeps_wavefunctions and chosen else None
    for index in chosen:
        yield _recompute(stored, *places[index], recipe, kept)


def describe_recomputations(samples: Sequence[Recomputation]) -> Iterator[str]:
    """In lines, with the tolerances last."""
    for sample in samples:
        verdict = "sound" if sample.is_sound else "NOT SOUND"
        where = f"; computed on kernel {sample.kernel}, this is {name_kernel()}" if sample.kernel else ""
        yield f"  {sample.id}: {verdict}: {'; '.join(_list_differences(sample)) or 'identical'}{where}"
    allowed = f"NMAE {NMAE_TOLERANCE:g}, {ELECTRON_TOLERANCE:g} electrons"
    yield f"  {len(samples)} samples computed again; tolerances: {allowed}"


def _list_differences(sample: Recomputation) -> Iterator[str]:
    if sample.outcome != "ok":
        yield f"was ok, now {sample.outcome}"
    for name, difference in sample.engines.items():
        yield f"{name} NMAE {difference.nmae:.2g}, {sample.electrons[name]:+.2g} electrons"
    for name, difference in sample.voxels.items():
        yield f"{name} from its wavefunction NMAE {difference.nmae:.2g}"


def _recompute(stored: StoredShards, shard: Shard, row: int, recipe: Recipe, kept: KeptStates | None) -> Recomputation:
    planned, limits = stored.samples(shard)[row], recipe.limits
    engines, fields = build_engines(recipe), choose_fields(recipe)
    what, how = (planned.conformer, planned.grid), (engines, fields)
    with borrow_child(limits.memory_gib) as child:
        made = child.run(compute_sample, *what, *how, seconds=limits.seconds_per_molecule).end
    kernel = read_circumstances(stored.store, receipt_key(shard.number)).get("kernel", "unknown")
    before = "" if kernel == name_kernel() else str(kernel)
    if isinstance(made, MoleculeFailed):
        return Recomputation(planned.conformer.id, f"{made.reason}: {made}", before, {}, {}, {})
    channels = {name: stored.read_array(name, shard, row) for name in stored.list_channels()}
    differing = _compare_channels(channels, made.channels)
    volume = planned.grid.cell_volume
    electrons = {name: _sum(made.channels[name], volume) - _sum(channels[name], volume) for name in differing}
    voxels: Mapping[str, ArrayDifference] = {}
    if kept is not None:
        states = kept.read_at(Place(shard.cells, shard.first + row), planned)
        with borrow_child(limits.memory_gib) as child:
            again = child.run(sample_states, *what, states, *how, seconds=limits.seconds_per_molecule).end
        if isinstance(again, MoleculeFailed):
            return Recomputation(planned.conformer.id, f"{again.reason}: {again}", before, differing, electrons, {})
        voxels = _compare_channels(channels, again.channels)
    return Recomputation(planned.conformer.id, "ok", before, differing, electrons, voxels)


def _compare_channels(
    stored: Mapping[str, NDArray[np.floating[Any]]], made: Mapping[str, NDArray[np.float32]]
) -> dict[str, ArrayDifference]:
    """Of the channels that differ."""
    return {
        name: compare_arrays(values, made[name])
        for name, values in stored.items()
        if not np.array_equal(values, made[name])
    }


def _sum(values: NDArray[np.floating[Any]], volume: float) -> float:
    return float(values.sum(dtype=np.float64)) * volume
