"""A hundred thousand samples of the analytic engine through the real commands: time by stage, memory, overhead."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from storage.layout import SEAL, generation_key, plan_key, receipt_key
from storage.parts import read_circumstances
from storage.plan import read_plan
from storage.receipts import read_receipt
from tests.benchmarks.builds import rhoflow

SAMPLES = 100_000
WORKERS = 2  # one for each core
SHARD_SAMPLES = 16
ASLEEP = 0.06  # seconds of every sample, so that a shard takes one
SECONDS_BETWEEN_LOOKS = 0.5
RECIPE = f"""
[source]
path = "atoms.xyz"
[conformers]
keep = true
[densities.target]
engine = "gaussian"
exponent = 0.6
seconds = {ASLEEP}
[grid]
spacing_angstrom = 0.8
margin_angstrom = 2.0
classes = [8, 12, 16]
[store]
shard_samples = {SHARD_SAMPLES}
"""


def write_molecules(path: Path, count: int) -> None:
    """Zigzag chains of one to five atoms, no two alike."""
    generator = np.random.default_rng(7)
    with path.open("w") as file:
        for number in range(count):
            atoms = 1 + number % 5
            steps = [(1.1 * k, 0.5 * (k % 2), 0.0) for k in range(atoms)]
            positions = np.array(steps) + generator.uniform(-0.1, 0.1, (atoms, 3))
            rows = (f"{'CNOFH'[k]} {x:.6f} {y:.6f} {z:.6f}" for k, (x, y, z) in enumerate(positions))
            file.write("\n".join([str(atoms), f"molecule {number}", *rows]) + "\n")


@dataclass(frozen=True)
class Look:
    """The building process at one moment."""

    at: float  # time.time()
    memory: int  # bytes resident


def watch(*arguments: str | Path) -> tuple[float, list[Look]]:
    """Wall seconds of a command, and its own memory as it ran, without its children's."""
    started, looks = time.monotonic(), []
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    with psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        while running.poll() is None:
            looks.append(Look(time.time(), running.memory_info().rss))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if running.returncode:
        sys.exit(f"{' '.join(command)} ended with {running.returncode}")
    return time.monotonic() - started, looks


def last_written(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.iterdir())


@dataclass(frozen=True)
class Stages:
    """When each ended, time.time()."""

    read: float
    conform: float
    plan: float
    compute: float
    seal: float


def find_stages(store: Path) -> Stages:
    """From the files that each writes last."""
    written = {key: (store / key).stat().st_mtime for key in (generation_key(1), plan_key(1), SEAL)}
    conformed, computed = last_written(store / "work/conformers"), last_written(store / "work/receipts")
    return Stages(written[generation_key(1)], conformed, written[plan_key(1)], computed, written[SEAL])


def list_computing(store: Path) -> list[tuple[float, float]]:
    """Of each shard, in the order of their receipts: when that was written, and seconds in children, awake or asleep.

    Sleep counts as what was asked for: what it takes beyond that is overhead.
    """
    receipts = [read_receipt(store, shard.number) for shard in read_plan(store).shards()]
    written = [(store / receipt_key(receipt.shard)).stat().st_mtime for receipt in receipts]
    seconds = [one.circumstances["computing_seconds"] + ASLEEP * len(one.outcomes) for one in receipts]
    return sorted(zip(written, seconds, strict=True))


def overhead(spent: float, computing: float) -> float:
    """Per cent."""
    return 100 * (spent / computing - 1)


def steady_overhead(shards: list[tuple[float, float]]) -> float:
    """Per cent, without the first tenth of the shards, in which workers and children start."""
    first = len(shards) // 10
    return overhead(WORKERS * (shards[-1][0] - shards[first][0]), sum(seconds for _, seconds in shards[first + 1 :]))


def memory_at(looks: list[Look], stages: Stages) -> Iterator[str]:
    """Of the building process: when shards begin, at a tenth of them, at their end, and at most."""
    length = stages.compute - stages.plan
    moments = {"at 2 %": 0.02, "at 10 %": 0.1, "at 50 %": 0.5, "at 100 %": 1.0}
    for name, fraction in moments.items():
        seen = [look.memory for look in looks if look.at <= stages.plan + fraction * length]
        yield f"{seen[-1] / 2**20:.0f} MiB {name} of the shards"
    yield f"{max(look.memory for look in looks) / 2**20:.0f} MiB at most"


def count_conforming(store: Path) -> float:
    """CPU seconds of the children that made conformers."""
    keys = [f"work/conformers/{path.name}" for path in (store / "work/conformers").iterdir()]
    return sum(read_circumstances(store, key)["computing_seconds"] for key in keys)


def count_cpu() -> float:
    """CPU seconds of every process that this one has started and seen end, and of those that they started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def print_build(store: Path, began: float, wall: float, cpu: float, looks: list[Look]) -> None:
    plan, stages = read_plan(store), find_stages(store)
    shards, samples = len(plan.shards()), sum(plan.counts.values())
    conforming, each = count_conforming(store), list_computing(store)
    computing = sum(seconds for _, seconds in each)
    awake = computing - ASLEEP * samples
    spent = WORKERS * (stages.compute - stages.plan)
    size = sum(path.stat().st_blocks * 512 for path in store.rglob("*") if path.is_file())
    print(f"  {samples} samples in {shards} shards of {computing / shards:.2f} s: {wall:.0f} s on {WORKERS} workers")
    print(f"  start and read {stages.read - began:.1f} s, conform {stages.conform - stages.read:.1f} s")
    print(f"  plan {stages.plan - stages.conform:.1f} s, compute {stages.compute - stages.plan:.1f} s, ", end="")
    print(f"seal {stages.seal - stages.compute:.1f} s")
    print(f"  compute: {overhead(spent, computing):+.1f} % over computing / workers, ", end="")
    print(f"{steady_overhead(each):+.1f} % once its first tenth is done; ", end="")
    print(f"the whole build {overhead(WORKERS * wall, computing + conforming):+.1f} %")
    print(f"  CPU beside computing: {1000 * (cpu - awake - conforming) / shards:.0f} ms a shard, all stages together")
    print(f"  memory of the building process: {', '.join(memory_at(looks, stages))}")
    print(f"  {size / 1e9:.2f} GB on disk", flush=True)


def print_again(store: Path, recipe: Path) -> None:
    """What commands cost on a finished store."""
    shards = len(read_plan(store).shards())
    commands = {"build": [recipe, store], "run": [store], "status": [store], "seal": [store], "verify": [store]}
    start = rhoflow("recipe", "--schema")
    for command, arguments in commands.items():
        before = count_cpu()
        seconds = rhoflow(command, *arguments)
        per_thousand = 1000 * (seconds - start) / shards
        print(f"  {command} again: {seconds:.1f} s ({count_cpu() - before:.1f} CPU s), ", end="")
        print(f"{per_thousand:.2f} s per 1,000 shards beyond the start of the command", flush=True)


def main(samples: int = SAMPLES) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["PREFECT_HOME"] = str(folder / "prefect")
        write_molecules(folder / "atoms.xyz", samples)
        (folder / "recipe.toml").write_text(RECIPE)
        began, before = time.time(), count_cpu()
        wall, looks = watch("build", folder / "recipe.toml", folder / "built.zarr", "--workers", str(WORKERS))
        print_build(folder / "built.zarr", began, wall, count_cpu() - before, looks)
        print_again(folder / "built.zarr", folder / "recipe.toml")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES)
