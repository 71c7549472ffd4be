"""How sure a mean over molecules is: intervals from resampling them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from storage.schema import FloatArray

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 1


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval; the ends are NaN where there are fewer than two molecules."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: FloatArray) -> Interval:
    """Of one value per molecule, shape (molecules,). The same values give the same interval."""
    return bootstrap_ratio(values, np.ones(len(values)))


def bootstrap_ratio(parts: FloatArray, wholes: FloatArray) -> Interval:
    """Of Σ parts / Σ wholes, both with one value per molecule; NaN where the wholes are 0."""
    weights = _draw_weights(len(parts))
    ratio = _divide(parts.sum(keepdims=True), wholes.sum(keepdims=True))[0]
    drawn = _divide(weights @ parts, weights @ wholes)
    drawn = drawn[~np.isnan(drawn)]  # resamples without any of the wholes
    if len(parts) < 2 or not len(drawn):
        return Interval(float(ratio), np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(ratio), float(low), float(high))


def average_molecules(molecules: Sequence[str], values: FloatArray) -> FloatArray:
    """One value for each molecule, in the order of their names: conformers of one are no independent samples."""
    averages: FloatArray = sum_molecules(molecules, values) / sum_molecules(molecules, np.ones(len(values)))
    return averages


def sum_molecules(molecules: Sequence[str], values: FloatArray) -> FloatArray:
    """The sum over each molecule's samples, in the order of the molecules' names."""
    _, number = np.unique(np.asarray(molecules, dtype=str), return_inverse=True)
    return np.bincount(number, weights=values).astype(np.float64)


def _divide(parts: FloatArray, wholes: FloatArray) -> FloatArray:
    ratios: FloatArray = np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)
    return ratios


@lru_cache(maxsize=2)
def _draw_weights(count: int) -> FloatArray:
    """How often each molecule is drawn in each resample, shape (RESAMPLES, count)."""
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn.astype(np.float64)
