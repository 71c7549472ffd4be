"""The build: a Prefect flow whose stages fan out over Dask workers. Receipts in the store make it resumable."""

import time
from dataclasses import dataclass
from pathlib import Path

from distributed import Client
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import ProgressArtifact, name_run, publish_failures
from flows.compute import compute_missing
from flows.conform import is_conformed, report_part
from flows.plan import check_bases, plan_dataset
from flows.progress import Meter
from flows.recipe import Recipe, read_recipe, recipe_values
from flows.source import describe_changes, finish_unchanged, read_source
from flows.status import RunRecord, Status, read_status
from flows.workers.array_stages import compute_in_jobs
from flows.workers.cluster import read_array
from flows.workers.fleet import count_slots, open_cluster, run_everywhere
from storage.generations import count_generations, count_parts
from storage.header import Header, begin_store, claim_begun
from storage.objects import Location, locate, resolve
from storage.parts import read_source_part
from storage.plan import is_planned, read_plan
from storage.seal import seal


@flow(name="rhoflow-build", flow_run_name=name_run, persist_result=False)
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
    header = Header(recipe_values(values), recipe.read_text(encoding="utf-8"))
    begin_store(store, header)
    if finish_unchanged(store, values, limit):
        get_run_logger().info("%s is sealed: nothing to compute", store)
        return read_status(store)
    source = Source(values, limit, locate(reuse) if reuse else None)
    if array := read_array(cluster):
        compute_in_jobs(array, recipe, store, {"--limit": limit, "--reuse": source.reuse})
    else:
        with claim_begun(store, header):
            compute_dataset(store, source, workers, cluster, started)
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


@task(name="read", task_run_name="read", cache_policy=NO_CACHE, persist_result=False)
def read_stage(store: Location, source: Source) -> None:
    check_bases(store)
    changes = read_source(store, source.recipe, source.limit, source.reuse)
    get_run_logger().info("source: %s", describe_changes(changes))


@task(name="conform", task_run_name="conform", cache_policy=NO_CACHE, persist_result=False)
def conform_stage(store: Location, record: RunRecord) -> None:
    missing = [part for part in range(count_parts(store)) if not is_conformed(store, part)]
    sizes = {part: len(read_source_part(store, part)) for part in missing}
    with Meter("conformers", sum(sizes.values())) as meter:
        publish = ProgressArtifact(store, "conformers")

        def count(part: int) -> None:
            record.count(1)
            meter.advance(sizes[part])
            publish(meter.done / meter.total)

        run_everywhere(Client.current(), report_part, store, missing, count)


@task(name="plan", task_run_name="plan", cache_policy=NO_CACHE, persist_result=False)
def plan_stage(store: Location) -> None:
    plan = plan_dataset(store)
    shards, samples = len(plan.shards()), sum(plan.counts.values())
    refused = sum(len(generation.refusals) for generation in plan.generations)
    classes = ", ".join(f"{count} at {cells}³" for cells, count in plan.counts.items())
    get_run_logger().info("%d samples in %d shards (%s), %d refused", samples, shards, classes, refused)


@task(name="compute", task_run_name="compute", cache_policy=NO_CACHE, persist_result=False)
def compute_stage(store: Location, record: RunRecord) -> None:
    compute_missing(store, Client.current(), record, ProgressArtifact(store, "densities"))
    publish_failures(store, read_plan(store))


@task(name="seal", task_run_name="seal", cache_policy=NO_CACHE, persist_result=False)
def seal_stage(store: Location) -> None:
    seal(store)
