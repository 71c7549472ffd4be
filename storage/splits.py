"""Which split a molecule belongs to: a pure function of what it is, so that appending moves nobody."""

import hashlib
from collections.abc import Mapping


def assign_split(group: str, fractions: Mapping[str, float]) -> str:
    """The split of a group of molecules, from a hash of its name; `fractions` add up to 1."""
    position = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) / 2**64
    reached = 0.0
    for split, fraction in fractions.items():
        reached += fraction
        if position < reached:
            return split
    return list(fractions)[-1]
