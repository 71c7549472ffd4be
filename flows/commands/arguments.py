"""The application, and the arguments that several of its commands take."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from storage.objects import locate

if TYPE_CHECKING:
    from storage.objects import Location as Location
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
