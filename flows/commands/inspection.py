"""Commands that look into datasets and runs. Each imports only what it needs."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from flows.commands.arguments import AsJson, Location, StorePath, app
from storage.errors import RequestError
from storage.objects import has_object, locate


@app.command()
def status(store: StorePath, as_json: AsJson = False) -> None:
    """How far a build is: rows done, failed by reason, missing; time spent, rate, time left.

    Example: `rhoflow status molecules.zarr --json`
    """
    from flows.status import describe_status, read_status, status_json

    read = read_status(store)
    if as_json:
        print(status_json(read))
    else:
        print(describe_status(store, read))


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
    from flows.care.verify import verify_store

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
    from flows.care.diff import diff_stores

    if not diff_stores(first, second, as_json):
        raise typer.Exit(1)


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
def report(
    source: Annotated[
        Location,
        typer.Argument(
            parser=locate, metavar="STORE|RUN", help="a dataset, or the folder of a training run or of a comparison"
        ),
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
    elif has_object(source, "comparison.json"):
        from flows.report.comparison import write_comparison

        write_comparison(source, page)
    else:
        from training.trained import load_model

        write_report(store or locate(load_model(source).origin.stores[0]), source, page)
    print(page)
