"""Positions at which a neural field is trained, and the true values there: made anew in every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from storage.schema import FloatArray
from training.batch import Draw, draw_generator
from training.config import FieldConfig
from training.field_scenes import Axes, Scene, Scenes
from training.wavefunctions import draw_rotation

KEPT_GRIDS = 4096  # molecules whose training grids are kept
SPREAD = 1 / 6  # of the edge of a place: how far its centre lies from the chosen atom, one standard deviation


@dataclass(frozen=True)
class FieldBatch:
    """Some positions in each of several molecules, with the true values there."""

    source: Tensor  # (batch,) numbers of the molecules, or (batch, fields, n, n, n) grids of them
    axes: tuple[Tensor, Tensor, Tensor]  # (batch, m) each, in boxes that reach from −1 to 1
    target: Tensor  # (batch, fields, m, m, m), scaled


class FieldBoxes:
    """Reads the fields of scenes in cubes of one edge, scaled so that the largest value is about 1."""

    def __init__(self, scenes: Scenes, config: FieldConfig, edge: float, scales: Tensor, device: torch.device) -> None:
        """`edge`: bohr. `scales`: (fields,), what values are divided by."""
        self.scenes, self.config, self.edge, self.scales, self.device = scenes, config, edge, scales, device
        self.grid = lru_cache(maxsize=KEPT_GRIDS)(self._read_grid)

    def draw(self, draws: Sequence[Draw]) -> FieldBatch:
        """What a step sees of these molecules; drawn from seed, epoch and ids alone."""
        parts = [self._draw_one(draw) for draw in draws]
        x, y, z = (torch.stack([axes[axis] for _, axes, _ in parts]) for axis in range(3))
        return FieldBatch(
            torch.stack([source for source, _, _ in parts]), (x, y, z), torch.stack([v for *_, v in parts])
        )

    def read(self, scene: Scene, axes: Axes) -> Tensor:
        """Scaled values (fields, nx, ny, nz) on axes in [−1, 1]."""
        x, y, z = (axis * (self.edge / 2) + float(middle) for axis, middle in zip(axes, scene.centre, strict=True))
        return scene.on_axes((x, y, z)) / self.scales[:, None, None, None]

    def source(self, number: int, grid: Tensor | None = None) -> Tensor:
        """What the network makes the latents of a molecule from."""
        if self.config.coder == "learned":
            return torch.tensor(number, device=self.device)
        return self.grid(number) if grid is None else grid

    def axes(self, cells: int) -> Axes:
        """Centres of the cells of a grid that fills the box."""
        axis = grid_axis(cells, self.device)
        return axis, axis, axis

    def _draw_one(self, draw: Draw) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
        random = draw_generator(self.config.seed, draw.epoch, self.scenes.ids[draw.sample])
        scene, grid = self.scenes[draw.sample], None
        if self.config.turn:
            scene = scene.turned(draw_rotation(random))
            grid = self.read(scene, self.axes(self.config.cells)) if self.config.coder == "encoder" else None
        on_grid = self.config.positions == "grid"
        chosen = self._choose_cells(random) if on_grid else self._choose_anywhere(scene, random)
        x, y, z = (torch.as_tensor(axis, device=self.device) for axis in chosen)
        return self.source(draw.sample, grid), (x.float(), y.float(), z.float()), self.read(scene, (x, y, z))

    def _choose_cells(self, random: np.random.Generator) -> list[FloatArray]:
        """Neighbouring points of the training grid."""
        cells = self.config.cells
        crop = min(self.config.crop, cells)
        first = random.integers(0, cells - crop + 1, 3)
        points = grid_axis(cells, torch.device("cpu")).numpy()
        return [points[start : start + crop] for start in first.tolist()]

    def _choose_anywhere(self, scene: Scene, random: np.random.Generator) -> list[FloatArray]:
        """One position in each of equal steps along a place's edges."""
        crop = self.config.crop
        width = min(2.0, 2 * crop / self.config.cells)
        centre = random.uniform(-1, 1, 3)
        if random.random() < self.config.near:
            width /= 2
            atom = scene.positions[random.integers(len(scene.positions))]
            centre = (atom - scene.centre) / (self.edge / 2) + random.normal(0, SPREAD * width, 3)
        corner = np.clip(centre, width / 2 - 1, 1 - width / 2) - width / 2
        return [start + width * (np.arange(crop) + random.random(crop)) / crop for start in corner]

    def _read_grid(self, number: int) -> Tensor:
        """The training grid of a molecule, (fields, n, n, n)."""
        return self.read(self.scenes[number], self.axes(self.config.cells))


def grid_axis(cells: int, device: torch.device) -> Tensor:
    """Centres of cells between −1 and 1, float64."""
    return (2 * torch.arange(cells, dtype=torch.float64, device=device) + 1) / cells - 1


def measure_scales(boxes: FieldBoxes, numbers: Sequence[int]) -> Tensor:
    """(fields,): 1 for fields of atoms, else the largest length of a value on the grids of some molecules."""
    names, sizes = boxes.scenes.fields.labels, []
    peaks = torch.stack([boxes.grid(number).abs().amax(dim=(1, 2, 3)) for number in numbers]).amax(dim=0)
    for name, peak in zip(names, peaks.tolist(), strict=True):
        sizes.append(peak if name.startswith(("density:", "gradient:")) and peak > 0 else 1.0)
    return torch.tensor(sizes)


def with_scales(boxes: FieldBoxes, scales: Tensor) -> FieldBoxes:
    return FieldBoxes(boxes.scenes, boxes.config, boxes.edge, scales.to(boxes.device), boxes.device)
