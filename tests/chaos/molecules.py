"""Recipes and sources of datasets to be built under fire."""

from collections.abc import Mapping
from pathlib import Path

from flows.demo import __file__ as demo

ANALYTIC = """
[source]
path = "waters.extxyz"
id = "name"
[conformers]
keep = true
[densities.target]
engine = "gaussian"
seconds = {seconds}
faults = {{ {faults} }}
[grid]
spacing_angstrom = 0.5
classes = [16]
[limits]
seconds_per_molecule = {limit}
memory_gib = {memory}
[store]
shard_samples = {shard}
"""
GFN2 = """
[source]
path = "molecules.csv"
[conformers]
count = 4
[densities.guess]
engine = "gfn2"
[grid]
spacing_angstrom = 0.16
classes = [64, 80, 96, 112, 128]
[store]
shard_samples = 4
"""


def write_waters(
    folder: Path,
    count: int,
    seconds: float,
    shard: int = 2,
    faults: Mapping[str, str] | None = None,
    limit: float = 3600,
    memory: float = 8,
) -> Path:
    """The recipe of water0, water1 …, each a little wider than the one before; each takes `seconds`."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = (
        f"3\nname=water{k}\nO 0 0 0\nH {0.7 + 0.0004 * k:.4f} 0.6 0\nH {-0.7 - 0.0004 * k:.4f} 0.6 0\n"
        for k in range(count)
    )
    (folder / "waters.extxyz").write_text("".join(frames))
    words = ", ".join(f'"{id}" = "{fault}"' for id, fault in (faults or {}).items())
    return _write(folder, ANALYTIC.format(seconds=seconds, shard=shard, faults=words, limit=limit, memory=memory))


def write_demo(folder: Path) -> Path:
    """The recipe of the demo's molecules, four conformers each, with GFN2."""
    folder.mkdir(parents=True, exist_ok=True)
    molecules = Path(str(demo)).with_name("molecules.csv")
    (folder / "molecules.csv").write_text(molecules.read_text())
    return _write(folder, GFN2)


def _write(folder: Path, recipe: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(recipe)
    return path
