"""A comparison as a Prefect flow: one task for each of its jobs."""

from functools import partial
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.comparison.compare import Do, compare
from training.comparison.jobs import Job


def name_run() -> str:
    return f"compare {Path(flow_run.parameters['run']).name}"


@flow(name="rhoflow-compare", flow_run_name=name_run, persist_result=False)
def compare_models(config: Path, run: Path, workers: int = 1, resume: bool = True) -> str:
    """Train and judge every cell of a comparison that is not done yet; the table as text."""
    return compare(config, run, workers, resume, partial(do_as_tasks, workers=workers))


def do_as_tasks(jobs: list[Job], do: Do, workers: int) -> None:
    """So many at once; one at a time in this very thread, which hears SIGTERM."""
    if workers == 1 or len(jobs) == 1:
        for job in jobs:
            do_job.with_options(task_run_name=job.name)(do, job)
        return
    runner: ThreadPoolTaskRunner[None] = ThreadPoolTaskRunner(max_workers=workers)
    with runner:
        futures = [runner.submit(do_job.with_options(task_run_name=job.name), {"do": do, "job": job}) for job in jobs]
        for future in futures:
            future.result()


@task(cache_policy=NO_CACHE, persist_result=False)
def do_job(do: Do, job: Job) -> None:
    do(job)
