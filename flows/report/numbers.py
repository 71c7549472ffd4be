"""Numbers as people write them: powers of ten with raised digits, a true minus sign."""

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
