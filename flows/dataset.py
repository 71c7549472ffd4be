"""The build: a Prefect flow whose stages fan out over Dask workers. Receipts in the store make it resumable."""

import time
from pathlib import Path

from distributed import Client
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.array_stages import compute_in_jobs
from flows.artifacts import ProgressArtifact, publish_failures
from flows.cluster import read_array
from flows.compute import compute_missing
from flows.conform import is_conformed, read_source, report_part
from flows.fleet import count_slots, open_cluster, run_everywhere
from flows.plan import plan_dataset
from flows.progress import Meter
from flows.recipe import Recipe, read_recipe, recipe_values
from flows.status import RunRecord, Status, read_status
from storage.claims import claim_store
from storage.header import Header, begin_store
from storage.layout import SOURCE_END
from storage.objects import Location, read_record
from storage.parts import ROWS_PER_PART
from storage.plan import read_plan
from storage.seal import is_sealed, seal


@flow(name="rhoflow-build", flow_run_name="build {store.stem}", persist_result=False)
def build_dataset(
    recipe: Path,
    store: Location,
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
    if array := read_array(cluster):
        compute_in_jobs(array, recipe, store, limit)
    else:
        with claim_store(store):
            compute_dataset(store, values, workers, cluster, limit, started)
    return read_status(store)


def compute_dataset(
    store: Location, values: Recipe, workers: int, cluster: str | None, limit: int | None, started: float
) -> None:
    """Every stage, on workers of its own or those of a cluster."""
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


@task(name="read", task_run_name="read", cache_policy=NO_CACHE, persist_result=False)
def read_stage(store: Location, recipe: Recipe, limit: int | None) -> None:
    read_source(store, recipe, limit)


@task(name="conform", task_run_name="conform", cache_policy=NO_CACHE, persist_result=False)
def conform_stage(store: Location, record: RunRecord) -> None:
    end = read_record(store, SOURCE_END)
    rows, parts = int(str(end["rows"])), int(str(end["parts"]))
    missing = [part for part in range(parts) if not is_conformed(store, part)]
    sizes = {part: min(ROWS_PER_PART, rows - part * ROWS_PER_PART) for part in range(parts)}
    done = rows - sum(sizes[part] for part in missing)
    with Meter("conformers", rows, done) as meter:
        publish = ProgressArtifact(store, "conformers")

        def count(part: int) -> None:
            record.count(1)
            meter.advance(sizes[part])
            publish(meter.done / meter.total)

        run_everywhere(Client.current(), report_part, store, missing, count)


@task(name="plan", task_run_name="plan", cache_policy=NO_CACHE, persist_result=False)
def plan_stage(store: Location) -> None:
    plan = plan_dataset(store)
    shards, samples = len(plan.shards()), sum(plan.samples.values())
    classes = ", ".join(f"{count} at {cells}³" for cells, count in plan.samples.items())
    get_run_logger().info("%d samples in %d shards (%s), %d refused", samples, shards, classes, len(plan.refusals))


@task(name="compute", task_run_name="compute", cache_policy=NO_CACHE, persist_result=False)
def compute_stage(store: Location, record: RunRecord) -> None:
    compute_missing(store, Client.current(), record, ProgressArtifact(store, "densities"))
    publish_failures(store, read_plan(store))


@task(name="seal", task_run_name="seal", cache_policy=NO_CACHE, persist_result=False)
def seal_stage(store: Location) -> None:
    seal(store)
