"""Computes failed samples again; all others, and every byte stored of them, stay as they are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from flows.progress import Meter
from flows.shard import Work, compute_planned, read_work, report_outcome
from pipeline.failures import MoleculeFailed
from storage.claims import claim_shard, claim_store
from storage.errors import RequestError
from storage.layout import class_key, open_group, receipt_key
from storage.manifest import unseal
from storage.objects import Location, delete_object
from storage.plan import PlannedSample, Shard, read_shard_samples
from storage.reader import restore_state
from storage.receipts import Outcome, has_receipt, read_receipt, write_receipt
from storage.schema import Sample
from storage.seal import is_sealed, seal
from storage.writer import write_shard


@dataclass(frozen=True)
class Retried:
    """How many samples were tried again, and how each ended."""

    tried: int
    ends: dict[str, int]  # by outcome


def retry_failures(store: Location, reason: str | None) -> Retried:
    """Try again what failed while it was computed, with the limits that the store has now.

    Raises RequestError where nothing failed so. What failed before any computing, or fits in no box, is left alone.
    """
    with claim_store(store):
        work = read_work(store)
        waiting = {shard: rows for shard in work.plan.shards() if (rows := find_failures(store, shard, reason))}
        if not waiting:
            what = f"no computed sample failed with {reason}" if reason else "no computed sample failed"
            raise RequestError(f"{store}: {what}: `rhoflow failures {store}` lists what did")
        sealed = is_sealed(store)
        unseal(store)
        ends: Counter[str] = Counter()
        with Meter("retries", sum(map(len, waiting.values())), unit="samples") as meter:
            for shard, rows in waiting.items():
                tried = retry_shard(store, shard, rows, work)
                ends.update(outcome.outcome for outcome in tried)
                meter.advance(len(tried), sum(outcome.outcome != "ok" for outcome in tried))
        if sealed:
            seal(store)
    return Retried(ends.total(), dict(sorted(ends.items())))


def find_failures(store: Location, shard: Shard, reason: str | None) -> list[int]:
    """Rows within a shard whose samples failed, for that reason where one is given."""
    if not has_receipt(store, shard.number):
        return []
    ends = [outcome.outcome for outcome in read_receipt(store, shard.number).outcomes]
    return [row for row, end in enumerate(ends) if end != "ok" and reason in (None, end)]


def retry_shard(store: Location, shard: Shard, rows: Sequence[int], work: Work) -> list[Outcome]:
    """Compute these rows again, and store the shard anew where one succeeds; their outcomes now."""
    with claim_shard(store, shard.number):
        receipt, planned = read_receipt(store, shard.number), read_shard_samples(store, shard)
        reports = {row: compute_planned(planned[row], work) for row in rows}
        outcomes, objects = list(receipt.outcomes), receipt.objects
        for row, report in reports.items():
            outcomes[row] = report_outcome(planned[row].conformer.id, report)
        if any(outcomes[row].outcome == "ok" for row in rows):
            samples: list[Sample | None] = []
            for row, outcome in enumerate(outcomes):
                end = reports[row].end if row in reports else None
                if isinstance(end, MoleculeFailed) or outcome.outcome != "ok":
                    samples.append(None)
                else:
                    samples.append(end or read_stored_sample(store, shard, row, planned[row], outcome, work))
            delete_object(store, receipt_key(shard.number))  # a kill from here on leaves work, nothing torn
            objects = write_shard(store, work.plan, shard, samples)
        spent = {"retry_seconds": sum(report.seconds for report in reports.values())}
        circumstances = {**receipt.circumstances, **spent}
        write_receipt(store, replace(receipt, outcomes=outcomes, objects=objects, circumstances=circumstances))
        return [outcomes[row] for row in rows]


def read_stored_sample(
    store: Location, shard: Shard, row: int, planned: PlannedSample, outcome: Outcome, work: Work
) -> Sample:
    """A sample as its shard holds it."""
    group: Any = open_group(store, "r", class_key(shard.cells))
    index = shard.first + row
    box = tuple(slice(cells) for cells in planned.grid.shape)
    channels = {channel.name: group[channel.name][(index, ..., *box)] for channel in work.plan.channels}
    states = {}
    for density in work.plan.densities if work.plan.keeps_wavefunctions else ():
        basis = work.engines[density].basis(planned.conformer.numbers)  # type: ignore[union-attr]
        states[density] = restore_state(group, index, planned.conformer, basis, density, outcome.facts)
    return Sample(planned.conformer, planned.grid, channels, states)


def describe(retried: Retried) -> str:
    ends = ", ".join(f"{count} {end}" for end, count in retried.ends.items())
    return f"{retried.tried} samples tried again: {ends}"
