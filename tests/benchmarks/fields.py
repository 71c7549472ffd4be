"""Neural fields of reference systems that are no dataset: a complex, an NMR ensemble. See deploy/fields.

python -m tests.benchmarks.fields complex|ensemble CONFIG RUN [--resume]
"""

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import gemmi
import numpy as np
from rdkit import Chem

from flows.field_evaluation import describe_scores, score_all
from pipeline.units import BOHR_PER_ANGSTROM
from storage.schema import FloatArray, IntArray
from training.config import FieldConfig
from training.config_file import read_config
from training.field import Material, train_material
from training.field_model import load_field_model
from training.field_read import Values, open_reader
from training.field_scenes import Scene, build_scene, read_fields

COMPLEXES = Path(__file__).parents[3] / "shared/reference/complexes"
LIGAND = 0  # of the file
REACH = 6.0  # Å beyond the box: atoms farther away are not felt in it


class ListedScenes(list[Scene]):
    """Scenes that come from no store."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
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


def measure_interpolation(config: FieldConfig, run: Path) -> str:
    """How near the frames between neighbouring models come to the fields of atoms half way, beside mean grids."""
    material, model = read_ensemble(config), load_field_model(run)
    reader, scenes = open_reader(model, material.training), list(material.training)
    ratios = []
    for k, (first, second) in enumerate(pairwise(scenes)):
        truth = open_reader(model, ListedScenes([first.between(second, 0.5)])).truth(0, config.cells)
        between = model.sample_grid((reader.latents(k) + reader.latents(k + 1)) / 2, config.cells).numpy()
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
    material = {"complex": read_complex, "ensemble": read_ensemble}[name](config)
    train_material(config, run, material, resume="--resume" in options)
    print(measure_resolutions(material, run))
    if name == "ensemble":
        print(measure_interpolation(config, run))


if __name__ == "__main__":
    main(*sys.argv[1:])
