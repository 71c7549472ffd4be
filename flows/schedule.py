"""Flows that run by themselves: on a cron of this machine, or as deployments of a Prefect server."""

import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from flows.artifacts import name_run
from flows.care.diff import diff_stores
from flows.care.regenerate import regenerate
from flows.dataset import build_dataset
from storage.errors import RequestError, StoreError
from storage.identity import fingerprint
from storage.layout import HEADER
from storage.objects import Location, has_object, locate, name_store, resolve


@flow(name="rhoflow-nightly", flow_run_name=name_run, persist_result=False)
def run_nightly(
    recipe: Path,
    store: Location | str,
    workers: int = 1,
    cluster: str | None = None,
    config: Path | None = None,
    runs: Path | None = None,
) -> None:
    """Bring the dataset up to its source; then, where `config` and `runs` are given, train on what it is now."""
    build_dataset(recipe, store, workers, cluster)
    if config and runs:
        train_model(config, runs, store)


@flow(name="rhoflow-train", flow_run_name=name_run, persist_result=False)
def train_model(config: Path, runs: Path, store: Location | str) -> None:
    """Train in a folder of `runs` named after the dataset's content: each content once, earlier models stay."""
    from training.config import SuperresConfig
    from training.config_file import read_config
    from training.loop import is_trained
    from training.superres.task import train_superres

    store = locate(store)
    settings = replace(read_config(config, SuperresConfig), store=(store,))
    run = runs / fingerprint(store)[:12]
    is_old = is_trained(run, settings)
    train_superres(settings, run, resume=True)  # of an old one: is its config the same, and is it calibrated?
    if is_old:
        get_run_logger().info("%s was trained on what %s holds: nothing to train", run, store)
    else:
        get_run_logger().info("%s is trained on %s", run, store)


@flow(name="rhoflow-regenerate", flow_run_name=name_run, persist_result=False)
def rebuild(store: Location | str, new: Location | str, workers: int = 1) -> None:
    """Build a dataset again from itself, in a folder of `new` that is named after its content, each content once.

    Fails where the two do not agree. Raises RequestError where `new` is a store itself.
    """
    store = locate(store)
    if has_object(locate(new), HEADER):
        raise RequestError(f"{new} is a store: name a folder in which stores are built")
    new = locate(f"{new}/{fingerprint(store)[:12]}.zarr")
    regenerate(store, new, workers, time.time())
    if not diff_stores(store, new, as_json=False):
        raise StoreError(f"{new}, built again from {store}, is not identical: `rhoflow diff {store} {new}` says where")


def serve_nightly(
    recipe: Path, store: Location, workers: int, cluster: str | None, training: tuple[Path, Path] | None, cron: str
) -> None:
    """Run `run_nightly` at the times of `cron` (UTC), one at a time, until this process is told to end."""
    try:
        schedule = Cron(cron)
    except ValueError as error:
        raise RequestError(f"--cron {cron!r}: {error}: write minute, hour, day, month, weekday: '0 2 * * *'") from error
    config, runs = training or (None, None)
    parameters = {"recipe": recipe, "store": store, "config": config, "runs": runs}
    paths = {name: str(resolve(path)) if path else None for name, path in parameters.items()}
    profile = cluster if cluster is None or "://" in cluster else str(Path(cluster).resolve())
    run_nightly.serve(
        name=name_store(store),
        tags=[name_store(store)],
        version=version("rhoflow"),
        schedules=[schedule],
        parameters={**paths, "workers": workers, "cluster": profile},
        limit=1,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
