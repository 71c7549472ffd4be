"""`make bench`: each figure is a ratio to a named peer, measured interleaved in this process on one thread."""

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import statistics
import time
from collections.abc import Callable

import numpy as np
from pyscf import dft
from pyscf.tools import cubegen

from pipeline import collocation
from pipeline.conformers import conform
from pipeline.engines.dft import DftEngine
from pipeline.engines.pyscf_molecule import build_mol
from storage.schema import Conformer, ElectronicState, Molecule

ROUNDS = 3
MOLECULES = {"ethanol": "CCO", "benzene": "c1ccccc1"}
SPACING = 0.2  # bohr


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def compare(ours: Callable[[], object], peer: Callable[[], object]) -> tuple[float, float, float]:
    """Median CPU seconds of both, and the median of their ratios, over interleaved rounds."""
    pairs = [(cpu_seconds(ours), cpu_seconds(peer)) for _ in range(ROUNDS)]
    mine, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    return mine, theirs, statistics.median(peer / own for own, peer in pairs)


def embed(name: str) -> Conformer:
    molecule = Molecule(0, name, MOLECULES[name])
    return conform(molecule, keep=False, count=1, optimise="mmff", seed=7)[0]


def bench_collocation(name: str) -> None:
    """Our points and cells against the numeric loop of pyscf.tools.cubegen, def2-SVP, h = 0.2 bohr."""
    state: ElectronicState = DftEngine("HF", "def2-SVP", "none", density_fitting=True).solve(embed(name))
    conformer = Conformer(name, state.numbers, state.positions, 0, 0, "", "")
    mol = build_mol(conformer, "def2-SVP", "none")
    density = (state.orbitals.T * state.occupations) @ state.orbitals
    cube = cubegen.Cube(mol, 2, 2, 2, margin=5.0)
    shape = tuple(int(np.ceil(length / SPACING)) + 1 for length in np.diag(cube.box))
    cube = cubegen.Cube(mol, *shape, margin=5.0)
    points = tuple(
        cube.boxorig[axis] + cube.box[axis, axis] * ticks for axis, ticks in enumerate((cube.xs, cube.ys, cube.zs))
    )
    edges = tuple(np.append(axis - (axis[1] - axis[0]) / 2, axis[-1] + (axis[1] - axis[0]) / 2) for axis in points)
    coordinates = np.stack(np.meshgrid(*points, indexing="ij"), axis=-1).reshape(-1, 3)

    def peer() -> np.ndarray:
        parts = [
            dft.numint.eval_rho(mol, mol.eval_gto("GTOval", block), density)
            for block in np.array_split(coordinates, max(1, len(coordinates) // 8000))
        ]
        return np.concatenate(parts).reshape(shape)

    reference = peer()
    for label, ours in {
        "points, ε = 1e-6": lambda: collocation.density_at_points(state, points, 1e-6),
        "points, ε = 1e-9": lambda: collocation.density_at_points(state, points, 1e-9),
        "cells, ε = 1e-9": lambda: collocation.density_in_cells(state, edges, 1e-9),
    }.items():
        mine, theirs, ratio = compare(ours, peer)
        error = f", NMAE {np.abs(ours() - reference).sum() / reference.sum():.0e}" if "points" in label else ""
        grid = "×".join(map(str, shape))
        print(f"{name:<10} {grid}  {label}: {ratio:5.1f}× cubegen's loop ({mine:.2f} s against {theirs:.2f} s){error}")


def bench_dft(name: str) -> None:
    """Our DFT against PySCF's defaults: no fitting, quadrature level 3, minao."""
    conformer = embed(name)
    mol = build_mol(conformer, "gth-dzvp", "gth-pbe")
    mine, theirs, ratio = compare(
        lambda: DftEngine("PBE", "gth-dzvp").solve(conformer), lambda: dft.RKS(mol, xc="PBE").run()
    )
    seconds = f"({mine:.1f} s against {theirs:.1f} s)"
    print(f"{name:<10} PBE/gth-dzvp: {1 / ratio:.2f} of the CPU time of PySCF's defaults {seconds}")


def main() -> None:
    for name in MOLECULES:
        bench_collocation(name)
    for name in MOLECULES:
        bench_dft(name)


if __name__ == "__main__":
    main()
