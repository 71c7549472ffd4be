"""Boxes made from kept wavefunctions on the training device: each turn of a sample has its own rotation and grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.collocation import Expansion, expansions_at_points, expansions_in_cells
from pipeline.rotation import turn_expansion
from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RhoflowError
from storage.schema import FloatArray
from training.batch import Batch, Draw, draw_generator
from training.catalog import Catalog, check_meaning
from training.expansions import Expansions, check_wavefunctions
from training.kept import KEPT_BYTES
from training.stored import SPREAD, Cutting

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Frame:
    """Where one box lies; lengths in bohr."""

    rotation: FloatArray  # (3, 3), of the molecule about the origin, before the box is laid around it
    centre: FloatArray  # (3,), of the box
    cells: Triple  # that it needs along its edges
    spacing: float

    def corner(self, shape: Triple) -> FloatArray:
        """The lowest corner (3,) of a box of that shape."""
        return self.centre - self.spacing * np.array(shape) / 2


class WavefunctionBoxes:
    """Guesses and targets of samples whose wavefunctions the stores keep; threads may read at once.

    Crops lie near atoms. Whole boxes have the store's margin about the turned molecule, to within half a cell, and all
    of a batch the shape of the largest. Where `cutting.turn` is false, whole boxes lie about the same centre as stored
    ones; else molecules are turned at random, and whole boxes shifted within a cell. Each box has cells of its own
    width, drawn between 1 − `spacing_range` and 1 + `spacing_range` times the store's; a wide one then reaches far into
    the vacuum, where a narrow one of its batch needs more cells.
    """

    def __init__(
        self,
        catalog: Catalog,
        input: str,
        target: str,
        cutting: Cutting,
        device: torch.device,
        *,
        spacing_range: float = 0.0,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """`kept_bytes`: of expanded densities. Raises StoreError where a store keeps no wavefunctions of a density."""
        first = catalog.datasets[0]
        for dataset in catalog.datasets:
            check_wavefunctions(dataset, (input, target))
            check_meaning(dataset, str(first.store), first.attributes["recipe"], (input, target))
        self.catalog, self.cutting, self.device, self._spacing_range = catalog, cutting, device, spacing_range
        self._in_cells = first.attributes["recipe"]["grid"]["sampling"] == "cell"  # and so in the others
        self._expansions = Expansions(catalog, (input, target), kept_bytes)

    def read(self, draws: Sequence[Draw]) -> Batch:
        """Tensors on the device.

        Raises StoreError for a periodic state, RhoflowError where matrix products are set to lose digits.
        """
        _check_precision(self.device)
        frames = [self.frame(draw) for draw in draws]
        x, y, z = np.max([frame.cells for frame in frames], axis=0).tolist()
        fields = self._voxelize(draws, frames, (x, y, z))
        guess, target = fields[: len(draws)], fields[len(draws) :]
        judged = torch.zeros(guess.shape, dtype=torch.bool, device=self.device)
        inner = slice(self.cutting.multiple, -self.cutting.multiple) if self.cutting.crop else slice(None)
        judged[:, inner, inner, inner] = True
        ids, volumes = (self.catalog.ids[draw.sample] for draw in draws), (frame.spacing**3 for frame in frames)
        return Batch(tuple(ids), guess, target, judged, tuple(volumes))

    def frame(self, draw: Draw) -> Frame:
        """Drawn from seed, epoch and id alone."""
        cutting, spacing = self.cutting, self.catalog.spacing[0]
        random = draw_generator(cutting.seed, draw.epoch, self.catalog.ids[draw.sample])
        rotation = draw_rotation(random) if cutting.turn else np.eye(3)
        positions = self.catalog.positions_of(draw.sample) @ rotation.T
        if self._spacing_range:
            spacing *= random.uniform(1 - self._spacing_range, 1 + self._spacing_range)
        if cutting.crop:
            atom = positions[random.integers(len(positions))]
            away = random.normal(0, SPREAD * cutting.crop * spacing, 3)
            return Frame(rotation, atom + away, (cutting.crop,) * 3, spacing)
        low, high = positions.min(axis=0), positions.max(axis=0)
        shift = random.uniform(-0.5, 0.5, 3) * spacing if cutting.turn else np.zeros(3)
        needed = np.ceil((high - low + 2 * self._margin(draw.sample)) / spacing - 1e-9)
        x, y, z = (np.ceil(needed / cutting.multiple) * cutting.multiple).astype(int).tolist()
        return Frame(rotation, (low + high) / 2 + shift, (x, y, z), spacing)

    def _margin(self, sample: int) -> float:
        """Between the atoms of its store and the faces of their boxes, bohr."""
        recipe = self.catalog.datasets[self.catalog.stores[sample]].attributes["recipe"]
        return float(recipe["grid"]["margin_angstrom"]) * BOHR_PER_ANGSTROM

    @torch.no_grad()
    def _voxelize(self, draws: Sequence[Draw], frames: Sequence[Frame], shape: Triple) -> Tensor:
        """All guesses, then all targets, on boxes of that shape: (2 × draws, nx, ny, nz)."""
        found: tuple[list[Expansion], ...] = ([], [])
        for draw, frame in zip(draws, frames, strict=True):
            corner, edges = frame.corner(shape), frame.spacing * np.array(shape)
            for boxes, density in zip(found, self._expansions.read(draw.sample), strict=True):
                boxes.append(turn_expansion(density, frame.rotation).cut(corner, edges).scale(1 / frame.spacing))
        ends = [torch.arange(n + 1, dtype=torch.float64, device=self.device) for n in shape]  # in cells
        with torch.autocast(self.device.type, enabled=False):
            if self._in_cells:
                return expansions_in_cells([*found[0], *found[1]], (ends[0], ends[1], ends[2]))
            x, y, z = (along[:-1] + 0.5 for along in ends)
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
