"""The stages of a build whose work is done by jobs of SLURM, as Prefect's pages show them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import ProgressArtifact, publish_failures
from flows.progress import Meter
from flows.workers.array import Jobs, await_job, submit_jobs
from flows.workers.cluster import SlurmArray
from storage.objects import Location
from storage.plan import is_planned, read_plan
from storage.receipts import find_missing
from storage.seal import is_sealed


def compute_in_jobs(profile: SlurmArray, recipe: Path, store: Location, options: Mapping[str, object]) -> None:
    """Every stage, in jobs that claim the store themselves; `options` are those of `rhoflow plan`."""
    with submit_jobs(profile, recipe, store, options) as jobs:
        get_run_logger().info("SLURM jobs %s, %s, %s; logs in %s", jobs.plan, jobs.array, jobs.seal, jobs.logs)
        job_stage.with_options(name="plan", task_run_name="plan")(jobs, jobs.plan, partial(is_planned, store))
        array_stage(store, jobs)
        job_stage.with_options(name="seal", task_run_name="seal")(jobs, jobs.seal, partial(is_sealed, store))


@task(cache_policy=NO_CACHE, persist_result=False)
def job_stage(jobs: Jobs, job: str, is_done: Callable[[], bool]) -> None:
    await_job(jobs, job, get_run_logger().info, is_done)


@task(name="compute", task_run_name="compute", cache_policy=NO_CACHE, persist_result=False)
def array_stage(store: Location, jobs: Jobs) -> None:
    shards = [shard.number for shard in read_plan(store).shards()]
    missing = find_missing(store, shards)
    with Meter("densities", len(shards), len(shards) - len(missing), unit="shards") as meter:
        publish = ProgressArtifact(store, "densities")

        def count() -> None:
            left = find_missing(store, missing)
            meter.advance(len(missing) - len(left))
            missing[:] = left
            publish(1 - len(missing) / max(1, len(shards)))

        await_job(jobs, jobs.array, get_run_logger().info, lambda: not missing, count)
    publish_failures(store, read_plan(store))
