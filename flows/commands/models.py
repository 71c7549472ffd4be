"""Commands that train models, judge them and use them. Each imports only what it needs."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from flows.commands.arguments import BEGUN, CPUS, AsJson, Location, StorePath, Workers, app, train
from flows.commands.datasets import build
from storage.errors import RequestError
from storage.objects import locate

ConfigPath = Annotated[Path, typer.Argument(help="the training config, a TOML file")]
RunPath = Annotated[Path, typer.Argument(help="the folder of this training run")]
Stores = Annotated[
    Optional[list[Location]],  # noqa: UP045
    typer.Option(parser=locate, metavar="STORE", help="the dataset, instead of the config's; several: again"),
]
Resume = Annotated[bool, typer.Option("--resume", help="go on with an interrupted run")]


@train.command()
def superres(
    config: ConfigPath,
    run: RunPath,
    store: Stores = None,
    resume: Resume = False,
) -> None:
    """Train a super-resolution model: the guess, on coarse cells and on fine ones, in; the fine target out.

    Example: `rhoflow train superres superres.toml run --store molecules.zarr`; on several GPUs
    `torchrun --nproc-per-node gpu --no-python rhoflow train superres …`
    """
    from dataclasses import replace

    from training.config import SuperresConfig
    from training.config_file import read_config
    from training.superres.task import train_superres

    settings = read_config(config, SuperresConfig)
    train_superres(replace(settings, store=tuple(store)) if store else settings, run, resume=resume)
    print(run)


@train.command("property")
def train_property(
    config: ConfigPath,
    run: RunPath,
    store: Stores = None,
    resume: Resume = False,
) -> None:
    """Train a model of properties: stacked channels of a molecule in, its labels out; or one of the controls.

    Example: `rhoflow train property property.toml run --store qm9-channels.zarr`
    """
    from dataclasses import replace

    from training.config import PropertyConfig
    from training.config_file import read_config
    from training.property.task import train_property as train_model

    settings = read_config(config, PropertyConfig)
    train_model(replace(settings, store=tuple(store)) if store else settings, run, resume=resume)
    print(run)


@train.command("field")
def train_field(
    config: ConfigPath,
    run: RunPath,
    store: Stores = None,
    resume: Resume = False,
) -> None:
    """Train a molecular neural field: a position in, the molecule's fields there out; see deploy/fields.

    Example: `rhoflow train field field.toml run --store molecules.zarr`
    """
    from dataclasses import replace

    from training.config import FieldConfig
    from training.config_file import read_config
    from training.field.task import train_field as train_network

    settings = read_config(config, FieldConfig)
    train_network(replace(settings, store=tuple(store)) if store else settings, run, resume=resume)
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

    A model of properties: mean absolute errors, beside those of the mean; with --rotations each prediction is the mean
    over so many of the cube's 24.

    A neural field: PSNR beside that of zeros, SSIM, and of a density NMAE and electrons, on grids 1, 2 and 4 times as
    fine as that of training; of an encoder on the split, and on the molecules it was trained on.

    Example: `rhoflow evaluate run molecules.zarr --beside published --rotations 4`
    """
    from training.field.model import holds_field_model

    if holds_field_model(run):
        from flows.field.evaluation import check_field_options, evaluate_field

        check_field_options(run, beside=beside or (), rotations=rotations)
        judged = evaluate_field(run, store, split=split)
        print((run / "evaluation.json").read_text() if as_json else judged)
        return
    from training.property.model import holds_property_model

    if holds_property_model(run):
        from training.property.evaluation import evaluate_property

        if beside:
            raise RequestError(f"{run} predicts properties: leave out --beside, and see `rhoflow compare`")
        scores = evaluate_property(run, store, split=split, rotations=rotations)
        print((run / "evaluation.json").read_text() if as_json else scores)
        return
    from training.superres.evaluation import evaluate_superres
    from training.superres.spreads import evaluate_expectations

    evaluation = evaluate_superres(run, store, beside=beside or (), split=split, rotations=rotations)
    told = str(evaluation)
    if split == "test":
        told += f"\n{evaluate_expectations(run, store) or 'no error is foreseen: no sample is like the training'}"
    print((run / "evaluation.json").read_text() if as_json else told)


@app.command()
def compare(
    config: Annotated[Path, typer.Argument(help="what is compared, a TOML file: see deploy/studies")],
    run: Annotated[Path, typer.Argument(help="the folder of this comparison")],
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with an interrupted comparison, or with more seeds")
    ] = False,
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
        from flows.comparison.compare import compare as compare_plainly

        print(compare_plainly(config, run, workers, resume=True))
    else:
        from flows.workers.prefect_settings import configure_prefect

        configure_prefect()
        from flows.comparison.flow import compare_models

        print(compare_models(config, run, workers))


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="the folder of a training run, or the name of a model that comes along")],
    input: Annotated[str, typer.Argument(help="a SMILES; a file: xyz, sdf, smi, csv …; or a dataset")],
    out: Annotated[
        Location,
        typer.Argument(
            parser=locate,
            metavar="OUT",
            help="a file that ends in .cube, .ccp4, .mrc or .npz; of several, a folder, or NAME.zarr, a dataset",
        ),
    ],
    format: Annotated[Optional[str], typer.Option(help="cube, ccp4 or npz; in a folder npz by default")] = None,  # noqa: UP045
    smiles: Annotated[str, typer.Option(help="column of the SMILES, for tables")] = "smiles",
    id: Annotated[Optional[str], typer.Option(help="column or tag of the ids; without one, row numbers")] = None,  # noqa: UP045
    memory_gib: Annotated[float, typer.Option(min=1, help="what one molecule may take; larger ones go in tiles")] = 8,
    channel: Annotated[Optional[str], typer.Option(help="of a neural field: which; all by default")] = None,  # noqa: UP045
    spacing_angstrom: Annotated[Optional[float], typer.Option(help="width of cells, where several are known")] = None,  # noqa: UP045
    level: Annotated[Optional[float], typer.Option(help="of a neural field: the value of a .ply surface")] = None,  # noqa: UP045
    to: Annotated[Optional[str], typer.Option(help="of a neural field: where an animation ends, a sample")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """The density of a molecule by a trained model, with the error to be expected; the guess is computed on the way.

    A geometry that is given is kept; from a SMILES one is made. Of several molecules, those that fail are named, and
    the rest goes on. A dataset holds guess and prediction, the expected errors in its table, and in its recipe the
    model; the same command again resumes, and adds the rows that are new. Exit code 1: not one could be predicted.

    Of a neural field INPUT is the id of a sample of the store it was trained on; OUT may end in .ply, a surface, or
    with --to ANOTHER in .html, an animation of the way there.

    Example: `rhoflow predict qm9-gfn2 CCO ethanol.cube`
    """
    import json
    from dataclasses import asdict

    from training.field.model import holds_field_model

    if holds_field_model(Path(run)):
        from flows.field.predict import WantedField, predict_field

        if not isinstance(out, Path):
            raise RequestError(f"{out}: fields are written as files on this machine: name a path")
        print(predict_field(WantedField(Path(run), input, out, format, channel, spacing_angstrom, level, to)))
        return
    given = {"--channel": channel, "--level": level, "--to": to}
    for option, value in given.items():
        if value is not None:
            raise RequestError(f"{option} {value}: is for neural fields, but {run} predicts densities: leave it out")
    from flows.prediction.predict import Wanted
    from flows.prediction.predict import predict as predict_densities

    wanted = Wanted(run, input, out, format, smiles, id, memory_gib, spacing_angstrom)
    if str(out).endswith(".zarr"):
        from flows.prediction.predict_store import predict_store
        from flows.status import describe_status, status_json

        status = predict_store(wanted, BEGUN)
        print(status_json(status) if as_json else describe_status(out, status))
        if not status.done:
            raise typer.Exit(1)
        return
    predictions = predict_densities(wanted)
    if as_json:
        print(json.dumps([asdict(one) for one in predictions]))
    else:
        print("\n".join(map(str, predictions)))
    if not any(one.outcome == "ok" for one in predictions):
        raise typer.Exit(1)


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
