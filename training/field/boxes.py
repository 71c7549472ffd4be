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
from training.field.scaling import Scaling
from training.field.scenes import Axes, Scene, Scenes
from training.wavefunctions import draw_rotation

KEPT_GRIDS = 4096  # molecules whose training grids are kept
SPREAD = 1 / 6  # of the edge of a place: how far its centre lies from the chosen atom, one standard deviation


@dataclass(frozen=True)
class FieldBatch:
    """Some positions in each of several molecules, with what is true there."""

    source: Tensor  # what latents are made from: (batch, 3), or (batch, fields, n, n, n); see FieldNetwork.encode
    axes: tuple[Tensor, Tensor, Tensor]  # (batch, m) each, in boxes that reach from −1 to 1
    target: Tensor  # (batch, fields, m, m, m), what is to be learned
    counts: bool = True  # False of a process that has no part of a batch, and only keeps step with the others


class FieldBoxes:
    """Reads the fields of scenes in cubes of one edge, as a network learns them."""

    def __init__(
        self, scenes: Scenes, config: FieldConfig, edge: float, scaling: Scaling, device: torch.device
    ) -> None:
        """`edge`: bohr."""
        self.scenes, self.config, self.edge, self.device = scenes, config, edge, device
        self.scaling = scaling.to(device)
        self.grid = lru_cache(maxsize=KEPT_GRIDS)(self._read_grid)

    def draw(self, draws: Sequence[Draw]) -> FieldBatch:
        """What a step sees of these molecules; drawn from seed, epoch and ids alone."""
        parts = [self._draw_one(draw) for draw in draws]
        x, y, z = (torch.stack([axes[axis] for _, axes, _ in parts]) for axis in range(3))
        return FieldBatch(
            torch.stack([source for source, _, _ in parts]), (x, y, z), torch.stack([v for *_, v in parts])
        )

    def read(self, scene: Scene, axes: Axes) -> Tensor:
        """What is to be learned, (fields, nx, ny, nz), on axes in [−1, 1]."""
        return self.scaling.encode(self.values(scene, axes))

    def values(self, scene: Scene, axes: Axes) -> Tensor:
        """The same in the units of the fields."""
        x, y, z = (axis * (self.edge / 2) + float(middle) for axis, middle in zip(axes, scene.centre, strict=True))
        return scene.on_axes((x, y, z))

    def source(self, number: int, grid: Tensor | None = None) -> Tensor:
        """What the network makes the latents of a molecule from."""
        if self.config.coder == "learned":
            return name_latents(number, device=self.device)
        return self.grid(number) if grid is None else grid

    def axes(self, cells: int) -> Axes:
        """Centres of the cells of a grid that fills the box."""
        axis = grid_axis(cells, self.device)
        return axis, axis, axis

    def _draw_one(self, draw: Draw) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
        random = draw_generator(self.config.seed, draw.epoch, self.scenes.ids[draw.sample])
        scene, grid = self.scenes[draw.sample], None
        source = None
        if self.config.paths and random.random() < self.config.paths:
            scene, source = self._draw_between(draw.sample, random)
        if self.config.turn:
            scene = scene.turned(draw_rotation(random))
            grid = self.read(scene, self.axes(self.config.cells)) if self.config.coder == "encoder" else None
        on_grid = self.config.positions == "grid"
        chosen = self._choose_cells(random) if on_grid else self._choose_anywhere(scene, random)
        x, y, z = (torch.as_tensor(axis, device=self.device) for axis in chosen)
        source = self.source(draw.sample, grid) if source is None else source
        return source, (x.float(), y.float(), z.float()), self.read(scene, (x, y, z))

    def _draw_between(self, number: int, random: np.random.Generator) -> tuple[Scene, Tensor]:
        """Somewhere on the straight way from a molecule to another with the same atoms, but not to a neighbour's."""
        scene = self.scenes[number]
        others = [k for k in range(len(self.scenes)) if abs(k - number) > 1 and self.scenes[k].has_atoms_of(scene)]
        if not others:
            return scene, self.source(number)
        other, share = others[random.integers(len(others))], float(random.random())
        return scene.between(self.scenes[other], share), name_latents(number, other, share, device=self.device)

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


def name_latents(first: int, second: int | None = None, share: float = 0.0, *, device: torch.device) -> Tensor:
    """What a network that learned latents finds them by: a molecule's, or those on the way to another's; (3,)."""
    return torch.tensor([first, first if second is None else second, share], dtype=torch.float32, device=device)


def measure_scales(boxes: FieldBoxes, numbers: Sequence[int]) -> list[float]:
    """One for each value: 1 for fields of atoms, else the largest size on the training grids of some molecules."""
    axes = boxes.axes(boxes.config.cells)
    sizes = [boxes.values(boxes.scenes[number], axes).abs().amax(dim=(1, 2, 3)) for number in numbers]
    peaks = zip(boxes.scenes.fields.labels, torch.stack(sizes).amax(dim=0).tolist(), strict=True)
    return [peak if label.startswith(("density:", "gradient:")) and peak > 0 else 1.0 for label, peak in peaks]
