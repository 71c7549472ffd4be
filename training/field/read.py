"""Asks a trained field of molecules: what the network says, and what is true."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storage.errors import RequestError
from storage.schema import FloatArray, Grid
from training.config import FieldConfig
from training.field.boxes import FieldBoxes, name_latents
from training.field.model import FieldModel
from training.field.scenes import Scenes

Values = NDArray[np.float32]  # (fields, nx, ny, nz), in the units of the fields


@dataclass(frozen=True)
class FieldReader:
    """A model, and molecules that it can be asked of."""

    model: FieldModel
    boxes: FieldBoxes

    @property
    def scenes(self) -> Scenes:
        return self.boxes.scenes

    def latents(self, number: int) -> Tensor:
        """Of a molecule, (1, features, n, n, n): learned ones where the model learned it, else its encoder's.

        Raises RequestError where the model has neither.
        """
        model, id = self.model, self.scenes.ids[number]
        if not model.network.architecture.molecules:
            return model.encode(self.boxes.source(number))
        if id not in model.origin.ids:
            raise RequestError(
                f"{id} is none of the molecules whose latents were learned: train with coder = 'encoder'"
            )
        return model.encode(name_latents(model.origin.ids.index(id), device=self.boxes.device))

    def pool(self, number: int) -> FloatArray:
        """Latents as one vector: of each the mean over cells, and where there are several the mean of its square."""
        values = self.latents(number)[0].flatten(1).double().cpu().numpy()
        moments = [values.mean(axis=1)] if values.shape[1] == 1 else [values.mean(axis=1), (values**2).mean(axis=1)]
        return np.concatenate(moments)

    def predict(self, number: int, cells: int) -> Values:
        """What the network says, on a grid that fills the box of a molecule."""
        return self.model.sample_grid(self.latents(number), cells).cpu().numpy()

    def between(self, first: int, second: int, share: float, cells: int) -> Values:
        """What the network says of latents so far on the straight way from one molecule's to another's."""
        latents = torch.lerp(self.latents(first), self.latents(second), share)
        return self.model.sample_grid(latents, cells).cpu().numpy()

    def truth(self, number: int, cells: int) -> Values:
        """What is true there."""
        return self.boxes.values(self.scenes[number], self.boxes.axes(cells)).cpu().numpy()

    def grid(self, number: int, cells: int) -> Grid:
        """Where it lies."""
        step = self.model.origin.edge / cells
        x, y, z = (self.scenes[number].centre + (step - self.model.origin.edge) / 2).tolist()
        return Grid((cells,) * 3, (step,) * 3, (x, y, z))


def open_reader(model: FieldModel, scenes: Scenes) -> FieldReader:
    origin, device = model.origin, next(model.network.parameters()).device
    coder = "learned" if model.network.architecture.molecules else "encoder"
    config = FieldConfig(cells=origin.cells, coder=coder)
    return FieldReader(model, FieldBoxes(scenes, config, origin.edge, origin.scaling, device))
