"""Numbers as people read them, in the report and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping

from frostline_trainer.contract import Scalar

_SI = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
DASH = "–"
"""Stands for what is not there."""


def value(number: float | None, digits: int = 5) -> str:
    """A measured value to so many significant digits; a dash where there is none."""
    if number is None or not math.isfinite(number):
        return DASH
    if number != 0 and not 1e-4 <= abs(number) < 1e6:
        return f"{number:.{digits - 1}e}"
    return f"{number:.{digits}g}" if abs(number) < 10**digits else f"{number:,.0f}"


def correlation(rho: float | None) -> str:
    """A correlation to two decimals, with a true minus sign."""
    return DASH if rho is None else f"{rho:.2f}".replace("-", "−")


def count(number: float) -> str:
    """A whole number with its thousands set apart."""
    return f"{number:,.0f}"


def amount(number: float) -> str:
    """A whole number to three digits from ten million on, such as `262,144` or `12.5M`."""
    return count(number) if number < 10**7 else short(number)


def short(number: float) -> str:
    """An amount with an SI prefix, such as `262k` or `1.05M`."""
    for factor, prefix in _SI:
        if abs(number) >= factor:
            return f"{number / factor:.3g}{prefix}"
    return f"{number:.3g}"


def flops(number: float) -> str:
    """Floating-point operations, such as `3.2 TFLOP`."""
    for factor, prefix in _SI:
        if abs(number) >= factor:
            return f"{number / factor:.3g} {prefix}FLOP"
    return f"{number:.3g} FLOP"


def duration(seconds: float) -> str:
    """A length of time in its two largest units, such as `3 min 20 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((i for i, (amount, _) in enumerate(parts) if amount), len(parts) - 1)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def times(before: float, after: float) -> str:
    """How many times as much one amount is as another, such as `5.33 ×`; a dash where the other is nothing."""
    if after <= 0:
        return DASH
    factor = before / after
    return f"{factor:,.0f} ×" if factor >= 100 else f"{factor:.3g} ×"


def size(memory: int | None) -> str:
    """An amount of memory in bytes, such as `7.5 GiB`; a dash where it is not known."""
    if not memory:
        return DASH
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if memory >= factor:
            return f"{memory / factor:.3g} {unit}"
    return f"{memory} B"


def scalar(setting: Scalar) -> str:
    """A hyperparameter's value as one would write it in YAML."""
    if isinstance(setting, bool):
        return "true" if setting else "false"
    if isinstance(setting, float):
        return f"{setting:.4g}"
    return str(setting)


def assignment(settings: Mapping[str, Scalar]) -> str:
    """A configuration in one line, such as `lr=0.001 optimizer=AdamW`."""
    return " ".join(f"{name}={scalar(setting)}" for name, setting in settings.items())
