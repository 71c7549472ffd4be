"""Smooth fields of a molecule's atoms at any position: sums of Gaussians, one for each atom that a channel shows.

A channel is written as [part:]what[:elements]: `C` (the carbons), `radius`, `electronegativity` or `wigner_seitz` (all
atoms, each as wide as its property says), `protein:wigner_seitz:H,C,N` (of one part of the system, and only of these
elements). An atom's Gaussian is exp(−β d²/r²), 1 at its nucleus, with r in ångström the element's property over
carbon's: the van der Waals radius where the channel is an element. The sum is divided by its largest value anywhere, so
that a channel reaches from 0 to 1; that value belongs to the molecule, not to the grid on which it is asked for.

The same lines run on NumPy arrays and torch tensors: the namespace and device of the positions decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from array_api_compat import array_namespace, device

from pipeline.atomic_properties import ELECTRONEGATIVITY, VAN_DER_WAALS, WIGNER_SEITZ_DENSITY
from pipeline.elements import NUMBERS, SYMBOLS
from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError
from storage.schema import FloatArray, IntArray

CARBON = 6
PROPERTIES: Mapping[str, Mapping[int, float]] = {
    "radius": VAN_DER_WAALS,
    "electronegativity": ELECTRONEGATIVITY,
    "wigner_seitz": WIGNER_SEITZ_DENSITY,
}
CLIMBS = 200  # steps towards the highest point, at most
STILL = 1e-12  # a climb that rises by less has arrived
TRIAL_STEPS, CLIMBERS = 5, 16  # after so many steps, so many go on

A = TypeVar("A")  # the array type of the caller's positions: NumPy's or torch's


@dataclass(frozen=True)
class Channel:
    """Which atoms a field shows, and what their widths follow."""

    name: str  # as it was written
    part: str  # of the system; "": all of it
    property: str  # a key of PROPERTIES
    elements: tuple[int, ...]  # atomic numbers; (): every element


@dataclass(frozen=True)
class Gaussians:
    """Σ exp(−exponent |r − centre|²) / peak. Lengths in bohr."""

    exponents: FloatArray  # (n,)
    centres: FloatArray  # (n, 3)
    peak: float  # the largest value of the sum anywhere; 1 where there is no Gaussian

    def at_points(self, points: A) -> A:
        """Values (n,) at positions (n, 3)."""
        xp: Any = array_namespace(points)
        exponents, centres = (xp.asarray(values, device=device(points)) for values in (self.exponents, self.centres))
        squares = xp.sum((points[:, None, :] - centres) ** 2, axis=2)  # type: ignore[index]
        values: A = xp.sum(xp.exp(-exponents * squares), axis=1) / self.peak
        return values

    def on_axes(self, axes: tuple[A, A, A]) -> A:
        """Values (nx, ny, nz) at the points that three coordinate axes span."""
        xp: Any = array_namespace(*axes)
        place: Any = device(axes[0])
        exponents = xp.asarray(self.exponents, device=place)[:, None]
        x, y, z = (
            xp.exp(-exponents * (axis[None, :] - xp.asarray(centres, device=place)[:, None]) ** 2)  # type: ignore[index]
            for axis, centres in zip(axes, np.ascontiguousarray(self.centres.T), strict=True)
        )
        plane = xp.reshape(y[:, :, None] * z[:, None, :], (len(exponents), y.shape[1] * z.shape[1]))
        values: A = xp.reshape(x.T @ plane, (x.shape[1], y.shape[1], z.shape[1])) / self.peak
        return values


def parse_channel(text: str) -> Channel:
    """Raises RequestError saying how channels are written."""
    part, what, elements = _split(text)
    numbers = [NUMBERS.get(symbol, 0) for symbol in elements.split(",")] if elements else []
    if what in NUMBERS and not elements:
        return Channel(text, part, "radius", (NUMBERS[what],))
    if what not in PROPERTIES or 0 in numbers:
        raise RequestError(
            f"channel {text!r} is none: write [part:]what[:elements], with what an element's symbol or one of "
            f"{', '.join(PROPERTIES)}, for example C, wigner_seitz or ligand:radius:C,N"
        )
    return Channel(text, part, what, tuple(numbers))


def _split(text: str) -> tuple[str, str, str]:
    """Part, what, elements; "" where one is not given."""
    words = text.split(":")
    if len(words) == 3:
        return words[0], words[1], words[2]
    if len(words) == 2:
        return ("", words[0], words[1]) if words[0] in PROPERTIES else (words[0], words[1], "")
    return "", text, ""


def spread_atoms(
    channel: Channel,
    numbers: IntArray,
    positions: FloatArray,
    beta: float,
    parts: Sequence[str] = (),
    radii: Mapping[int, float] | None = None,
) -> Gaussians:
    """The Gaussians of a channel, from atomic numbers (atoms,), positions (atoms, 3) in bohr and the part of each atom.

    `radii`: by atomic number, ångström, instead of the property over carbon's. Raises RequestError naming the elements
    whose property is not known.
    """
    chosen = _choose_atoms(channel, numbers, parts)
    widths = _find_widths(channel, numbers[chosen], radii or {}) * BOHR_PER_ANGSTROM
    exponents, centres = beta / widths**2, positions[chosen]
    return Gaussians(exponents, centres, find_peak(exponents, centres))


def find_peak(exponents: FloatArray, centres: FloatArray) -> float:
    """The largest value of Σ exp(−exponent |r − centre|²), by climbing from the centres; 1 where there are none.

    Each step goes to the mean of the centres, weighted by their pull: a climb that never descends. After a few steps
    only the highest climbers go on.
    """
    if not len(exponents):
        return 1.0
    points, highest = centres, 0.0
    for step in range(CLIMBS):
        values = np.exp(-exponents * np.sum((points[:, None, :] - centres) ** 2, axis=2))
        heights = values.sum(axis=1)
        if heights.max() - highest < STILL:
            break
        highest = float(heights.max())
        if step == TRIAL_STEPS:
            best = np.argsort(heights)[-CLIMBERS:]
            values = values[best]
        pulls = exponents * values
        points = (pulls @ centres) / pulls.sum(axis=1, keepdims=True)
    return highest


def _choose_atoms(channel: Channel, numbers: IntArray, parts: Sequence[str]) -> IntArray:
    chosen = np.isin(numbers, channel.elements) if channel.elements else np.ones(len(numbers), dtype=bool)
    if channel.part:
        if channel.part not in parts:
            there = ", ".join(sorted(set(parts))) or "none"
            raise RequestError(f"channel {channel.name!r}: the system has no part {channel.part!r}; its parts: {there}")
        chosen &= np.array(parts) == channel.part
    return np.flatnonzero(chosen)


def _find_widths(channel: Channel, numbers: IntArray, radii: Mapping[int, float]) -> FloatArray:
    """Of each atom, in ångström."""
    table = PROPERTIES[channel.property]
    known = {number: value / table[CARBON] for number, value in table.items()} | dict(radii)
    if missing := sorted(set(numbers.tolist()) - set(known)):
        names = ", ".join(SYMBOLS[number] for number in missing)
        given = ":".join(filter(None, (channel.part, channel.property)))
        raise RequestError(
            f"channel {channel.name!r}: no {channel.property} is known of {names}: name the elements to be shown, "
            f"as in {given}:H,C,N, or choose another property"
        )
    return np.array([known[number] for number in numbers.tolist()])
