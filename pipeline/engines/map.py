"""The engine that computes nothing: each structure's density is what its own experimental map holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from pipeline.failures import InvalidInput
from pipeline.maps import Method, read_map, resample
from pipeline.sources import find_map
from pipeline.units import ANGSTROM_PER_BOHR
from storage.errors import RequestError
from storage.schema import Conformer, FloatArray, Grid, Sampling

Scale: TypeAlias = Literal["sigma", "file"]


@dataclass(frozen=True)
class MapEngine:
    """Values in standard deviations of the whole map above its mean, or as the file scales them."""

    source: Path  # of the structures
    column: str | None  # that names a row's map; None: it lies beside its structure, under the same name
    id: str | None  # column of the ids
    method: Method
    scale: Scale
    amplitudes: str | None  # columns of MTZ files
    phases: str | None
    least_coverage: float  # of the box; cells that the map does not cover have its mean
    sampling: Sampling

    def resample(self, conformer: Conformer, grid: Grid) -> tuple[FloatArray, Mapping[str, float]]:
        """On that grid, and the map's own mean and deviation, as the file has them, by which the other scale follows.

        Raises InvalidInput where there is no such map, or it does not cover the grid, and RequestError where this
        machine does not see the source at all.
        """
        folder = self.source if self.source.is_dir() else self.source.parent
        if not self.source.exists() or not any(folder.iterdir()):
            raise RequestError(
                f"{self.source}, beside which maps lie, is empty or missing on this machine: mount it too"
            )
        try:
            path = find_map(self.source, conformer.id.rsplit("#", 1)[0], self.column, self.id)
            map = read_map(path, self.method, self.amplitudes, self.phases)
        except ValueError as error:
            raise InvalidInput(f"the map of this structure: {error}") from error
        values = resample(map, grid, self.sampling)
        coverage = 1 - float(np.isnan(values).mean())
        if coverage < self.least_coverage:
            raise InvalidInput(
                f"{path.name}: the map covers {coverage:.2%} of the box: give a map of the whole cell, a smaller "
                "margin_angstrom, or the density's least_coverage"
            )
        values[np.isnan(values)] = map.mean
        facts = {"map_mean": map.mean, "map_deviation": map.deviation, "map_coverage": coverage}
        if self.scale == "sigma":
            return (values - map.mean) / map.deviation, facts
        return values * (ANGSTROM_PER_BOHR**3 if self.method == "xray" else 1.0), facts
