"""The build: a Prefect flow whose stages fan out over Dask workers. Receipts in the store make it resumable."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from distributed import Client
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from flows.conform import conform_part, is_conformed, read_source
from flows.fleet import count_slots, open_cluster, run_everywhere
from flows.plan import plan_dataset
from flows.progress import Meter
from flows.recipe import Recipe, read_recipe, recipe_values
from flows.shard import compute_shard
from flows.status import RunRecord, Status, read_status
from storage.header import Header, begin_store
from storage.layout import SOURCE_END
from storage.objects import read_record
from storage.outcomes import read_row_outcomes
from storage.parts import ROWS_PER_PART
from storage.plan import Plan, estimate_costs, read_plan
from storage.receipts import has_receipt
from storage.seal import is_sealed, seal

SECONDS_BETWEEN_ARTIFACTS = 5
SHOWN_FAILURES = 1000


@dataclass(frozen=True)
class ShardReport:
    """What a worker sends back: small, the samples are in the store."""

    samples: int
    failed: int


def report_shard(store: Path, number: int) -> ShardReport:
    """Compute one shard, on a worker."""
    outcomes = Counter(outcome.outcome for outcome in compute_shard(store, number).outcomes)
    return ShardReport(outcomes.total(), outcomes.total() - outcomes["ok"])


def report_part(store: Path, part: int) -> int:
    """Conform one part, on a worker; returns its number."""
    conform_part(store, part)
    return part


@flow(name="rhoflow-build", persist_result=False)
def build_dataset(
    recipe: Path,
    store: Path,
    workers: int = 1,
    cluster: str | None = None,
    limit: int | None = None,
    begun: float | None = None,
) -> Status:
    """Build, or resume, the dataset that `recipe` describes; `begun` is when the command started (time.time())."""
    started = begun or time.time()
    values = read_recipe(recipe)
    store = store.absolute()
    begin_store(store, Header(recipe_values(values), recipe.read_text(encoding="utf-8")))
    if is_sealed(store) and not read_status(store).missing:
        read_source(store, values, limit)  # refuses where the source has changed since
        get_run_logger().info("%s is sealed: nothing to compute", store)
        return read_status(store)
    with open_cluster(workers, cluster) as client:
        slots = count_slots(client)
        print(f"Dask dashboard: {client.dashboard_link}  ({slots} workers)", flush=True)
        record = RunRecord(store, slots, started)
        read_stage(store, values, limit)
        conform_stage(store, record)
        plan_stage(store)
        compute_stage(store, record)
    seal_stage(store)
    record.count(0)
    return read_status(store)


@task(name="read", cache_policy=NO_CACHE, persist_result=False)
def read_stage(store: Path, recipe: Recipe, limit: int | None) -> None:
    read_source(store, recipe, limit)


@task(name="conform", cache_policy=NO_CACHE, persist_result=False)
def conform_stage(store: Path, record: RunRecord) -> None:
    end = read_record(store, SOURCE_END)
    rows, parts = int(str(end["rows"])), int(str(end["parts"]))
    missing = [part for part in range(parts) if not is_conformed(store, part)]
    sizes = {part: min(ROWS_PER_PART, rows - part * ROWS_PER_PART) for part in range(parts)}
    done = rows - sum(sizes[part] for part in missing)
    with Meter("conformers", rows, done) as meter:
        publish = ProgressArtifact("conformers")

        def count(part: int) -> None:
            record.count(1)
            meter.advance(sizes[part])
            publish(meter.done / meter.total)

        run_everywhere(Client.current(), report_part, store, missing, count)


@task(name="plan", cache_policy=NO_CACHE, persist_result=False)
def plan_stage(store: Path) -> None:
    plan = plan_dataset(store)
    shards, samples = len(plan.shards()), sum(plan.samples.values())
    classes = ", ".join(f"{count} at {cells}³" for cells, count in plan.samples.items())
    get_run_logger().info("%d samples in %d shards (%s), %d refused", samples, shards, classes, len(plan.refusals))


@task(name="compute", cache_policy=NO_CACHE, persist_result=False)
def compute_stage(store: Path, record: RunRecord) -> None:
    plan = read_plan(store)
    costs = estimate_costs(store, plan)
    shards = plan.shards()
    missing = sorted(
        (shard.number for shard in shards if not has_receipt(store, shard.number)), key=lambda number: -costs[number]
    )
    total = sum(plan.samples.values())
    waiting = sum(shards[number].last - shards[number].first for number in missing)
    with Meter("densities", total, total - waiting) as meter:
        publish = ProgressArtifact("densities")

        def count(report: ShardReport) -> None:
            record.count(1)
            meter.advance(report.samples, report.failed)
            publish(meter.done / meter.total)

        run_everywhere(Client.current(), report_shard, store, missing, count)
    publish_failures(store, plan)


@task(name="seal", cache_policy=NO_CACHE, persist_result=False)
def seal_stage(store: Path) -> None:
    seal(store)


class ProgressArtifact:
    """A stage's progress in Prefect's own pages, renewed now and then."""

    def __init__(self, key: str) -> None:
        artifact = create_progress_artifact(progress=0.0, key=key, description=f"{key} computed")
        self._artifact: UUID = artifact  # type: ignore[assignment]
        self._published = time.monotonic()

    def __call__(self, fraction: float) -> None:
        if fraction >= 1 or time.monotonic() - self._published > SECONDS_BETWEEN_ARTIFACTS:
            self._published = time.monotonic()
            update_progress_artifact(self._artifact, progress=100 * fraction)


def publish_failures(store: Path, plan: Plan) -> None:
    """The failed conformers as a table in Prefect's own pages."""
    failures = [
        {"row": row.row, "id": failure.id, "reason": failure.outcome, "message": failure.message}
        for row in read_row_outcomes(store, plan)
        for failure in row.failures
    ]
    if failures:
        description = f"{len(failures)} failures" + (", the first 1000 shown" if len(failures) > SHOWN_FAILURES else "")
        create_table_artifact(failures[:SHOWN_FAILURES], key="failures", description=description)
