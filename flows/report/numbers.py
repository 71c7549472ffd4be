"""Numbers as people write them: powers of ten with raised digits, a true minus sign; ticks of logarithmic axes."""

import math

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(exponent: int) -> str:
    return f"10{str(exponent).translate(RAISED)}"


def signed_scientific(value: float) -> str:
    """−1.3e-4 → "−1.3 × 10⁻⁴"."""
    if not value:
        return "0"
    digits, exponent = f"{value:+.1e}".split("e")
    return f"{digits} × {power_of_ten(int(exponent))}".replace("-", "−")


def counted(number: int, thing: str) -> str:
    """(2, "row") → "2 rows"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def logarithmic_ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, the more of them the closer these are."""
    decades = math.log10(high / low)
    steps = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9) if decades < 0.7 else (1, 2, 5) if decades < 3 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**power for power in powers for step in steps]
