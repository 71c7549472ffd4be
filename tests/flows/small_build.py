"""Small builds with the analytic engine, through the real commands or in this process."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import main
from flows.conform import conform_part
from flows.engines import build_engines
from flows.plan import plan_dataset
from flows.recipe import read_recipe, recipe_values
from flows.shard import compute_shard
from flows.source import read_source
from storage.generations import count_parts
from storage.header import Header, begin_store
from storage.seal import seal

SMILES = ["C", "CC", "O", "N", "CO", "C=C", "C#C", "CCC", "CN", "F", "CF", "OO"]

RECIPE = """
[source]
path = "molecules.csv"
id = "name"
labels = ["charge_of_label"]
[densities.guess]
engine = "gaussian"
exponent = 0.6
[densities.target]
engine = "gaussian"
[grid]
spacing_angstrom = 0.5
classes = [16, 20, 24]
[store]
shard_samples = 2
"""


def write_recipe(folder: Path, extra_rows: tuple[str, ...] = ()) -> Path:
    """Twelve molecules and the given extra rows of name,smiles,label."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"m{k},{smiles},{k / 7}" for k, smiles in enumerate(SMILES)]
    (folder / "molecules.csv").write_text("\n".join(["name,smiles,charge_of_label", *rows, *extra_rows]) + "\n")
    path = folder / "recipe.toml"
    path.write_text(RECIPE)
    return path


def build_here(recipe: Path, store: Path) -> Path:
    """The stages of a build, in this process."""
    values = read_recipe(recipe)
    build_engines(values)
    begin_store(store, Header(recipe_values(values), recipe.read_text()))
    read_source(store, values)
    for part in range(count_parts(store)):
        conform_part(store, part)
    for shard in plan_dataset(store).shards():
        compute_shard(store, shard.number)
    seal(store)
    return store


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *map(str, arguments)]


def environment(home: Path) -> dict[str, str]:
    """A user's environment with a Prefect home of its own."""
    return {**os.environ, "PREFECT_HOME": str(home), "COLUMNS": "200"}


def rhoflow(home: Path, *arguments: str | Path, code: int = 0) -> str:
    """Run the command to its end; returns what it printed. Fails where the exit code is another."""
    ended = subprocess.run(
        command(*arguments), env=environment(home), capture_output=True, text=True, timeout=200, check=False
    )
    printed = ended.stdout + ended.stderr
    assert ended.returncode == code, printed
    return printed


def rhoflow_here(*arguments: str | Path, code: int = 0) -> str:
    """As `rhoflow`, in this process: for commands that need no Prefect, where no fresh process is what is tested."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["rhoflow", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
    printed = out.getvalue() + err.getvalue()
    assert ended.value.code == code, printed
    return printed
