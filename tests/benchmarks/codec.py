"""Codecs of voxels, on real densities: size, error, and the speed of one thread in memory."""

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import BitRound
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from pipeline.elements import NUMBERS
from pipeline.engines.dft import DftEngine
from pipeline.engines.xtb import XtbEngine
from pipeline.units import BOHR_PER_ANGSTROM
from pipeline.voxels import (
    atom_types,
    place_grid,
    round_to_step,
    sample_density,
    sample_gradient_magnitude,
)
from storage.schema import FloatArray
from tests.benchmarks.labels import embed

NAMES = ("ethanol", "acetamide", "pyrrole", "nitroethane", "imidazole", "1,1-difluoroethane", "acetic_acid", "propane")
SPACING, MARGIN, CLASSES = 0.2 * BOHR_PER_ANGSTROM, 3.0 * BOHR_PER_ANGSTROM, (64,)
ROUNDS = 3
TYPES = tuple(NUMBERS[symbol] for symbol in ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I"))

Numbers = npt.NDArray[Any]
Compressors = list[BytesBytesCodec]


@dataclass(frozen=True)
class Candidate:
    """How values become numbers of fewer bits, and those fewer bytes."""

    name: str
    shorten: Callable[[FloatArray], Numbers]
    compressors: Compressors


def step(power: int) -> Callable[[FloatArray], Numbers]:
    """Multiples of 2^power."""
    return partial(round_to_step, round_to=2.0**power)


def count_steps(values: FloatArray) -> Numbers:
    """Which multiple of 2^-20, as integers."""
    return np.rint(values * 2.0**20).astype(np.int32)


def keep_bits(values: FloatArray, bits: int) -> Numbers:
    """As many bits of the mantissa."""
    codec = BitRound(keepbits=bits)
    return np.asarray(codec.decode(codec.encode(values.astype(np.float32)))).view(np.float32).reshape(values.shape)


def blosc(level: int = 3, shuffle: str = "shuffle", name: str = "zstd") -> Compressors:
    return [BloscCodec(cname=name, clevel=level, shuffle=shuffle)]  # type: ignore[arg-type]


SINGLE = partial(np.asarray, dtype=np.float32)
CANDIDATES = (
    Candidate("float32, as it is", SINGLE, []),
    Candidate("float32, zstd 3, shuffle", SINGLE, blosc()),
    Candidate("float16, zstd 3, shuffle", partial(np.asarray, dtype=np.float16), blosc()),
    Candidate("12 bits of mantissa, zstd 3, shuffle", partial(keep_bits, bits=12), blosc()),
    Candidate("8 bits of mantissa, zstd 3, shuffle", partial(keep_bits, bits=8), blosc()),
    Candidate("2⁻¹⁷, zstd 3, shuffle", step(-17), blosc()),
    Candidate("2⁻²³, zstd 3, shuffle", step(-23), blosc()),
    Candidate("**2⁻²⁰, zstd 3, shuffle**", step(-20), blosc()),
    Candidate("2⁻²⁰, zstd 1, shuffle", step(-20), blosc(1)),
    Candidate("2⁻²⁰, zstd 5, shuffle", step(-20), blosc(5)),
    Candidate("2⁻²⁰, zstd 9, shuffle", step(-20), blosc(9)),
    Candidate("2⁻²⁰, zstd 3, bitshuffle", step(-20), blosc(3, "bitshuffle")),
    Candidate("2⁻²⁰, zstd 5, bitshuffle", step(-20), blosc(5, "bitshuffle")),
    Candidate("2⁻²⁰, zstd 3, no shuffle", step(-20), blosc(3, "noshuffle")),
    Candidate("2⁻²⁰, plain zstd 3", step(-20), [ZstdCodec(level=3, checksum=False)]),
    Candidate("2⁻²⁰, lz4 5, shuffle", step(-20), blosc(5, "shuffle", "lz4")),
    Candidate("2⁻²⁰, lz4 5, bitshuffle", step(-20), blosc(5, "bitshuffle", "lz4")),
    Candidate("2⁻²⁰ as int32, zstd 3, shuffle", count_steps, blosc()),
    Candidate("2⁻²⁰ as int32, zstd 3, bitshuffle", count_steps, blosc(3, "bitshuffle")),
)
DOUBLE = partial(np.asarray, dtype=np.float64)
OF_ORBITALS = (
    Candidate("float64, as it is", DOUBLE, []),
    Candidate("**float64, zstd 3, shuffle**", DOUBLE, blosc()),
    Candidate("float64, zstd 9, shuffle", DOUBLE, blosc(9)),
    Candidate("float64, zstd 3, bitshuffle", DOUBLE, blosc(3, "bitshuffle")),
    Candidate("float64, plain zstd 3", DOUBLE, [ZstdCodec(level=3, checksum=False)]),
    Candidate("float64, lz4 5, shuffle", DOUBLE, blosc(5, "shuffle", "lz4")),
    Candidate("float32, zstd 3, shuffle", SINGLE, blosc()),
)


@dataclass(frozen=True)
class Measured:
    ratio: float  # raw bytes (float32; of orbitals float64) over stored ones
    nmae: float  # Σ|stored − exact| over Σ exact
    electrons: float  # largest |difference of the sums| × cell volume of any sample
    write: float  # MB of these raw bytes per CPU second
    read: float  # the same, whole shards
    read_one: float  # the same, sample by sample


def make_arrays() -> tuple[Mapping[str, FloatArray], Mapping[str, FloatArray]]:
    """Channels, (sample, [type,] x, y, z), exact averages over cells; and orbitals, (sample, orbital, function)."""
    guess, target = XtbEngine("gfn2"), DftEngine(basis_set="gth-dzvp")
    channels: dict[str, list[FloatArray]] = {}
    orbitals: dict[str, list[FloatArray]] = {}
    for name in NAMES:
        conformer = embed(name)
        grid = place_grid(conformer.positions, SPACING, MARGIN, CLASSES)
        states = {"guess": guess.solve(conformer), "target": target.solve(conformer)}
        for density, state in states.items():
            orbitals.setdefault(f"orbitals of {density}", []).append(state.orbitals)
        made = {
            **{density: sample_density(state, grid, "cell") for density, state in states.items()},
            "guess_gradient": sample_gradient_magnitude(states["guess"], grid, "cell"),
            "atom_types": atom_types(conformer.numbers, conformer.positions, grid, "cell", TYPES),
        }
        for channel, values in made.items():
            channels.setdefault(channel, []).append(values)
    return (
        {channel: np.stack(values) for channel, values in channels.items()},
        {name: pad(values) for name, values in orbitals.items()},
    )


def pad(matrices: list[FloatArray]) -> FloatArray:
    """One array of all, zero where a molecule has fewer orbitals or functions."""
    shape = np.max([matrix.shape for matrix in matrices], axis=0)
    padded = np.zeros((len(matrices), *shape))
    for place, matrix in zip(padded, matrices, strict=True):
        place[: matrix.shape[0], : matrix.shape[1]] = matrix
    return padded


def fastest(work: Callable[[], object]) -> float:
    """CPU seconds, of all threads."""
    spent = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent)


def measure(values: FloatArray, candidate: Candidate, width: int) -> Measured:
    """One stored object that holds every sample, each a chunk with a checksum of its own, as in a store.

    `width`: bytes of a raw value.
    """
    shortened = candidate.shorten(values)
    store: dict[str, Any] = {}
    array: Any = zarr.create_array(
        zarr.storage.MemoryStore(store),
        shape=shortened.shape,
        chunks=(1, *shortened.shape[1:]),
        shards=shortened.shape,
        dtype=shortened.dtype,
        compressors=[*candidate.compressors, Crc32cCodec()],
        fill_value=0,
    )
    writing = fastest(lambda: array.__setitem__(..., shortened))
    reading = fastest(lambda: array[...])
    reading_one = fastest(lambda: [array[sample] for sample in range(len(shortened))])
    scale = 2.0**-20 if shortened.dtype == np.int32 else 1.0
    difference = array[...].astype(np.float64) * scale - values
    stored = sum(len(chunk) for key, chunk in store.items() if "c/" in key)
    megabytes = values.size * width / 1e6
    electrons = np.abs(difference.reshape(len(values), -1).sum(axis=1)).max() * SPACING**3
    nmae = float(np.abs(difference).sum() / np.abs(values).sum())
    speeds = (megabytes / seconds for seconds in (writing, reading, reading_one))
    return Measured(megabytes * 1e6 / stored, nmae, float(electrons), *speeds)


def print_table(name: str, values: FloatArray, candidates: tuple[Candidate, ...], width: int) -> None:
    """In Markdown."""
    shape = "×".join(map(str, values.shape))
    print(f"\n{name}: {shape}, {values.size * width / 1e6:.2g} MB raw\n")
    print("| values, codec | ratio | NMAE | electrons | write | read a shard | read a sample, MB/s |")
    print("|---|---|---|---|---|---|---|")
    for candidate in candidates:
        it = measure(values, candidate, width)
        speeds = f"{it.write:.0f} | {it.read:.0f} | {it.read_one:.0f}"
        print(f"| {candidate.name} | {it.ratio:.1f} | {it.nmae:.1e} | {it.electrons:.0e} | {speeds} |", flush=True)


def main() -> None:
    channels, orbitals = make_arrays()
    for name, values in channels.items():
        print_table(name, values, CANDIDATES, 4)
    for name, values in orbitals.items():
        print_table(name, values, OF_ORBITALS, 8)


if __name__ == "__main__":
    main()
