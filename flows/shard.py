"""Computes one shard: a plain function of store and number, called in a loop, by Dask or by a batch job."""

import functools
import importlib.metadata
import platform
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flows.conform import read_stored_recipe
from flows.engines import build_engines, choose_fields
from flows.kept import KeptStates, open_kept_states
from flows.recipe import Recipe
from flows.reuse import KnownSamples, open_known
from flows.workers.isolation import Report, borrow_child
from flows.workers.kernel import name_kernel
from pipeline.engines.protocol import DensityEngine
from pipeline.failures import FailedBefore, MoleculeFailed
from pipeline.sample import Fields, compute_sample, sample_states
from storage.claims import claim_shard
from storage.generations import Origin, count_generations, read_generation
from storage.header import read_header
from storage.layout import HEADER, generation_key, plan_key
from storage.objects import Location, checksum_object, locate
from storage.plan import Plan, Shard, read_plan, read_shard_samples
from storage.receipts import Outcome, Receipt, has_receipt, read_receipt, write_receipt
from storage.sample_tables import PlannedSample
from storage.schema import ElectronicState, Sample
from storage.writer import write_shard


@dataclass(frozen=True)
class Work:
    """What every shard of a store needs to know, read once per process."""

    recipe: Recipe
    plan: Plan
    engines: dict[str, DensityEngine]
    fields: Fields
    origins: dict[int, Origin | None]  # by generation: the store that samples are taken from
    kept: KeptStates | None  # the wavefunctions to use, where none is to be computed


@dataclass(frozen=True)
class Computed:
    """A sample, or None where it failed, with what the receipt says of it and how it came about."""

    sample: Sample | None
    outcome: Outcome
    report: Report[Sample]
    is_taken: bool = False  # from another store, whole
    states_taken: int = 0  # or this many of its wavefunctions


def read_work(store: Location) -> Work:
    number = count_generations(store)
    keys = (plan_key(number), generation_key(number), HEADER)
    return _read_work(store, "".join(checksum_object(store, key) for key in keys))


@functools.lru_cache(maxsize=2)
def _read_work(store: Location, content: str) -> Work:  # noqa: ARG001
    header = read_header(store)
    recipe = read_stored_recipe(store)
    origin = header.origin
    kept = open_kept_states(locate(origin.store), origin.fingerprint) if origin else None
    plan = read_plan(store)
    origins = {one.number: read_generation(store, one.number).reuse for one in plan.generations}
    return Work(recipe, plan, build_engines(recipe), choose_fields(recipe), origins, kept)


_storing = threading.Lock()  # one shard at a time: where storing is slower, computing waits, and memory stays small
_storer = ThreadPoolExecutor(1)  # a thread of its own, which a worker that is told to end still waits for


def compute_shard(store: Location, number: int, on_computed: Callable[[], None] = lambda: None) -> Receipt:
    """Compute a shard, store it whole, then its receipt; a shard that has a receipt is left alone.

    `on_computed` is called when nothing is left but to store it, so that the next shard may be begun.
    """
    with claim_shard(store, number):
        if has_receipt(store, number):
            return read_receipt(store, number)
        started = time.monotonic()
        work = read_work(store)
        shard = work.plan.shards()[number]
        computed = compute_samples(store, work, shard)
        with _storing:
            stored = _storer.submit(store_shard, store, work, shard, computed, started)
            on_computed()
            return stored.result()


def compute_samples(store: Location, work: Work, shard: Shard) -> list[Computed]:
    origin = work.origins[shard.generation]
    known = open_known(origin) if origin else None
    return [take_or_compute(planned, work, known) for planned in read_shard_samples(store, shard)]


def store_shard(store: Location, work: Work, shard: Shard, computed: Sequence[Computed], started: float) -> Receipt:
    """The samples, whole, and then their receipt. `started`: when the shard was, time.monotonic()."""
    reports = [one.report for one in computed]
    objects = write_shard(store, work.plan, shard, [one.sample for one in computed])
    receipt = Receipt(
        shard=shard.number,
        outcomes=[one.outcome for one in computed],
        objects=objects,
        circumstances={
            "taken_over": sum(one.is_taken for one in computed),
            "states_taken_over": sum(one.states_taken for one in computed),
            "computing_seconds": sum(report.seconds for report in reports),
            "wall_seconds": time.monotonic() - started,
            "sample_seconds": [report.seconds for report in reports],
            "attempts": [report.attempts for report in reports],
            "peak_memory_gib": max(report.peak_gib for report in reports),
            "host": platform.node(),
            "kernel": name_kernel(),
            "versions": _list_versions(),
        },
    )
    write_receipt(store, receipt)
    return receipt


@functools.cache
def _list_versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("rhoflow", "numpy", "zarr")}


def take_or_compute(planned: PlannedSample, work: Work, known: KnownSamples | None) -> Computed:
    """The sample as another store has it, or computed from what that store has of it."""
    if known and (taken := known.take_sample(planned)):
        return Computed(taken.sample, taken.outcome, Report(taken.sample, 0.0), is_taken=True)
    states = known.take_states(planned, list(work.plan.densities)) if known else {}
    report = compute_planned(planned, work, states)
    sample = None if isinstance(report.end, MoleculeFailed) else report.end
    return Computed(sample, report_outcome(planned.conformer.id, report), report, states_taken=len(states))


def compute_planned(sample: PlannedSample, work: Work, known: dict[str, ElectronicState]) -> Report[Sample]:
    """One sample, in the child: solved but for the `known` states, or voxelized from wavefunctions kept elsewhere."""
    limits = work.recipe.limits
    what = (sample.conformer, sample.grid)
    how = (work.engines, work.fields)
    with borrow_child(limits.memory_gib) as child:
        if work.kept is None:
            return child.run(compute_sample, *what, *how, known, seconds=limits.seconds_per_molecule)
        try:
            kept = work.kept.read(sample)
        except FailedBefore as failure:
            return Report(failure, 0.0)
        states = {name: kept[name] for name in work.plan.densities}
        return child.run(sample_states, *what, states, *how, seconds=limits.seconds_per_molecule)


def report_outcome(id: str, report: Report[Sample]) -> Outcome:
    """What the receipt says of a sample."""
    if isinstance(report.end, MoleculeFailed):
        return Outcome(id, report.end.reason, str(report.end))
    facts = dict(report.end.checks)
    for name, state in report.end.states.items():
        facts.update(_state_facts(name, state))
    return Outcome(id, "ok", "", facts, {name: state.program for name, state in report.end.states.items()})


def _state_facts(name: str, state: ElectronicState) -> dict[str, float]:
    dipole = {f"{name}_dipole_{axis}_ebohr": value for axis, value in zip("xyz", state.dipole, strict=True)}
    cell = {f"{name}_cell_{axis}_bohr": edge for axis, edge in zip("xyz", state.cell or (), strict=False)}
    return {
        f"{name}_energy_hartree": state.energy,
        f"{name}_homo_hartree": state.homo,
        f"{name}_lumo_hartree": state.lumo,
        f"{name}_spin_square": state.spin_square,
        f"{name}_spin_contamination": state.spin_contamination,
        f"{name}_rung": float(state.rung),
        f"{name}_orbitals": float(len(state.occupations)),
        f"{name}_alpha_orbitals": float(state.alpha_orbitals),
        **dipole,
        **cell,
    }
