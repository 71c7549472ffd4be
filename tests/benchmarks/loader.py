"""Batches of whole boxes from a store, beside other loaders on the same samples and beside what the disk could give."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import torch
from zarr.codecs import Crc32cCodec

from storage.layout import class_key, consolidate, open_group
from storage.shards import StoredObject
from tests.benchmarks import loader_peers
from tests.benchmarks.builds import rhoflow, write_molecules
from tests.benchmarks.loader_peers import BATCH, CHANNELS, SHARD
from tests.benchmarks.molecules import has_qm9
from training.catalog import read_catalog
from training.kept import KEPT_BYTES
from training.stored import Cutting, StoredBoxes
from training.stream import Stream, StreamSettings

MOLECULES = 1100  # of which those that fit into the box are built
CELLS = 48
SAMPLES = 512  # that every loader reads in a pass
ROUNDS = 5
EPOCHS = 4  # in a pass of ours and of raw reads: what is read ahead and never used is then but a small part
WORKERS = (0, 2)
RECIPE = f"""
[source]
path = "qm9.extxyz"
[conformers]
keep = true
[densities.guess]
engine = "sad"
[densities.target]
engine = "gfn2"
[grid]
spacing_angstrom = 0.25
margin_angstrom = 2.2
classes = [{CELLS}]
[splits]
train = 1.0
validation = 0.0
test = 0.0
[store]
shard_samples = {SHARD}
wavefunctions = false
"""
PEERS = Path(__file__).parents[2] / ".peers" / "streaming"  # an environment: they want other versions than ours
INSTALLED = ("torch==2.13.0", "filelock==3.18.0", "mosaicml-streaming==0.13.0", "litdata==0.2.76", "webdataset==1.0.2")
FIRST_BATCH = """
import sys, time
begun = time.perf_counter()
from pathlib import Path
from training.catalog import read_catalog
from training.stored import Cutting, StoredBoxes
from training.stream import Stream, StreamSettings
imported = time.perf_counter()
catalog = read_catalog([Path(sys.argv[1])], "train", ("guess", "target"))
boxes = StoredBoxes(catalog, "guess", "target", Cutting(turn=True))
next(Stream(boxes, catalog, StreamSettings(16, 64, 1, by_class=True, workers=2)).batches(0))
print(len(catalog), time.perf_counter() - imported, time.perf_counter() - begun)
"""


@dataclass
class Contender:
    """A loader, with the samples per second of its passes."""

    name: str
    run: Callable[[], tuple[int, float]]  # samples, seconds
    rates: list[float] = field(default_factory=list)

    def measure(self) -> None:
        samples, seconds = self.run()
        self.rates.append(samples / seconds)


def build_store(folder: Path) -> Path:
    """As it is built by default: rounded and compressed."""
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    write_molecules(folder / "qm9.extxyz", MOLECULES)
    (folder / "recipe.toml").write_text(RECIPE)
    rhoflow("build", folder / "recipe.toml", folder / "built.zarr")
    return folder / "built.zarr"


def write_plain(store: Path, new: Path) -> Path:
    """The same store with its channels uncompressed; every chunk keeps its checksum."""
    shutil.copytree(store, new)
    group: Any = open_group(new, "r+", class_key(CELLS))
    for channel in CHANNELS:
        stored = open_group(store, "r", class_key(CELLS))[channel]
        array = group.create_array(
            channel,
            shape=stored.shape,
            chunks=stored.chunks,
            shards=stored.shards,
            dtype=stored.dtype,
            compressors=[Crc32cCodec()],
            fill_value=np.nan,
            chunk_key_encoding={"name": "default", "separator": "."},
            overwrite=True,
        )
        for start in range(0, stored.shape[0], SHARD):
            array[start : start + SHARD] = stored[start : start + SHARD]
    consolidate(new)
    return new


def write_peers_folder(store: Path, folder: Path) -> Path:
    """The samples as one array, and, for zarr-python, the arrays of the store cut to as many."""
    folder.mkdir()
    group: Any = open_group(store, "r", class_key(CELLS))
    samples = np.stack([group[channel][:SAMPLES] for channel in CHANNELS], axis=1)
    np.save(folder / "samples.npy", samples)
    shutil.copytree(store / class_key(CELLS), folder / "zarr")
    for channel in CHANNELS:
        open_group(folder / "zarr", "r+")[channel].resize((SAMPLES, CELLS, CELLS, CELLS))
    return folder


class Ours:
    """Passes over the first samples of a store."""

    def __init__(self, store: Path, kept_bytes: int = KEPT_BYTES) -> None:
        self.catalog = read_catalog([store], "train", CHANNELS)
        self.catalog = self.catalog.take(np.flatnonzero(self.catalog.rows < SAMPLES))
        self.boxes = StoredBoxes(self.catalog, *CHANNELS, Cutting(), kept_bytes=kept_bytes)
        self.step = 0

    def open(self, workers: int) -> Stream:
        return Stream(self.boxes, self.catalog, StreamSettings(BATCH, 8, 1, by_class=True, workers=workers))

    def run(self, workers: int) -> tuple[int, float]:
        stream = self.open(workers)
        started = time.perf_counter()
        batches = stream.batches(self.step)
        samples = sum(len(batch.ids) for batch in islice(batches, EPOCHS * stream.order.steps))
        seconds = time.perf_counter() - started
        batches.close()
        self.step += EPOCHS * stream.order.steps
        return samples, seconds


class RawReads:
    """The same bytes of uncompressed chunks in the same order, each compared with its checksum: nothing else."""

    def __init__(self, ours: Ours, store: Path) -> None:
        self.ours = ours
        folder = store / class_key(CELLS)
        shards = range(-(-SAMPLES // SHARD))
        self.objects = [
            [StoredObject(f"{folder}/{channel}/c.{shard}.0.0.0", SHARD) for shard in shards] for channel in CHANNELS
        ]

    def run(self, workers: int) -> tuple[int, float]:
        order = self.ours.open(0).order
        batches = [
            self.ours.catalog.rows[samples].tolist() for _, samples in islice(order.batches(0), EPOCHS * order.steps)
        ]
        started = time.perf_counter()
        if workers:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(self.read, (batches[k::workers] for k in range(workers))))
        else:
            self.read(batches)
        return sum(map(len, batches)), time.perf_counter() - started

    def read(self, batches: Sequence[Sequence[int]]) -> None:
        shape, checksum = (2, len(CHANNELS), BATCH, CELLS, CELLS, CELLS), bytearray(4)
        buffers = cycle(np.empty(shape, dtype=np.float32))  # one batch is in use while the next is read
        for rows, buffer in zip(batches, buffers, strict=False):
            for objects, boxes in zip(self.objects, buffer, strict=True):
                for row, box in zip(rows, boxes, strict=False):
                    stored = objects[row // SHARD]
                    os.preadv(stored.handle, [box, checksum], stored.places[row % SHARD][0])
                    assert google_crc32c.value(box) == int.from_bytes(checksum, "little")


def copy_memory(folder: Path) -> Callable[[], tuple[int, float]]:
    """Batches out of a memory map, without checksums, in one thread."""
    samples = np.load(folder / "samples.npy", mmap_mode="r")

    def run() -> tuple[int, float]:
        order = np.random.default_rng().permutation(SAMPLES)
        started = time.perf_counter()
        for start in range(0, SAMPLES, BATCH):
            torch.from_numpy(samples[np.sort(order[start : start + BATCH])])
        return SAMPLES, time.perf_counter() - started

    return run


@contextmanager
def start_peer(python: Path, name: str, folder: Path, workers: int) -> Iterator[Contender]:
    command, log = [str(python), loader_peers.__file__, name, str(folder), str(workers)], folder / f"{name}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)

    def run() -> tuple[int, float]:
        print("again", file=process.stdin, flush=True)
        samples, seconds = json.loads(hear(process, log))
        return samples, seconds

    try:
        assert hear(process, log) == "ready"
        yield Contender(name, run)
    finally:
        process.terminate()
        process.communicate()


def hear(process: "subprocess.Popen[str]", log: Path) -> str:
    """The next line that a peer says. Raises RuntimeError with its last words where it has ended."""
    line = process.stdout.readline().strip()  # type: ignore[union-attr]
    if not line:
        raise RuntimeError(f"{log.stem} ended: {log.read_text()[-2000:]}")
    return line


def find_peers() -> Path | None:
    """The interpreter of the peers' environment, made where it is missing; None, and said, where it cannot be."""
    python = PEERS / "bin" / "python"
    if not (PEERS / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", *INSTALLED], capture_output=True, text=True)
        if done.returncode:
            print(f"  left out: {', '.join(INSTALLED[1:])} cannot be installed: {done.stderr.strip()[-300:]}")
            return None
        (PEERS / "installed").touch()
    return python


def print_first_batch(store: Path) -> None:
    taken = []
    for _ in range(3):
        command = [sys.executable, "-c", FIRST_BATCH, str(store)]
        samples, after_imports, whole = subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.split()
        taken.append((float(after_imports), float(whole)))
    opened, whole = (statistics.median(times) for times in zip(*taken, strict=True))
    print(f"  first batch of {samples} samples: {opened:.2f} s after imports, {whole:.2f} s with them", flush=True)


def compare(ours: Contender, peers: Sequence[Contender]) -> None:
    """Passes in turns; the first, which warms caches and starts workers, is left out."""
    for contender in (ours, *peers):
        contender.run()
    for _ in range(ROUNDS):
        for contender in (ours, *peers):
            contender.measure()
    print(f"  {ours.name}: {statistics.median(ours.rates):.0f} samples/s")
    for peer in peers:
        ratio = statistics.median(own / other for own, other in zip(ours.rates, peer.rates, strict=True))
        print(f"    {ratio:5.2f}× {peer.name} ({statistics.median(peer.rates):.0f} samples/s)", flush=True)


def compare_all(store: Path, folder: Path, plain: bool, workers: int, python: Path | None) -> None:
    """`folder`: the samples as peers read them; `python`: of the peers' environment, where there is one."""
    ours = Ours(store)
    bounds = [Contender("a memory map's copy, unchecked, one thread", copy_memory(folder))]
    if not plain:
        bounds.append(Contender("ours, keeping none decoded", partial(Ours(store, kept_bytes=0).run, workers)))
    if plain:
        bounds.append(Contender("raw pread and crc32c of the same bytes", partial(RawReads(ours, store).run, workers)))
    with ExitStack() as stack:
        peers = [
            stack.enter_context(start_peer(interpreter, name, folder, workers))
            for name in loader_peers.LOADERS
            if (interpreter := Path(sys.executable) if "zarr" in name else python)
        ]
        name = f"ours, {'uncompressed' if plain else 'compressed'}, {workers} workers"
        compare(Contender(name, partial(ours.run, workers)), [*peers, *bounds])


def main() -> None:
    if not has_qm9():
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = build_store(folder)
        print_first_batch(store)
        plain, python = write_plain(store, folder / "plain.zarr"), find_peers()
        for path in (store, plain):
            samples = write_peers_folder(path, folder / f"{path.stem}_samples")
            for workers in WORKERS:
                compare_all(path, samples, path == plain, workers, python)
