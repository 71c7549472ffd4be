"""The command that answers which is better, and by how much."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.arguments import app


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
        from flows.prefect_settings import configure_prefect

        configure_prefect()
        from flows.compare_flow import compare_models

        print(compare_models(config, run, workers))
