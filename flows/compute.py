"""Computes what a planned store still misses, shard by shard, on a fleet of workers."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from distributed import Client, Status, get_worker, secede

from flows.progress import Meter
from flows.shard import compute_shard
from flows.status import RunRecord
from flows.workers.fleet import run_everywhere
from storage.objects import Location
from storage.plan import estimate_costs, read_plan
from storage.receipts import find_missing


@dataclass(frozen=True)
class ShardReport:
    """What a worker sends back: small, the samples are in the store."""

    samples: int
    failed: int


def report_shard(store: Location, number: int) -> ShardReport:
    """Compute one shard, on a worker, which is given the next one while this one is stored."""
    outcomes = Counter(outcome.outcome for outcome in compute_shard(store, number, on_computed=free_worker).outcomes)
    return ShardReport(outcomes.total(), outcomes.total() - outcomes["ok"])


def free_worker() -> None:
    """For the next shard; one that is closing takes no more, and would let this thread wait until it has closed."""
    if get_worker().status is Status.running:
        secede()


def compute_missing(
    store: Location, client: Client, record: RunRecord, publish: Callable[[float], None] | None = None
) -> None:
    """Every shard without a receipt, the dearest first; `publish` hears which fraction of the samples is done."""
    plan = read_plan(store)
    costs = estimate_costs(store, plan)
    shards = plan.shards()
    missing = sorted(find_missing(store, (shard.number for shard in shards)), key=lambda number: -costs[number])
    total = sum(plan.counts.values())
    waiting = sum(shards[number].last - shards[number].first for number in missing)
    with Meter("densities", total, total - waiting) as meter:

        def count(report: ShardReport) -> None:
            record.count(1)
            meter.advance(report.samples, report.failed)
            if publish:
                publish(meter.done / meter.total)

        run_everywhere(client, report_shard, store, missing, count)
    record.count(0)
