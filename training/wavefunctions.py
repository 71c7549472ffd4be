"""Boxes made from kept wavefunctions on the training device: each turn of a sample has its own rotation and grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.collocation import Expansion, expansions_at_points, expansions_in_cells
from pipeline.rotation import turn_expansion
from storage.errors import RhoflowError
from storage.reader import Dataset
from storage.schema import FloatArray
from training.batch import Batch, Draw, draw_generator
from training.expansions import Molecules, agree_on_sampling, check_wavefunctions

SPREAD = 1 / 6  # of a crop's edge: how far its centre lies from the chosen atom, one standard deviation

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Placing:
    """How grids are laid around molecules."""

    spacing: float  # bohr
    crop: int = 0  # cells along an edge; 0: whole boxes with the store's margin, as large as the largest of a batch
    multiple: int = 1  # whole boxes have a multiple of so many cells along an edge; a crop's outermost are not judged
    turn: bool = True  # turn molecules, and shift whole boxes within a cell; else these lie as stored ones do
    seed: int = 0


@dataclass(frozen=True)
class Frame:
    """Where one box lies; lengths in bohr."""

    rotation: FloatArray  # (3, 3), of the molecule about the origin, before the box is laid around it
    centre: FloatArray  # (3,), of the box
    cells: Triple  # that it needs along its edges

    def corner(self, shape: Triple, spacing: float) -> FloatArray:
        """The lowest corner (3,) of a box of that shape."""
        return self.centre - spacing * np.array(shape) / 2


class WavefunctionBoxes:
    """Guesses and targets of samples whose wavefunctions the stores keep; threads may read at once."""

    def __init__(
        self, samples: Sequence[tuple[Dataset, str]], input: str, target: str, placing: Placing, device: torch.device
    ) -> None:
        """Raises StoreError where a store keeps no wavefunctions of a density, or stores sample differently."""
        self.samples, self.densities, self.placing, self.device = samples, (input, target), placing, device
        stores = list({str(dataset.store): dataset for dataset, _ in samples}.values())
        for dataset in stores:
            check_wavefunctions(dataset, self.densities)
        self._in_cells = agree_on_sampling(stores) == "cell"
        self._molecules = Molecules(self.densities)

    def read(self, draws: Sequence[Draw]) -> Batch:
        """Tensors on the device. Raises StoreError for a periodic state, RhoflowError where matmul would round."""
        _check_precision(self.device)
        frames = [self.frame(draw) for draw in draws]
        x, y, z = np.max([frame.cells for frame in frames], axis=0).tolist()
        fields = self._voxelize(draws, frames, (x, y, z))
        guess, target = fields[: len(draws)], fields[len(draws) :]
        judged = torch.zeros(guess.shape, dtype=torch.bool, device=self.device)
        inner = slice(self.placing.multiple, -self.placing.multiple) if self.placing.crop else slice(None)
        judged[:, inner, inner, inner] = True
        ids = tuple(self.samples[draw.sample][1] for draw in draws)
        return Batch(ids, guess, target, judged, self.placing.spacing**3)

    def frame(self, draw: Draw) -> Frame:
        """Drawn from seed, epoch and id alone."""
        dataset, id = self.samples[draw.sample]
        placing, molecule = self.placing, self._molecules.read(dataset, id)
        random = draw_generator(placing.seed, draw.epoch, id)
        rotation = draw_rotation(random) if placing.turn else np.eye(3)
        positions = molecule.positions @ rotation.T
        if placing.crop:
            atom = positions[random.integers(len(positions))]
            away = random.normal(0, SPREAD * placing.crop * placing.spacing, 3)
            return Frame(rotation, atom + away, (placing.crop,) * 3)
        low, high = positions.min(axis=0), positions.max(axis=0)
        shift = random.uniform(-0.5, 0.5, 3) * placing.spacing if placing.turn else np.zeros(3)
        needed = np.ceil((high - low + 2 * molecule.margin) / placing.spacing - 1e-9)
        x, y, z = (np.ceil(needed / placing.multiple) * placing.multiple).astype(int).tolist()
        return Frame(rotation, (low + high) / 2 + shift, (x, y, z))

    @torch.no_grad()
    def _voxelize(self, draws: Sequence[Draw], frames: Sequence[Frame], shape: Triple) -> Tensor:
        """All guesses, then all targets, on boxes of that shape: (2 × draws, nx, ny, nz)."""
        spacing = self.placing.spacing
        found: tuple[list[Expansion], ...] = ([], [])
        for draw, frame in zip(draws, frames, strict=True):
            molecule, corner = self._molecules.read(*self.samples[draw.sample]), frame.corner(shape, spacing)
            for expansions, density in zip(found, molecule.densities, strict=True):
                turned = turn_expansion(density, frame.rotation)
                expansions.append(turned.cut(corner, spacing * np.array(shape)))
        ends = [torch.arange(n + 1, dtype=torch.float64, device=self.device) * spacing for n in shape]
        with torch.autocast(self.device.type, enabled=False):
            if self._in_cells:
                return expansions_in_cells([*found[0], *found[1]], (ends[0], ends[1], ends[2]))
            x, y, z = (along[:-1] + spacing / 2 for along in ends)
            return expansions_at_points([*found[0], *found[1]], (x, y, z))


def draw_rotation(random: np.random.Generator) -> FloatArray:
    """A proper rotation (3, 3), uniform over all: that of a unit quaternion uniform over the sphere."""
    quaternion = random.normal(size=4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _check_precision(device: torch.device) -> None:
    """TensorFloat-32 would leave three digits of every voxel."""
    precision = torch.get_float32_matmul_precision()
    if device.type == "cuda" and precision != "highest":
        raise RhoflowError(f'matrix products of float32 are set to {precision!r} precision: voxels need "highest"')
