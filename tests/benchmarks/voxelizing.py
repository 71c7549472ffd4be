"""Training boxes from kept wavefunctions, turned at random, beside stored voxels read and turned by a symmetry."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import torch

from tests.benchmarks.timing import compare, cpu_seconds
from tests.training.wavefunction_store import build_recipe
from training.batch import Boxes, Draw
from training.catalog import Catalog, read_catalog
from training.stored import Cutting, StoredBoxes
from training.wavefunctions import WavefunctionBoxes

MOLECULES = {
    "ethanol": "CCO", "acetamide": "CC(N)=O", "pyrrole": "c1cc[nH]c1", "imidazole": "c1c[nH]cn1",
    "cyclopentanone": "O=C1CCCC1", "butyronitrile": "CCCC#N", "aminooxazole": "Nc1ncco1",
    "methoxyacetaldehyde": "COCC=O", "hexyne": "CCCCC#C", "glycinamide": "NCC(N)=O", "fluoropropanol": "OCCCF",
    "oxetanol": "OC1COC1",
}  # fmt: skip
RECIPE = """
[source]
path = "molecules.csv"
id = "name"
[densities.guess]
engine = "gfn2"
[densities.target]
engine = "dft"
functional = "PBE"
basis = "gth-dzvp"
pseudopotential = "gth-pbe"
[grid]
spacing_angstrom = 0.2
box = "tight"
[splits]
train = 1.0
validation = 0.0
test = 0.0
[store]
shard_samples = 4
"""
CPU = torch.device("cpu")
CUDA_BATCH = 32


def read_epoch(boxes: Boxes, epochs: "count[int]", samples: int) -> None:
    """Every sample once, one at a time."""
    epoch = next(epochs)
    for sample in range(samples):
        boxes.read([Draw(sample, epoch)])


def bench(catalog: Catalog, name: str, cutting: Cutting) -> None:
    samples = len(catalog)
    ours = partial(read_epoch, WavefunctionBoxes(catalog, "guess", "target", cutting, CPU), count(), samples)
    stored = partial(read_epoch, StoredBoxes(catalog, "guess", "target", cutting), count(), samples)
    first = cpu_seconds(ours)
    stored()
    it = compare(ours, stored, 5)
    print(
        f"  {name:<12} {samples / it.ours:5.0f} samples/s, {it.ratio:4.2f}× the {samples / it.peer:.0f} of stored "
        f"voxels; {samples / first:.0f} in the first epoch, which reads and expands",
        flush=True,
    )


def bench_cuda(catalog: Catalog, name: str, cutting: Cutting) -> None:
    """Against the same boxes on one thread of the CPU."""
    draws = [Draw(sample % len(catalog), sample) for sample in range(CUDA_BATCH)]
    devices = [torch.device(kind) for kind in ("cuda", "cpu")]
    gpu, cpu = (
        partial(WavefunctionBoxes(catalog, "guess", "target", cutting, device).read, draws) for device in devices
    )
    seconds = [min(wall_seconds(work) for _ in range(4)) for work in (gpu, cpu)]
    difference = (gpu().target.cpu() - cpu().target).abs().sum() / cpu().target.sum()
    print(
        f"  {name:<12} {CUDA_BATCH / seconds[0]:5.0f} samples/s on {torch.cuda.get_device_name()}, "
        f"{seconds[1] / seconds[0]:.1f}× one CPU thread; they differ by {float(difference):.0e} (NMAE)",
        flush=True,
    )


def wall_seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = build_recipe(Path(folder) / "store", MOLECULES, RECIPE).store
        catalog = read_catalog([store], "train", ("guess", "target"))
        print(f"{len(catalog)} molecules, GFN2-xTB and PBE/gth-dzvp, cells of 0.2 Å; both densities, one thread")
        cases = {
            "crops of 24³": Cutting(crop=24, multiple=2, turn=True),
            "whole boxes": Cutting(multiple=4, turn=True),
        }
        for name, cutting in cases.items():
            bench(catalog, name, cutting)
        for name, cutting in cases.items() if torch.cuda.is_available() else ():
            bench_cuda(catalog, name, cutting)


if __name__ == "__main__":
    main()
