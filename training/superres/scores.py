"""How far a method's density of one molecule is from the target, in every measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from storage.schema import FloatArray
from training.batch import Boxes, Draw
from training.catalog import Catalog
from training.metrics import nmae
from training.superres.methods import GUESS, MODEL, Box, Method, count_electrons, read_box
from training.superres.moments import moments_of_difference
from training.superres.regions import Regions, find_regions


@dataclass(frozen=True)
class Errors:
    """Of one method, on one molecule."""

    nmae: float
    nmae_before: float  # of what a network says before its number of electrons is corrected
    electron_error: float  # against the guess's electrons in the box
    electron_error_before: float
    largest: float  # |Δρ| of a cell, electrons/bohr³
    dipole: float  # size of the error, debye
    quadrupole: float  # Frobenius norm of the error, debye·Å
    by_distance: list[float]  # ∫|Δρ| over each bin of distance from the nearest nucleus, electrons
    by_element: dict[str, float]  # ∫|Δρ| over the cells nearest to each element, electrons
    turned_nmae: list[float]  # of the molecule turned at random, in boxes that fit it, once for each rotation


@dataclass(frozen=True)
class Score:
    """One held-out sample. Electrons are those of the box, against the guess's there."""

    id: str
    molecule: str  # its group: conformers of one molecule are no independent samples
    electrons: float
    target_electron_error: float  # of the target itself
    target_by_distance: list[float]  # its electrons in each bin
    target_by_element: dict[str, float]
    methods: dict[str, Errors]

    @property
    def guess_nmae(self) -> float:
        return self.methods[GUESS].nmae

    @property
    def model_nmae(self) -> float:
        return self.methods[MODEL].nmae


@dataclass(frozen=True)
class Trial:
    """What every molecule goes through."""

    catalog: Catalog
    methods: Sequence[Method]
    target: str
    stored: Mapping[str, Boxes]  # by guess
    turned: Mapping[str, Boxes]  # by guess: the same molecules turned anew at each draw
    rotations: int

    def score(self, sample: int) -> Score:
        """One molecule at a time is in memory."""
        catalog = self.catalog
        electrons = {input: float(catalog.electrons(input)[sample]) for input in self.stored}
        box = read_box(self.stored, Draw(sample, 0), self.target, electrons)
        regions = find_regions(catalog.grid(sample), catalog.numbers_of(sample), catalog.positions_of(sample))
        turned = self._judge_turned(sample)
        target, wanted = box.densities[self.target], box.electrons[self.methods[0].input]
        reference = target.astype(np.float64) * box.volume
        return Score(
            id=catalog.ids[sample],
            molecule=str(catalog.table["group"].iloc[sample]),
            electrons=wanted,
            target_electron_error=count_electrons(target, box.volume) - wanted,
            target_by_distance=regions.sum_by_distance(reference),
            target_by_element=regions.sum_by_element(reference),
            methods={
                method.name: self._judge(method, box, sample, regions, turned[method.name]) for method in self.methods
            },
        )

    def _judge(self, method: Method, box: Box, sample: int, regions: Regions, turned: list[float]) -> Errors:
        predicted, target = method.predict(box), box.densities[self.target]
        difference: FloatArray = predicted.density.astype(np.float64) - target
        amiss = np.abs(difference)
        centre = self.catalog.positions_of(sample).mean(axis=0)
        moments = moments_of_difference(difference, self.catalog.grid(sample), centre)
        electrons = box.electrons[method.input]
        return Errors(
            nmae=nmae(predicted.density, target),
            nmae_before=nmae(predicted.uncorrected, target),
            electron_error=count_electrons(predicted.density, box.volume) - electrons,
            electron_error_before=count_electrons(predicted.uncorrected, box.volume) - electrons,
            largest=float(amiss.max()),
            dipole=moments.dipole_size,
            quadrupole=moments.quadrupole_size,
            by_distance=regions.sum_by_distance(amiss * box.volume),
            by_element=regions.sum_by_element(amiss * box.volume),
            turned_nmae=turned,
        )

    def _judge_turned(self, sample: int) -> dict[str, list[float]]:
        """NMAE by method, for each rotation."""
        errors: dict[str, list[float]] = {method.name: [] for method in self.methods}
        summed = dict.fromkeys(self.turned, np.nan)
        for rotation in range(1, self.rotations + 1):
            box = read_box(self.turned, Draw(sample, rotation), self.target, summed)
            for method in self.methods:
                errors[method.name].append(nmae(method.predict(box).density, box.densities[self.target]))
        return errors
