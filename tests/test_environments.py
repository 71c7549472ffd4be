"""Each job runs without the libraries that it does not need: what must be absent cannot even be imported here.

`make environments` proves the same in environments made from nothing; it needs a package registry.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.small_build import write_recipe

CHEMISTRY = ("rdkit", "pyscf", "tblite", "xtb")
ORCHESTRATION = ("prefect", "dask", "distributed")

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({absent!r}))  # None: an import raises ModuleNotFoundError
"""

COMMANDS = """
from flows.cli import main
for arguments in {commands!r}:
    sys.argv = ["rhoflow", *arguments]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""

VOXELIZE = """
from pathlib import Path
import torch
from training.batch import Draw
from training.catalog import read_catalog
from training.stored import Cutting
from training.wavefunctions import WavefunctionBoxes

catalog = read_catalog([Path({store!r})], "train", ("guess", "target"))
boxes = WavefunctionBoxes(catalog, "guess", "target", Cutting(crop=16, turn=True), torch.device("cpu"))
print(tuple(boxes.read([Draw(0, 0)]).target.shape))
"""


def python_without(absent: tuple[str, ...], script: str) -> str:
    """Run the script in a process that has none of the `absent` packages."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    whole = WITHOUT.format(absent=absent) + script
    ended = subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, timeout=200, env=environment, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def rhoflow_without(absent: tuple[str, ...], *commands: tuple[str | Path, ...]) -> str:
    """Run these, one after the other, in one process."""
    return python_without(absent, COMMANDS.format(commands=[[*map(str, command)] for command in commands]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset made by batch jobs that have neither Prefect, nor Dask, nor torch."""
    folder = tmp_path_factory.mktemp("parts")
    recipe, store = write_recipe(folder), folder / "store.zarr"
    recipe.write_text(recipe.read_text() + "[splits]\ntrain = 0.5\nvalidation = 0.25\ntest = 0.25\n")
    halves = (("run", store, "--parts", f"{part}/2") for part in (1, 2))
    absent = ("torch", "plotly", "skimage", *ORCHESTRATION)
    rhoflow_without(absent, ("plan", recipe, store), *halves, ("seal", store))
    return store


def test_batch_jobs_need_no_torch_no_prefect_and_no_dask(store: Path) -> None:
    assert "12 done" in rhoflow_without(("torch", *CHEMISTRY, *ORCHESTRATION), ("status", store))


def test_training_needs_no_chemistry_and_no_prefect(store: Path, tmp_path: Path) -> None:
    config, run = tmp_path / "superres.toml", tmp_path / "run"
    config.write_text("steps = 2\nwidth = 4\ndepth = 1\ncrop = 8\n")
    absent = (*CHEMISTRY, "plotly", "obstore", *ORCHESTRATION)
    training = ("train", "superres", config, run, "--store", store)
    assert "on 3 samples it never saw" in rhoflow_without(absent, training, ("evaluate", run, store))


def test_voxels_from_wavefunctions_need_no_chemistry_and_no_prefect(store: Path) -> None:
    absent = (*CHEMISTRY, "plotly", "obstore", *ORCHESTRATION)
    assert python_without(absent, VOXELIZE.format(store=str(store))) == "(1, 16, 16, 16)\n"
