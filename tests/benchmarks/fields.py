"""Neural fields of reference systems that are no dataset: a complex, an NMR ensemble, a map. See deploy/fields.

python -m tests.benchmarks.fields complex|ensemble|map CONFIG RUN [--resume]
"""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import gemmi
import numpy as np
import torch
from rdkit import Chem
from torch import Tensor

from flows.field.evaluation import describe_scores, score_all
from pipeline.units import BOHR_PER_ANGSTROM
from storage.schema import FloatArray, IntArray
from training.config import FieldConfig
from training.config_file import read_config
from training.field.model import load_field_model
from training.field.read import Values, open_reader
from training.field.scenes import Fields, build_scene, read_fields
from training.field.task import Material, measure_psnr, train_material

REFERENCE = Path(__file__).parents[3] / "shared/reference"
COMPLEXES, MAPS = REFERENCE / "complexes", REFERENCE / "maps"
LIGAND = 0  # of the file
REACH = 6.0  # Å beyond the box: atoms farther away are not felt in it


class ListedScenes(list[Any]):
    """Scenes that come from no store."""

    def __init__(self, scenes: Sequence[Any]) -> None:
        super().__init__(scenes)
        self.ids = [scene.id for scene in scenes]
        self.groups = self.ids
        self.fields = scenes[0].fields


def read_complex(config: FieldConfig) -> Material:
    """The pocket of irak4_s2 around its first ligand, in a box about the ligand's centre."""
    fields, edge = read_fields(config.channels, config.beta, config.radii), config.box_angstrom * BOHR_PER_ANGSTROM
    ligand = Chem.SDMolSupplier(str(COMPLEXES / "fep/irak4_s2_ligands.sdf"), removeHs=False)[LIGAND]
    numbers = np.array([atom.GetAtomicNum() for atom in ligand.GetAtoms()])
    positions = ligand.GetConformer().GetPositions() * BOHR_PER_ANGSTROM
    centre = (positions.min(axis=0) + positions.max(axis=0)) / 2
    protein = gemmi.read_structure(str(COMPLEXES / "fep/irak4_s2_protein.pdb.gz"))
    around, places = read_model(protein[0])
    near = np.all(np.abs(places - centre) < edge / 2 + REACH * BOHR_PER_ANGSTROM, axis=1)
    parts = ["ligand"] * len(numbers) + ["protein"] * int(near.sum())
    scene = build_scene(
        "irak4_s2",
        np.concatenate([numbers, around[near]]),
        np.concatenate([positions, places[near]]),
        centre,
        fields,
        parts=parts,
    )
    scenes = ListedScenes([scene])
    return Material(scenes, scenes, edge, [("irak4_s2", "")])


def read_ensemble(config: FieldConfig) -> Material:
    """The 20 NMR models of 6a5j, in one box about the mean of their atoms."""
    fields, edge = read_fields(config.channels, config.beta, config.radii), config.box_angstrom * BOHR_PER_ANGSTROM
    structure = read_structure("6a5j_NMR_20models")
    models = [read_model(model) for model in structure]
    centre = np.mean([positions.mean(axis=0) for _, positions in models], axis=0)
    scenes = ListedScenes([build_scene(f"6a5j#{k}", *model, centre, fields) for k, model in enumerate(models)])
    return Material(scenes, scenes, edge, [("6a5j", "")])


def read_structure(name: str) -> gemmi.Structure:
    return gemmi.read_structure(str(COMPLEXES / f"biomolecules/{name}.pdb.gz"))


def read_model(model: gemmi.Model) -> tuple[IntArray, FloatArray]:
    """Atomic numbers (atoms,), and positions (atoms, 3) in bohr, of a structure's first conformations."""
    atoms = [atom for chain in model for residue in chain for atom in residue if atom.altloc in ("\0", "A")]
    numbers = np.array([atom.element.atomic_number for atom in atoms])
    return numbers, np.array([atom.pos.tolist() for atom in atoms]) * BOHR_PER_ANGSTROM


@dataclass(frozen=True)
class MapScene:
    """A map as the sum of its Fourier terms: exact at any fractional coordinates, and periodic."""

    id: str
    shape: tuple[int, ...]  # of the grid of its own resolution
    terms: Tensor  # (nx, ny, nz) complex, in the order of a discrete Fourier transform
    centre: FloatArray
    fields: Fields

    def on_axes(self, axes: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Values (1, nx, ny, nz) at fractional coordinates."""
        values = self.terms
        for axis, points in enumerate(axes):
            n = self.shape[axis]
            waves = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
            phases = torch.exp(2j * math.pi * points[:, None] * waves)
            values = torch.tensordot(values, phases, dims=([0], [1]))  # the axis that is done goes last
        return values.real.float()[None]


def read_map(config: FieldConfig) -> Material:
    """2mFo-DFc of 5wkd at 1.8 Å in its own, oblique cell, from structure factors; the largest value is 1."""
    reflections = gemmi.read_mtz_file(str(MAPS / "xray/5wkd_phases.mtz.gz"))
    values = np.array(reflections.transform_f_phi_to_map("FWT", "PHWT", sample_rate=3.0))
    terms = torch.fft.fftn(torch.as_tensor(values / values.max(), dtype=torch.float64)) / values.size
    scene = MapScene("5wkd", values.shape, terms, np.full(3, 0.5), Fields(config.channels, config.beta, {}))
    scenes = ListedScenes([scene])
    return Material(scenes, scenes, 1.0, [("5wkd", "")])


def measure_map(material: Material, run: Path) -> str:
    """PSNR at the points of the map's own grid, and of one twice as fine."""
    (scene,), model = material.training, load_field_model(run)
    reader = open_reader(model, material.training)
    lines = []
    for factor in (1, 2):
        x, y, z = (2 * torch.arange(n * factor, dtype=torch.float64) / (n * factor) - 1 for n in scene.shape)
        truth, values = reader.boxes.values(scene, (x, y, z)), model.sample(reader.latents(0), (x, y, z))
        psnr, floor = (measure_psnr(float((one - truth).square().mean().sqrt())) for one in (values, 0 * truth))
        shape = " × ".join(str(n * factor) for n in scene.shape)
        lines.append(f"{shape} points: PSNR {psnr:.2f} dB, of zeros {floor:.2f} dB (MAX = 1)")
    return "\n".join(lines)


def measure_interpolation(config: FieldConfig, run: Path) -> str:
    """How near the frames between neighbouring models come to the fields of atoms half way, beside mean grids."""
    material, model = read_ensemble(config), load_field_model(run)
    reader, scenes = open_reader(model, material.training), list(material.training)
    ratios = []
    for k, (first, second) in enumerate(pairwise(scenes)):
        truth = open_reader(model, ListedScenes([first.between(second, 0.5)])).truth(0, config.cells)
        between = reader.between(k, k + 1, 0.5, config.cells)
        mean = (reader.truth(k, config.cells) + reader.truth(k + 1, config.cells)) / 2
        ratios.append(measure_distance(between, truth) / measure_distance(mean, truth))
    nearer = sum(ratio < 1 for ratio in ratios)
    said = f"median {np.median(ratios):.3f}; nearer {nearer} of {len(ratios)}"
    return f"distance to the midpoint over that of mean grids: {said}"


def measure_distance(one: Values, other: Values) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean((one - other) ** 2)))


def measure_resolutions(material: Material, run: Path) -> str:
    """PSNR beside that of zeros, on grids as fine as that of training, and finer."""
    reader = open_reader(load_field_model(run), material.training)
    lines = []
    for factor in (1, 2, 4):
        scores = score_all(reader, factor, 4, True)
        lines.append(describe_scores("learned", reader.model.origin.cells * factor, scores))
    return "\n".join(lines)


def main(name: str, config_file: str, folder: str, *options: str) -> None:
    config, run = read_config(Path(config_file), FieldConfig), Path(folder)
    material = {"complex": read_complex, "ensemble": read_ensemble, "map": read_map}[name](config)
    train_material(config, run, material, resume="--resume" in options)
    print(measure_map(material, run) if name == "map" else measure_resolutions(material, run))
    if name == "ensemble":
        print(measure_interpolation(config, run))


if __name__ == "__main__":
    main(*sys.argv[1:])
