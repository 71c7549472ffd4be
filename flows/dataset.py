"""The build: a Prefect flow whose stages fan out over Dask workers. Receipts in the store make it resumable."""

import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from distributed import Client
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from flows.compute import compute_missing
from flows.conform import is_conformed, report_part
from flows.fleet import count_slots, open_cluster, run_everywhere
from flows.plan import plan_dataset
from flows.progress import Meter
from flows.recipe import Recipe, read_recipe, recipe_values
from flows.source import describe_changes, finish_unchanged, read_source
from flows.status import RunRecord, Status, read_status
from storage.claims import claim_store
from storage.generations import count_generations, count_parts
from storage.header import Header, begin_store
from storage.objects import Location, locate, resolve
from storage.outcomes import read_row_outcomes
from storage.parts import read_source_part
from storage.plan import Plan, is_planned, read_plan
from storage.seal import seal

SECONDS_BETWEEN_ARTIFACTS = 5
SHOWN_FAILURES = 1000


@flow(name="rhoflow-build", persist_result=False)
def build_dataset(
    recipe: Path,
    store: Location | str,
    workers: int = 1,
    cluster: str | None = None,
    limit: int | None = None,
    reuse: Location | str | None = None,
    begun: float | None = None,
) -> Status:
    """Build, resume, or bring up to its source the dataset that `recipe` describes.

    Samples that `reuse`, another store, has already are taken from there. `begun` is when the command started.
    """
    started = begun or time.time()
    values = read_recipe(recipe)
    store = resolve(locate(store))
    begin_store(store, Header(recipe_values(values), recipe.read_text(encoding="utf-8")))
    if finish_unchanged(store, values, limit):
        get_run_logger().info("%s is sealed: nothing to compute", store)
        return read_status(store)
    with claim_store(store):
        compute_dataset(store, Source(values, limit, locate(reuse) if reuse else None), workers, cluster, started)
    return read_status(store)


@dataclass(frozen=True)
class Source:
    """What a dataset is made from."""

    recipe: Recipe
    limit: int | None
    reuse: Location | None


def compute_dataset(store: Location, source: Source, workers: int, cluster: str | None, started: float) -> None:
    """Every stage, on workers of its own or those of a cluster."""
    with open_cluster(workers, cluster) as client:
        slots = count_slots(client)
        print(f"Dask dashboard: {client.dashboard_link}  ({slots} workers)", flush=True)
        record = RunRecord(store, slots, started)
        if count_generations(store) and not is_planned(store):  # first what was read before, as it was read
            conform_stage(store, record)
            plan_stage(store)
        read_stage(store, source)
        conform_stage(store, record)
        plan_stage(store)
        compute_stage(store, record)
    seal_stage(store)
    record.count(0)


@task(name="read", cache_policy=NO_CACHE, persist_result=False)
def read_stage(store: Location, source: Source) -> None:
    changes = read_source(store, source.recipe, source.limit, source.reuse)
    get_run_logger().info("source: %s", describe_changes(changes))


@task(name="conform", cache_policy=NO_CACHE, persist_result=False)
def conform_stage(store: Location, record: RunRecord) -> None:
    missing = [part for part in range(count_parts(store)) if not is_conformed(store, part)]
    sizes = {part: len(read_source_part(store, part)) for part in missing}
    with Meter("conformers", sum(sizes.values())) as meter:
        publish = ProgressArtifact("conformers")

        def count(part: int) -> None:
            record.count(1)
            meter.advance(sizes[part])
            publish(meter.done / meter.total)

        run_everywhere(Client.current(), report_part, store, missing, count)


@task(name="plan", cache_policy=NO_CACHE, persist_result=False)
def plan_stage(store: Location) -> None:
    plan = plan_dataset(store)
    shards, samples = len(plan.shards()), sum(plan.counts.values())
    refused = sum(len(generation.refusals) for generation in plan.generations)
    classes = ", ".join(f"{count} at {cells}³" for cells, count in plan.counts.items())
    get_run_logger().info("%d samples in %d shards (%s), %d refused", samples, shards, classes, refused)


@task(name="compute", cache_policy=NO_CACHE, persist_result=False)
def compute_stage(store: Location, record: RunRecord) -> None:
    compute_missing(store, Client.current(), record, ProgressArtifact("densities"))
    publish_failures(store, read_plan(store))


@task(name="seal", cache_policy=NO_CACHE, persist_result=False)
def seal_stage(store: Location) -> None:
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


def publish_failures(store: Location, plan: Plan) -> None:
    """The failed conformers as a table in Prefect's own pages."""
    failures = [
        {"row": row.row, "id": failure.id, "reason": failure.outcome, "message": failure.message}
        for row in read_row_outcomes(store, plan)
        for failure in row.failures
    ]
    if failures:
        description = f"{len(failures)} failures" + (", the first 1000 shown" if len(failures) > SHOWN_FAILURES else "")
        create_table_artifact(failures[:SHOWN_FAILURES], key="failures", description=description)
