"""Computes one shard: a plain function of store and number, called in a loop, by Dask or by a batch job."""

import functools
import importlib.metadata
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from flows.conform import read_stored_recipe
from flows.engines import build_engines, choose_fields
from flows.isolation import Report, shared_child
from flows.kept import KeptStates, open_kept_states
from flows.kernel import name_kernel
from flows.recipe import Recipe
from pipeline.engines.protocol import DensityEngine
from pipeline.failures import FailedBefore, MoleculeFailed
from pipeline.sample import Fields, compute_sample, sample_states
from storage.claims import claim_shard
from storage.header import read_header
from storage.layout import HEADER, PLAN
from storage.objects import Location, checksum_object
from storage.plan import Plan, PlannedSample, read_plan, read_shard_samples
from storage.receipts import Outcome, Receipt, has_receipt, read_receipt, write_receipt
from storage.schema import ElectronicState, Sample
from storage.writer import write_shard


@dataclass(frozen=True)
class Work:
    """What every shard of a store needs to know, read once per process."""

    recipe: Recipe
    plan: Plan
    engines: dict[str, DensityEngine]
    fields: Fields
    kept: KeptStates | None  # the wavefunctions to use, where none is to be computed


def read_work(store: Location) -> Work:
    return _read_work(store, checksum_object(store, PLAN) + checksum_object(store, HEADER))


@functools.lru_cache(maxsize=2)
def _read_work(store: Location, content: str) -> Work:  # noqa: ARG001
    header = read_header(store)
    recipe = read_stored_recipe(store)
    origin = header.origin
    kept = open_kept_states(Path(origin.store), origin.fingerprint) if origin else None
    return Work(recipe, read_plan(store), build_engines(recipe), choose_fields(recipe), kept)


def compute_shard(store: Location, number: int) -> Receipt:
    """Compute a shard, store it whole, then its receipt; a shard that has a receipt is left alone."""
    with claim_shard(store, number):
        if has_receipt(store, number):
            return read_receipt(store, number)
        return _compute_missing_shard(store, number)


def _compute_missing_shard(store: Location, number: int) -> Receipt:
    started = time.monotonic()
    work = read_work(store)
    shard = work.plan.shards()[number]
    planned = read_shard_samples(store, shard)
    reports = [compute_planned(sample, work) for sample in planned]
    samples = [None if isinstance(report.end, MoleculeFailed) else report.end for report in reports]
    objects = write_shard(store, work.plan, shard, samples)
    receipt = Receipt(
        shard=number,
        outcomes=[report_outcome(sample.conformer.id, report) for sample, report in zip(planned, reports, strict=True)],
        objects=objects,
        circumstances={
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


def compute_planned(sample: PlannedSample, work: Work) -> Report[Sample]:
    """One sample, in the child: solved, or voxelized from the wavefunctions that are kept elsewhere."""
    limits = work.recipe.limits
    child = shared_child(limits.memory_gib)
    what = (sample.conformer, sample.grid)
    how = (work.engines, work.fields)
    if work.kept is None:
        return child.run(compute_sample, *what, *how, seconds=limits.seconds_per_molecule)
    try:
        states = work.kept.read(sample)
    except FailedBefore as failure:
        return Report(failure, 0.0)
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
        f"{name}_orbitals": float(len(state.occupations)),
        f"{name}_alpha_orbitals": float(state.alpha_orbitals),
        **dipole,
        **cell,
    }
