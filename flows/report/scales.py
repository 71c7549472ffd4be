"""Colour scales: which value has which colour, for plotly's heat maps and for the key above them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from storage.schema import FloatArray

DENSITY_UNITS = "e/bohr³"
GRADIENT_UNITS = "e/bohr⁴"
DENSITY_STOPS = ("#ffffff", "#e3edf5", "#b5d0e6", "#74a9cf", "#3a7cb3", "#1d4f8b", "#0d2449")
GRADIENT_STOPS = ("#ffffff", "#e6f1ea", "#b9dcc7", "#76bb97", "#369069", "#176048", "#062f26")
ERROR_STOPS = ("#123f6d", "#2f78b5", "#8dbbdc", "#ffffff", "#f0ad8d", "#cf5a3c", "#7d1d1d")
STEPS = 64


@dataclass(frozen=True)
class Scale:
    """Values, ascending, with the colour of each; between them both are linear."""

    title: str
    units: str
    values: FloatArray
    colours: Sequence[str]
    ticks: Sequence[float]

    @property
    def limits(self) -> tuple[float, float]:
        return float(self.values[0]), float(self.values[-1])

    def place(self, value: float) -> float:
        """Where a value lies on the key, 0 to 1."""
        return float(np.interp(value, self.values, np.linspace(0, 1, len(self.values))))

    def stops(self) -> list[tuple[float, str]]:
        """The scale as plotly wants it: fractions of the range."""
        low, high = self.limits
        return list(zip(((self.values - low) / (high - low)).tolist(), self.colours, strict=True))


def density_scale() -> Scale:
    """From vacuum to the valence shell's maxima: logarithmic, everything below 10⁻³ fades into white."""
    ticks = (0.001, 0.01, 0.1, 1.0)
    return _logarithmic("electron density ρ", DENSITY_UNITS, DENSITY_STOPS, ticks)


def gradient_scale() -> Scale:
    return _logarithmic("gradient |∇ρ|", GRADIENT_UNITS, GRADIENT_STOPS, (0.001, 0.01, 0.1, 1.0))


def error_scale(limit: float) -> Scale:
    """Symmetric about zero, colour as the square root of the error: a hundredth of the limit is still visible."""
    places = np.linspace(-1, 1, STEPS + 1)
    values = np.sign(places) * places**2 * limit
    ticks = tuple(sign * limit for sign in (-1, -0.25, 0, 0.25, 1))
    return Scale("difference", DENSITY_UNITS, values, _blend(ERROR_STOPS, STEPS + 1), ticks)


def round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9)))


def _logarithmic(title: str, units: str, stops: Sequence[str], ticks: Sequence[float]) -> Scale:
    values = np.concatenate([[0.0], np.geomspace(ticks[0], ticks[-1], STEPS)])
    return Scale(title, units, values, _blend(stops, STEPS + 1), ticks)


def _blend(stops: Sequence[str], count: int) -> list[str]:
    """`count` colours at equal steps between the given ones."""
    known = np.array([[int(stop[place : place + 2], 16) for place in (1, 3, 5)] for stop in stops])
    wanted, given = np.linspace(0, 1, count), np.linspace(0, 1, len(stops))
    channels = np.stack([np.interp(wanted, given, known[:, channel]) for channel in range(3)], axis=1)
    return ["#{:02x}{:02x}{:02x}".format(*map(int, np.rint(colour))) for colour in channels]
