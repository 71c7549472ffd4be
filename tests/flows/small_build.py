"""Small builds with the analytic engine, through the real commands."""

import os
import subprocess
import sys
from pathlib import Path

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
