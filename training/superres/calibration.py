"""How large the error of a prediction is to be expected: learned from the validation split, tried on the test split.

A network that knows a molecule's surroundings says the same of a box however it is turned. How far it contradicts
itself is known without the true density, and goes with the error.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.errors import StoreError
from storage.objects import Json, has_object, read_record, write_record

CALIBRATION = "calibration.json"
CALIBRATED = 256  # samples of the validation split, at most
PRIOR = 4.0  # molecules that would say that the error is proportional to the spread
SMALLEST = 1e-9


@dataclass(frozen=True)
class Sign:
    """What a prediction shows of its error, and the error."""

    id: str
    spread: float
    nmae: float


@dataclass(frozen=True)
class Foresight:
    """How the calibration fared on molecules that neither it nor the model had seen."""

    store: str
    molecules: int
    spearman: float  # rank correlation of expected and true errors
    factor: float  # two molecules of three have an error within this factor of the expected one
    expected_nmae: float  # means
    true_nmae: float
    doubted: int = 0  # other samples there, which are unlike the training: no error is foreseen for them

    def __str__(self) -> str:
        others = f", not for {self.doubted} that are unlike the training" if self.doubted else ""
        return (
            f"errors foreseen for {self.molecules} test samples{others}: mean NMAE {100 * self.expected_nmae:.2f}"
            f" %, true {100 * self.true_nmae:.2f} %; rank correlation {self.spearman:.2f}, "
            f"two of three within a factor of {self.factor:.2f}"
        )


@dataclass(frozen=True)
class Calibration:
    """NMAE = scale · spread^power, for two molecules of three within `factor`."""

    step: int  # of the model
    molecules: int  # samples of the validation split
    scale: float
    power: float
    factor: float
    foresight: Foresight | None = None

    def expect(self, spread: float) -> float:
        """NMAE of a prediction, from its spread."""
        return float(self.scale * max(spread, SMALLEST) ** self.power)


def fit_calibration(signs: Sequence[Sign], step: int) -> Calibration:
    """Least squares of the logarithms; where few molecules say otherwise, the error is proportional to the spread."""
    spreads, errors = _logarithms(signs)
    about, excess = spreads - spreads.mean(), errors - spreads
    slope = float(about @ excess / (about @ about + PRIOR * max(float(errors.var()), SMALLEST)))
    level = float(errors.mean() - (1 + slope) * spreads.mean())
    residuals = errors - level - (1 + slope) * spreads
    return Calibration(step, len(signs), float(np.exp(level)), 1 + slope, _find_factor(residuals))


def prove_calibration(calibration: Calibration, signs: Sequence[Sign], store: str, doubted: int) -> Foresight:
    errors = np.array([sign.nmae for sign in signs])
    expected = np.array([calibration.expect(sign.spread) for sign in signs])
    residuals = np.log(np.maximum(errors, SMALLEST) / expected)
    means = float(expected.mean()), float(errors.mean())
    return Foresight(store, len(signs), correlate_ranks(expected, errors), _find_factor(residuals), *means, doubted)


def correlate_ranks(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's coefficient; 0 where there is nothing to rank."""
    if len(first) < 2:
        return 0.0
    ranks = [pd.Series(values).rank().to_numpy() for values in (first, second)]  # equal values share their mean rank
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if all(map(np.ptp, ranks)) else 0.0


def write_calibration(run: Path, calibration: Calibration) -> None:
    write_record(run, CALIBRATION, cast(Json, asdict(calibration)))


def read_calibration(run: Path) -> Calibration | None:
    """None where the run has none. Raises StoreError where it is damaged."""
    if not has_object(run, CALIBRATION):
        return None
    record = dict(read_record(run, CALIBRATION))
    try:
        foresight = record.pop("foresight")
        return Calibration(**record, foresight=Foresight(**foresight) if foresight else None)  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{run / CALIBRATION} is damaged ({error}): delete it, `rhoflow evaluate` makes it again"
        ) from error


def find_calibration(run: Path, step: int) -> Calibration | None:
    """That of the model of this step; None where the run has none of it."""
    calibration = read_calibration(run)
    return calibration if calibration and calibration.step == step else None


def _logarithms(signs: Sequence[Sign]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = np.log(np.maximum([[sign.spread, sign.nmae] for sign in signs], SMALLEST))
    return values[:, 0], values[:, 1]


def _find_factor(residuals: NDArray[np.float64]) -> float:
    return float(np.exp(np.quantile(np.abs(residuals), 2 / 3)))
