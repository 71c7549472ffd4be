"""How large the error of a prediction is to be expected: learned from the validation split, tried on the test split.

A network that has learned a molecule's surroundings says the same of a box however it is turned. How far it contradicts
itself is known without the true density, and goes with the error.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from storage.objects import Location, has_object, read_record, write_record
from training.batch import Boxes, Draw, find_electrons
from training.catalog import Catalog, read_catalog
from training.device import choose_device
from training.metrics import nmae
from training.models.prediction import predict_turned
from training.stored import Cutting, StoredBoxes
from training.trained import Model, load_model

CALIBRATION = "calibration.json"
PRIOR = 4.0  # molecules that would say that the error is proportional to the spread
SMALLEST = 1e-9  # spread


@dataclass(frozen=True)
class Sign:
    """What a prediction shows of its error, and the error."""

    id: str
    spread: float
    nmae: float


@dataclass(frozen=True)
class Calibration:
    """NMAE = scale · spread^power, within a factor of `factor` for two molecules of three."""

    step: int  # of the model
    molecules: int  # of the validation split
    scale: float
    power: float
    factor: float
    trial: dict[str, Any]  # on a test split, where there was one: molecules, spearman, factor, mean_nmae …

    def expect(self, spread: float) -> float:
        """NMAE of a prediction."""
        return float(self.scale * max(spread, SMALLEST) ** self.power)
