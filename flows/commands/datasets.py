"""Commands that make datasets, and make them again. Each imports only what it needs."""

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from flows.commands.arguments import (
    BEGUN,
    CPUS,
    AsJson,
    Cluster,
    Limit,
    Location,
    RecipePath,
    Reuse,
    StorePath,
    Workers,
    app,
)
from storage.errors import RequestError
from storage.objects import locate, resolve


@app.command()
def build(
    recipe: RecipePath,
    store: StorePath,
    workers: Workers = CPUS,
    cluster: Cluster = None,
    limit: Limit = None,
    reuse: Reuse = None,
    strict: Annotated[bool, typer.Option(help="exit with 1 when a row failed")] = False,
) -> None:
    """Build a dataset, resume, or follow its source: run the same command again after any interruption or change.

    Rows added to the source are appended, edited ones computed anew, removed ones left out of the next version, new
    labels taken over; no finished shard is touched.

    Example: `rhoflow build recipe.toml molecules.zarr --workers 8`
    """
    from flows.engines import build_engines
    from flows.recipe import read_recipe, recipe_values
    from flows.source import check_reuse, finish_unchanged
    from flows.status import describe_status, read_status
    from flows.workers.cluster import check_cluster
    from flows.workers.prefect_settings import configure_prefect
    from storage.claims import claim_store
    from storage.header import Header, begin_store

    values = read_recipe(recipe)  # a wrong recipe, or another store's, ends here, before any server or worker starts
    build_engines(values)
    check_cluster(cluster)
    check_reuse(reuse, store)
    begin_store(store, Header(recipe_values(values), recipe.read_text(encoding="utf-8")))
    if finish_unchanged(store, values, limit):
        print("nothing to compute")
        status = read_status(store)
    else:
        with claim_store(store, shared=True):  # where another builds, no server is started; the flow claims it alone
            configure_prefect()
        from flows.dataset import build_dataset

        status = build_dataset(recipe, store, workers, cluster, limit, reuse, BEGUN)
    print(describe_status(store, status))
    if strict and status.failed:
        raise typer.Exit(1)


@app.command()
def voxelize(
    store: StorePath,
    new: Annotated[
        Location, typer.Argument(parser=locate, metavar="NEW", help="the folder of the dataset on the other grid")
    ],
    spacing_angstrom: Annotated[Optional[float], typer.Option(help="width of a cell")] = None,  # noqa: UP045
    margin_angstrom: Annotated[Optional[float], typer.Option(help="around the atoms, at least")] = None,  # noqa: UP045
    box: Annotated[Optional[str], typer.Option(help="cube: of a class; tight: as small as can be")] = None,  # noqa: UP045
    classes: Annotated[Optional[str], typer.Option(help="cells along an edge, e.g. 32,48,64")] = None,  # noqa: UP045
    multiple: Annotated[Optional[int], typer.Option(help="of cells along each edge of a tight box")] = None,  # noqa: UP045
    sampling: Annotated[Optional[str], typer.Option(help="cell: exact averages; point: values")] = None,  # noqa: UP045
    orient: Annotated[Optional[bool], typer.Option(help="turn molecules to their principal axes")] = None,  # noqa: UP045
    round_to: Annotated[Optional[float], typer.Option(help="electrons/bohr³; 0 keeps every bit")] = None,  # noqa: UP045
    densities: Annotated[Optional[str], typer.Option(help="that become channels, e.g. xtb,target; or none")] = None,  # noqa: UP045
    workers: Workers = CPUS,
    cluster: Cluster = None,
) -> None:
    """The same molecules on another grid, from the kept wavefunctions: no density is computed again.

    What is not given stays as it is in STORE; a molecule that failed there stays failed. Boxes of either kind go up to
    the largest of the classes. With --densities none no density has voxels, only its wavefunctions: to carry a dataset
    to where it is voxelized again. Resumes: run the same command again after any interruption.

    Example: `rhoflow voxelize molecules.zarr coarse.zarr --spacing-angstrom 0.4 --classes 24,32,48`
    """
    from flows.status import describe_status
    from flows.voxelize import begin_voxelization, finish_voxelization
    from flows.workers.cluster import check_workers

    check_workers(cluster)
    grid: dict[str, object] = {
        "spacing_angstrom": spacing_angstrom,
        "margin_angstrom": margin_angstrom,
        "box": box,
        "classes": None if classes is None else read_numbers("--classes", classes),
        "multiple": multiple,
        "sampling": sampling,
        "orient": orient,
    }
    channels: dict[str, object] = {"densities": None if densities is None else read_names(densities)}
    changes: dict[str, dict[str, object]] = {"grid": grid, "channels": channels, "store": {"round_to": round_to}}
    given = {table: {key: value for key, value in keys.items() if value is not None} for table, keys in changes.items()}
    begin_voxelization(store, new, given)
    print(describe_status(new, finish_voxelization(new, workers, cluster, BEGUN)))


@app.command()
def plan(recipe: RecipePath, store: StorePath, limit: Limit = None, reuse: Reuse = None) -> None:
    """Read the source, or what has changed of it; make the conformers, and fix which sample is computed where.

    Example: `rhoflow plan recipe.toml molecules.zarr`, then `rhoflow run` in as many jobs as you like.
    """
    from flows.engines import build_engines
    from flows.prepare import plan_source
    from flows.recipe import read_recipe, recipe_values
    from flows.source import check_reuse, describe_changes
    from flows.status import RunRecord
    from storage.header import Header, begin_store, claim_begun

    values = read_recipe(recipe)
    build_engines(values)
    check_reuse(reuse, store)
    header = Header(recipe_values(values), recipe.read_text(encoding="utf-8"))
    begin_store(store, header)
    with claim_begun(store, header):
        planned, changes = plan_source(store, values, limit, reuse, RunRecord(store, 1, BEGUN))
    print(f"{store}: {describe_changes(changes)}")
    print(f"{sum(planned.counts.values())} samples in {len(planned.shards())} shards")


@app.command()
def run(
    store: StorePath,
    parts: Annotated[str, typer.Option(help="i/N: the i-th of N equal parts of the shards, i from 1")] = "1/1",
) -> None:
    """Compute the shards of one part, in this process: for batch jobs, without Prefect and Dask.

    Example: `rhoflow run molecules.zarr --parts $SLURM_ARRAY_TASK_ID/32`
    """
    from flows.progress import Meter
    from flows.shard import compute_shard
    from flows.status import RunRecord
    from storage.claims import claim_store
    from storage.plan import read_plan
    from storage.receipts import find_missing

    part, count = read_parts(parts)
    shards = [shard.number for shard in read_plan(store).shards()][part - 1 :: count]
    missing = find_missing(store, shards)
    record = RunRecord(store, 1, BEGUN)
    meter = Meter("shards", len(shards), len(shards) - len(missing), unit="shards")
    with claim_store(store, shared=True), meter:
        for number in missing:
            compute_shard(store, number)
            record.count(1)
            meter.advance(1)
        record.count(0)


@app.command()
def seal(store: StorePath) -> None:
    """Close a dataset whose shards are all computed: tables, statistics, splits, metadata.

    Example: `rhoflow seal molecules.zarr`
    """
    from flows.status import describe_status, read_status
    from storage.claims import claim_store
    from storage.header import read_header
    from storage.seal import seal as seal_store

    read_header(store)  # a path that is no store ends here
    with claim_store(store):
        seal_store(store)
    print(describe_status(store, read_status(store)))


@app.command()
def estimate(
    recipe: RecipePath,
    molecules: Annotated[int, typer.Option(min=1, help="how many to compute for it")] = 12,
    limit: Limit = None,
    workers: Workers = CPUS,
    as_json: AsJson = False,
) -> None:
    """Core-hours, bytes, files and memory of a build, from some of its molecules; nothing is kept.

    Example: `rhoflow estimate recipe.toml --workers 64`
    """
    from flows.engines import build_engines
    from flows.estimate import describe, estimate_build, estimate_json
    from flows.progress import Meter
    from flows.recipe import read_recipe

    values = read_recipe(recipe)
    build_engines(values)
    with Meter("estimate", molecules) as meter:
        estimated = estimate_build(values, limit, molecules, lambda done: meter.advance(done - meter.done))
    print(estimate_json(estimated) if as_json else describe(estimated, workers))


@app.command()
def regenerate(
    store: StorePath,
    new: Annotated[
        Location, typer.Argument(parser=locate, metavar="NEW", help="the folder of the dataset built again")
    ],
    workers: Workers = CPUS,
    as_json: AsJson = False,
) -> None:
    """Build a dataset again from the recipe and the source rows inside it, and say whether the two agree.

    Resumes: run the same command again after any interruption. Exit code 0: identical; 1: not.

    Example: `rhoflow regenerate molecules.zarr again.zarr --workers 8`
    """
    from flows.care.diff import diff_stores
    from flows.care.regenerate import regenerate as build_again

    build_again(store, new, workers, BEGUN)
    if not diff_stores(store, new, as_json):
        raise typer.Exit(1)


@app.command()
def retry(
    store: StorePath,
    reason: Annotated[Optional[str], typer.Option(help="only what failed so, e.g. timeout")] = None,  # noqa: UP045
    workers: Workers = CPUS,
    cluster: Cluster = None,
) -> None:
    """Try failed samples again, with the limits that the store has now, as a new version; finished shards stay.

    For other limits, change them in the recipe and run `rhoflow build` with it first.

    Example: `rhoflow retry molecules.zarr --reason timeout`
    """
    from flows.care.retry import describe, retry_failures
    from flows.workers.cluster import check_workers

    check_workers(cluster)
    print(describe(retry_failures(resolve(store), reason, workers, cluster, BEGUN)))


@app.command()
def recipe(
    path: Annotated[Optional[Path], typer.Argument(help="a recipe to check")] = None,  # noqa: UP045
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema of recipes")] = False,
) -> None:
    """Check a recipe and print every key with its value, defaults filled in; or print the schema.

    Example: `rhoflow recipe recipe.toml`
    """
    import json

    from flows.recipe import read_recipe, recipe_schema, recipe_values

    if schema:
        print(recipe_schema())
    elif path is not None:
        print(json.dumps(recipe_values(read_recipe(path)), indent=2))
    else:
        raise RequestError("rhoflow recipe: name a recipe to check, or ask for --schema")


@app.command()
def schedule(
    recipe: RecipePath,
    store: StorePath,
    cron: Annotated[str, typer.Option(help="minute, hour, day, month, weekday, in UTC, e.g. '0 2 * * *'")],
    train: Annotated[
        Optional[tuple[Path, Path]],  # noqa: UP045
        typer.Option(metavar="CONFIG RUNS", help="then train, in a folder of RUNS for each content of the dataset"),
    ] = None,
    workers: Workers = CPUS,
    cluster: Cluster = None,
) -> None:
    """Build, and train, at the times of a cron, until interrupted. On unchanged input a run does nothing, and says so.

    With the Prefect server that PREFECT_API_URL names, or else one of its own.

    Example: `rhoflow schedule recipe.toml molecules.zarr --cron "0 2 * * *" --train superres.toml runs`
    """
    from flows.recipe import read_recipe
    from flows.workers.cluster import check_cluster
    from flows.workers.prefect_settings import configure_prefect

    read_recipe(recipe)
    check_cluster(cluster)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO")  # a service's log is what there is to see
    configure_prefect()
    from flows.schedule import serve_nightly

    serve_nightly(recipe, store, workers, cluster, train, cron)


def read_parts(parts: str) -> tuple[int, int]:
    """("3/8") → (3, 8). Raises RequestError."""
    first, slash, second = parts.partition("/")
    if not (slash and first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second)):
        raise RequestError(f"--parts {parts}: write i/N with 1 ≤ i ≤ N, for example 3/8")
    return int(first), int(second)


def read_names(words: str) -> list[str]:
    """ "xtb,target" → ["xtb", "target"]; "none" → []."""
    return [] if words == "none" else [word.strip() for word in words.split(",")]


def read_numbers(option: str, words: str) -> list[int]:
    """("--classes", "32,48") → [32, 48]. Raises RequestError."""
    numbers = words.split(",")
    if not all(number.strip().isdigit() for number in numbers):
        raise RequestError(f"{option} {words}: write numbers with commas between, for example 32,48,64")
    return [int(number) for number in numbers]
