"""The whole journey in minutes: molecules, dataset, trained model, report."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
COPIED = ("molecules.csv", "recipe.toml", "superres.toml")


def travel(folder: Path, build: Callable[[Path, Path], None]) -> None:
    """Build, train and report in `folder`; whatever stands there already is kept and resumed."""
    from flows.report.page import write_report
    from training.config import SuperresConfig
    from training.config_file import read_config
    from training.superres.evaluation import evaluate_superres
    from training.superres.task import train_superres

    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if not (folder / name).exists():
            shutil.copyfile(HERE / name, folder / name)
    store, run, page = folder / "molecules.zarr", folder / "superres", folder / "report.html"
    print(f"1/3  dataset  {store}", flush=True)
    build(folder / "recipe.toml", store)
    print(f"2/3  model    {run}", flush=True)
    train_superres(read_config(folder / "superres.toml", SuperresConfig), run, resume=run.exists())
    print(evaluate_superres(run, store))
    print(f"3/3  report   {page}", flush=True)
    write_report(store, run, page)
    print(f"done in {(time.monotonic() - started) / 60:.1f} minutes: open {page} in a browser")
