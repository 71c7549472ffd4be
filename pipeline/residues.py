"""What a recipe chooses of a structure; `pipeline.structures` has the rules that leave these choices open."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.units import BOHR_PER_ANGSTROM

ResidueKind: TypeAlias = Literal["protein", "nucleic", "ions", "waters", "others"]


@dataclass(frozen=True)
class Rules:
    """How a structure becomes atoms."""

    residues: tuple[ResidueKind, ...] = ("protein", "nucleic", "ions", "others")  # kinds that are taken
    model: int | None = 1  # its number in the file's order, from 1; None: all
    pocket: float = 8 * BOHR_PER_ANGSTROM  # bohr: residues so near to a ligand are its pocket


DEFAULT_RULES = Rules()
