"""A hundred QM9 molecules through the real commands: overhead, electrons, dipoles, bytes, and other grids."""

import gzip
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.units import DEBYE_PER_EBOHR
from storage.plan import read_plan
from storage.reader import Dataset, open_dataset
from storage.receipts import read_receipt
from tests.benchmarks.molecules import QM9, has_qm9

MOLECULES = 100
DIRECT = 20  # of them are built on the other grid too
RECIPE = """
[source]
path = "qm9.extxyz"
[conformers]
keep = true
[densities.guess]
engine = "gfn2"
[densities.target]
engine = "dft"
[grid]
spacing_angstrom = 0.2
[store]
shard_samples = 4
"""
CORES = {1: 0, 6: 2, 7: 2, 8: 2, 9: 2}  # electrons that valence densities leave out


def write_molecules(path: Path, molecules: int = MOLECULES) -> None:
    """Some of the file's molecules, evenly spread over its sizes."""
    with gzip.open(QM9, "rt") as file:
        frames = []
        while count := file.readline():
            frames.append(count + "".join(islice(file, int(count) + 1)))
    path.write_text("".join(frames[:: len(frames) // molecules][:molecules]))


def rhoflow(*arguments: str | Path) -> float:
    """Wall seconds of a command."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "flows.cli", *map(str, arguments)], check=True, capture_output=True)
    return time.monotonic() - started


def read_status(store: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "flows.cli", "status", str(store), "--json"]
    status: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return status


def dipole_error(dataset: Dataset, id: str, density: str) -> float:
    """Debye between the dipole of the voxels and the engine's own."""
    sample = dataset[id]
    values, grid = sample.channels[density].astype(np.float64), sample.grid
    charges = np.array([number - CORES[int(number)] for number in sample.numbers])
    others = ((1, 2), (0, 2), (0, 1))
    electrons = [values.sum(axis=others[axis]) @ grid.centres(axis) * grid.cell_volume for axis in range(3)]
    dipole = charges @ sample.positions - np.array(electrons)
    return float(np.linalg.norm(dipole - sample.states[density].dipole)) * DEBYE_PER_EBOHR


def print_accuracy(dataset: Dataset) -> None:
    for density in dataset.densities:
        counts = np.abs(dataset.table[f"{density}_voxel_electrons"] - dataset.table[f"{density}_electrons"])
        dipoles = max(dipole_error(dataset, id, density) for id in dataset.ids)
        print(f"  {density}: electrons within {counts.max():.1e}, dipoles from voxels within {dipoles:.4f} debye")


def print_bytes(store: Path, dataset: Dataset) -> None:
    """Kept wavefunctions beside the voxels, as stored and as raw numbers."""
    objects = [key for shard in read_plan(store).shards() for key in read_receipt(store, shard.number).objects]
    for density in dataset.densities:
        kept = [f"orbitals_{density}", f"occupations_{density}"]
        stored = sum((store / key).stat().st_size for key in objects if key.split("/")[1] in kept)
        voxels = sum((store / key).stat().st_size for key in objects if key.split("/")[1] == density)
        raw = sum(4 * math.prod(dataset[id].grid.shape) for id in dataset.ids)
        orbitals = sum(dataset[id].states[density].orbitals.nbytes for id in dataset.ids)
        count = len(dataset)
        print(
            f"  {density}: wavefunction {stored / count / 1e3:.1f} kB stored ({orbitals / count / 1e3:.1f} raw), "
            f"voxels {voxels / count / 1e3:.1f} kB stored ({raw / count / 1e3:.0f} as float32): "
            f"1/{raw / stored:.0f} of the float32 voxels, 1/{voxels / stored:.1f} stored against stored"
        )


def compare_voxels(first: Dataset, second: Dataset) -> float:
    """Largest NMAE of any density of any sample."""
    return max(
        float(np.abs(first[id].channels[name] - second[id].channels[name]).sum() / second[id].channels[name].sum())
        for id in second.ids
        for name in second.densities
    )


def main() -> None:
    if not has_qm9():
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["PREFECT_HOME"] = str(folder / "prefect")
        write_molecules(folder / "qm9.extxyz")
        (folder / "recipe.toml").write_text(RECIPE)
        (folder / "wide.toml").write_text(RECIPE.replace("0.2", "0.25") + "round_to = 0\n")
        store, wide, again = folder / "built.zarr", folder / "wide.zarr", folder / "again.zarr"
        building = rhoflow("build", folder / "recipe.toml", store)
        status, dataset = read_status(store), open_dataset(store)
        overhead = status["worker_seconds"] / status["computing_seconds"] - 1
        print(f"  GFN2 and PBE/gth-tzv2p of {len(dataset)} molecules: {status['computing_seconds']:.0f} CPU s,")
        print(f"  {building:.0f} s on {status['workers']} workers: {100 * overhead:+.0f} % over computing / workers")
        print_accuracy(dataset)
        print_bytes(store, dataset)
        for new, options in ((again, []), (wide, ["--spacing-angstrom", "0.25", "--round-to", "0"])):
            seconds = rhoflow("voxelize", store, new, *options)
            computing = read_status(new)["computing_seconds"]
            print(
                f"  voxelize {' '.join(options) or 'the same grid'}: {seconds:.1f} s, "
                f"{building / seconds:.0f}× faster than building ({computing:.0f} CPU s, "
                f"{status['computing_seconds'] / computing:.0f}×)"
            )
        same = all(
            np.array_equal(open_dataset(again)[id].channels[name], dataset[id].channels[name])
            for id in dataset.ids
            for name in dataset.channels
        )
        print(f"  the same grid again: {'identical' if same else 'DIFFERENT'}")
        direct = folder / "direct.zarr"
        rhoflow("build", folder / "wide.toml", direct, "--limit", str(DIRECT))
        print(f"  0.25 Å against a direct build: NMAE {compare_voxels(open_dataset(wide), open_dataset(direct)):.1e}")
