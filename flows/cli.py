"""The command line. Each command imports only what it needs, so that each kind of machine installs only its part."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from storage.errors import RequestError, RhoflowError
from storage.faults import explain_fault
from storage.objects import has_object, locate, resolve

if TYPE_CHECKING:
    from flows.status import Status
    from storage.objects import Location
else:
    Location = str  # typer knows no unions; `locate` makes the value

BEGUN = time.time()

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Lists of molecules become electron-density datasets, and the datasets trained models.",
)

train = typer.Typer(no_args_is_help=True, help="Train models from a dataset.")
app.add_typer(train, name="train")

StorePath = Annotated[
    Location,
    typer.Argument(
        parser=locate, metavar="STORE", help="the dataset's folder, by custom NAME.zarr, or s3://BUCKET/NAME.zarr"
    ),
]
RecipePath = Annotated[Path, typer.Argument(help="the recipe, a TOML file")]
Workers = Annotated[int, typer.Option(min=1, help="processes on this machine")]
Cluster = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="instead of --workers: a profile (see deploy/profiles), or the address of a Dask scheduler"),
]
Limit = Annotated[Optional[int], typer.Option(min=1, help="only the first N rows of the source")]  # noqa: UP045
Reuse = Annotated[
    Optional[Location],  # noqa: UP045
    typer.Option(
        parser=locate,
        metavar="STORE",
        help="take conformers, wavefunctions and samples that are the same from this other dataset",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for scripts")]
CPUS = len(os.sched_getaffinity(0))


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
    from flows.cluster import check_cluster
    from flows.engines import build_engines
    from flows.recipe import read_recipe, recipe_values
    from flows.source import check_reuse, finish_unchanged
    from flows.status import read_status
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
    print_status(store, status)
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
    workers: Workers = CPUS,
    cluster: Cluster = None,
) -> None:
    """The same molecules on another grid, from the kept wavefunctions: no density is computed again.

    What is not given stays as it is in STORE; a molecule that failed there stays failed. Boxes of either kind go up to
    the largest of the classes. Resumes: run the same command again after any interruption.

    Example: `rhoflow voxelize molecules.zarr coarse.zarr --spacing-angstrom 0.4 --classes 24,32,48`
    """
    from flows.cluster import check_workers
    from flows.voxelize import begin_voxelization, finish_voxelization

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
    changes: dict[str, dict[str, object]] = {"grid": grid, "store": {"round_to": round_to}}
    given = {table: {key: value for key, value in keys.items() if value is not None} for table, keys in changes.items()}
    begin_voxelization(store, new, given)
    print_status(new, finish_voxelization(new, workers, cluster, BEGUN))


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
    from storage.claims import claim_store
    from storage.header import Header, begin_store

    values = read_recipe(recipe)
    build_engines(values)
    check_reuse(reuse, store)
    begin_store(store, Header(recipe_values(values), recipe.read_text(encoding="utf-8")))
    with claim_store(store):
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
    from flows.status import read_status
    from storage.claims import claim_store
    from storage.header import read_header
    from storage.seal import seal as seal_store

    read_header(store)  # a path that is no store ends here
    with claim_store(store):
        seal_store(store)
    print_status(store, read_status(store))


@app.command()
def status(store: StorePath, as_json: AsJson = False) -> None:
    """How far a build is: rows done, failed by reason, missing; time spent, rate, time left.

    Example: `rhoflow status molecules.zarr --json`
    """
    from flows.status import read_status, status_json

    read = read_status(store)
    if as_json:
        print(status_json(read))
    else:
        print_status(store, read)


@app.command()
def failures(store: StorePath, as_json: AsJson = False) -> None:
    """Which molecules failed, and why.

    Example: `rhoflow failures molecules.zarr`
    """
    import json

    from storage.outcomes import read_row_outcomes
    from storage.plan import read_plan

    failed = [failure for row in read_row_outcomes(store, read_plan(store)) for failure in row.failures]
    if as_json:
        print(json.dumps([{"id": end.id, "reason": end.outcome, "message": end.message} for end in failed]))
        return
    for end in failed:
        print(f"{end.id}\t{end.outcome}\t{end.message}")
    if not failed:
        print("no failures")


@app.command()
def verify(
    store: StorePath,
    deep: Annotated[bool, typer.Option("--deep", help="compute some samples again")] = False,
    molecules: Annotated[int, typer.Option(min=1, help="how many, with --deep")] = 3,
    repair: Annotated[bool, typer.Option("--repair", help="make what is damaged again, and nothing else")] = False,
    as_json: AsJson = False,
) -> None:
    """Every byte against its checksum; names what is damaged, the samples in it, and the remedy.

    Example: `rhoflow verify molecules.zarr --repair`
    """
    from flows.verify import verify_store

    if not verify_store(store, repair, molecules if deep else 0, as_json):
        raise typer.Exit(1)


@app.command()
def diff(
    first: Annotated[Location, typer.Argument(parser=locate, metavar="FIRST", help="a dataset's folder")],
    second: Annotated[Location, typer.Argument(parser=locate, metavar="SECOND", help="another's")],
    as_json: AsJson = False,
) -> None:
    """Which samples differ between two datasets, by how much, and which keys, versions and kernels explain it.

    Exit code 0: every sample, row and label is the same; 1: not.

    Example: `rhoflow diff molecules.zarr again.zarr`
    """
    from flows.diff import diff_stores

    if not diff_stores(first, second, as_json):
        raise typer.Exit(1)


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
    from flows.diff import diff_stores
    from flows.regenerate import regenerate as build_again

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
    from flows.cluster import check_workers
    from flows.retry import describe, retry_failures

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
def export(
    store: StorePath,
    id: Annotated[str, typer.Argument(help="of the sample, e.g. ethanol#0")],
    file: Annotated[Path, typer.Argument(help="what is written; its ending says the format: .cube, .ccp4, .npz")],
    channel: Annotated[list[str], typer.Option(help="which field; cube and npz files take several")],
    format: Annotated[Optional[str], typer.Option(help="cube, ccp4 or npz, whatever the ending")] = None,  # noqa: UP045
) -> None:
    """One sample for other programs: cube (bohr, e/bohr³), CCP4/MRC (Å, e/Å³) or npz (units in the names).

    Example: `rhoflow export molecules.zarr "ethanol#0" --channel target ethanol.cube`
    """
    from flows.export import export_sample

    export_sample(store, id, channel, file, format)
    print(file)


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
    with Meter("samples", molecules, unit="samples") as meter:
        estimated = estimate_build(values, limit, molecules, lambda done: meter.advance(done - meter.done))
    print(estimate_json(estimated) if as_json else describe(estimated, workers))


@app.command()
def report(
    source: Annotated[
        Location, typer.Argument(parser=locate, metavar="STORE|RUN", help="a dataset, or the folder of a training run")
    ],
    page: Annotated[Optional[Path], typer.Argument(metavar="FILE.html", help="report.html beside it, or here")] = None,  # noqa: UP045
    store: Annotated[
        Optional[Location],  # noqa: UP045
        typer.Option(parser=locate, metavar="STORE", help="the run's dataset, where it has moved"),
    ] = None,
) -> None:
    """Make one self-contained page: pictures, surfaces that turn, counts, failures, times, recipe.

    Example: `rhoflow report molecules.zarr report.html`
    """
    from flows.report.page import write_report
    from storage.layout import HEADER

    page = page or (source.parent if isinstance(source, Path) else Path()) / "report.html"
    if has_object(source, HEADER):
        write_report(source, None, page)
    elif not (isinstance(source, Path) and source.is_dir()):
        raise RequestError(f"{source}: neither a rhoflow dataset nor a training run: check the path")
    else:
        from training.trained import load_model

        write_report(store or locate(load_model(source).origin.stores[0]), source, page)
    print(page)


@train.command()
def superres(
    config: Annotated[Path, typer.Argument(help="the training config, a TOML file")],
    run: Annotated[Path, typer.Argument(help="the folder of this training run")],
    store: Annotated[
        Optional[list[Location]],  # noqa: UP045
        typer.Option(parser=locate, metavar="STORE", help="the dataset, instead of the config's; several: again"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted run")] = False,
) -> None:
    """Train a super-resolution model: the guess, on coarse cells and on fine ones, in; the fine target out.

    Example: `rhoflow train superres superres.toml run --store molecules.zarr`; on several GPUs
    `torchrun --nproc-per-node gpu --no-python rhoflow train superres …`
    """
    from dataclasses import replace

    from training.config import SuperresConfig
    from training.config_file import read_config
    from training.superres import train_superres

    settings = read_config(config, SuperresConfig)
    train_superres(replace(settings, store=tuple(store)) if store else settings, run, resume=resume)
    print(run)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="the folder of a training run")],
    store: StorePath,
    beside: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(metavar="RUN", help="another run that learnt the same target; several: again"),
    ] = None,
    split: Annotated[str, typer.Option(help="whose molecules are judged")] = "test",
    rotations: Annotated[int, typer.Option(min=0, help="of each molecule, at random, from its kept wavefunctions")] = 0,
    as_json: AsJson = False,
) -> None:
    """Score a trained model on the test split: NMAE, electrons, moments; by distance and element; turned molecules.

    Beside it the guess, other runs, and interpolation of coarse cells. RUN/evaluation.json holds all of it. On the test
    split also how well the model foresees its errors, as `rhoflow predict` does.

    Example: `rhoflow evaluate run molecules.zarr --beside published --rotations 4`
    """
    from training.evaluation import evaluate_superres
    from training.spreads import evaluate_expectations

    evaluation = evaluate_superres(run, store, beside=beside or (), split=split, rotations=rotations)
    foresight = f"\n{evaluate_expectations(run, store)}" if split == "test" else ""
    print((run / "evaluation.json").read_text() if as_json else f"{evaluation}{foresight}")


@app.command()
def compare(
    config: Annotated[Path, typer.Argument(help="what is compared, a TOML file: see deploy/studies")],
    run: Annotated[Path, typer.Argument(help="the folder of this comparison")],
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted comparison")] = False,
    workers: Annotated[int, typer.Option(min=1, help="trainings at once, each a process with its share of cores")] = 1,
) -> None:
    """Train variants of a model, on several numbers of molecules and with several seeds, and judge them side by side.

    Each training is an ordinary run in RUN/VARIANT/MOLECULES/SEED. RUN/comparison.json, .csv and .svg hold the table
    and the plot. Where Prefect is installed, it is one of its flows, with a task for each training.

    Example: `rhoflow compare deploy/studies/growth.toml growth`
    """
    from importlib.util import find_spec

    from training.comparison.config import read_comparison
    from training.comparison.jobs import claim_comparison

    claim_comparison(read_comparison(config), run, resume)  # a wrong config ends here, before any server starts
    if find_spec("prefect") is None:
        from flows.compare import compare as compare_plainly

        print(compare_plainly(config, run, workers, resume=True))
    else:
        configure_prefect()
        from flows.compare_flow import compare_models

        print(compare_models(config, run, workers))


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="the folder of a training run, or the name of a model that comes along")],
    input: Annotated[str, typer.Argument(help="a SMILES; a file: xyz, sdf, smi, csv …; or a dataset")],
    out: Annotated[Path, typer.Argument(help="a file that ends in .cube, .ccp4, .mrc or .npz; of several, a folder")],
    format: Annotated[Optional[str], typer.Option(help="cube, ccp4 or npz; in a folder npz by default")] = None,  # noqa: UP045
    smiles: Annotated[str, typer.Option(help="column of the SMILES, for tables")] = "smiles",
    id: Annotated[Optional[str], typer.Option(help="column or tag of the ids; without one, row numbers")] = None,  # noqa: UP045
    memory_gib: Annotated[float, typer.Option(min=0.1, help="what one molecule may take; larger ones go in tiles")] = 8,
    as_json: AsJson = False,
) -> None:
    """The density of a molecule by a trained model, with the error to be expected; the guess is computed on the way.

    A geometry that is given is kept; from a SMILES one is made. Of several molecules, those that fail are named, and
    the rest goes on.

    Example: `rhoflow predict qm9-gfn2 CCO ethanol.cube`
    """
    import json
    from dataclasses import asdict

    from flows.predict import Wanted
    from flows.predict import predict as predict_densities

    predictions = predict_densities(Wanted(run, input, out, format, smiles, id, memory_gib))
    if as_json:
        print(json.dumps([asdict(one) for one in predictions]))
    else:
        print("\n".join(map(str, predictions)))


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
    from flows.cluster import check_cluster
    from flows.recipe import read_recipe

    read_recipe(recipe)
    check_cluster(cluster)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO")  # a service's log is what there is to see
    configure_prefect()
    from flows.schedule import serve_nightly

    serve_nightly(recipe, store, workers, cluster, train, cron)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="where everything is put")] = Path("demo"),
    workers: Workers = CPUS,
) -> None:
    """The whole journey in minutes: real molecules, their densities, a trained model, a page that shows both.

    Example: `rhoflow demo`
    """
    from flows.demo.journey import travel

    travel(folder, lambda recipe, store: build(recipe, store, workers))


def configure_prefect() -> None:
    """Prefect's settings where the user has not chosen others; it reads them when it is imported."""
    from flows.server_loop import STARTER

    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # people see progress; the server keeps every line
        "UVICORN_LOOP": "flows.server_loop:new_event_loop",  # the server that Prefect starts, if none is named
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ[STARTER] = str(os.getpid())


def read_parts(parts: str) -> tuple[int, int]:
    """("3/8") → (3, 8). Raises RequestError."""
    first, slash, second = parts.partition("/")
    if not (slash and first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second)):
        raise RequestError(f"--parts {parts}: write i/N with 1 ≤ i ≤ N, for example 3/8")
    return int(first), int(second)


def read_numbers(option: str, words: str) -> list[int]:
    """("--classes", "32,48") → [32, 48]. Raises RequestError."""
    numbers = words.split(",")
    if not all(number.strip().isdigit() for number in numbers):
        raise RequestError(f"{option} {words}: write numbers with commas between, for example 32,48,64")
    return [int(number) for number in numbers]


def print_status(store: "Location", status: "Status") -> None:
    failed = sum(status.failed.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in status.failed.items())
    print(f"{store}: {f'sealed, version {status.version}' if status.sealed else 'not sealed yet'}")
    print(
        f"  rows       {status.rows}: {status.done} done, {failed} failed{f' ({reasons})' if failed else ''}, "
        f"{status.missing} missing"
    )
    if status.computing_seconds:
        rate = (status.done + failed) / status.wall_seconds if status.wall_seconds else 0.0
        left = status.missing / rate if rate else float("nan")
        print(f"  computing  {status.computing_seconds:.1f} CPU s in child processes")
        print(
            f"  wall       {status.wall_seconds:.1f} s on {status.workers} workers: "
            f"{100 * status.overhead:+.1f} % over computing / workers"
        )
        print(f"  rate       {rate:.2f} rows/s" + (f", about {left:.0f} s left" if status.missing else ""))


def main() -> None:
    """The console script: errors that are the user's to mend end in one message and an exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make training 4 times slower on shared cores
    try:
        app()
    except Exception as error:
        ended = error if isinstance(error, RhoflowError) else explain_fault(error)
        if ended is None:
            raise
        print(f"rhoflow: {ended}", file=sys.stderr)
        sys.exit(ended.exit_code)


if __name__ == "__main__":
    main()
