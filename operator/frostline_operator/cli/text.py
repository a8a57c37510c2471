"""How figures are written in the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping

from frostline_trainer.contract import Scalar


def flops(amount: float) -> str:
    """Such as `1.2 TFLOP`."""
    for power, name in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M")):
        if amount >= 10**power:
            return f"{amount / 10**power:.3g} {name}FLOP"
    return f"{amount:.3g} FLOP"


def duration(seconds: float) -> str:
    """Such as `2 h 05 min`, `3 min 20 s` or `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"


def count(amount: float) -> str:
    """Such as `262,144`; from ten million on as `12.5 M`."""
    for power, name in ((12, "T"), (9, "G"), (6, "M")):
        if amount >= max(10**power, 10**7):
            return f"{amount / 10**power:.3g} {name}"
    return f"{amount:,.0f}"


def value(number: float | None) -> str:
    """An objective's value, or a dash."""
    return "–" if number is None or not math.isfinite(number) else f"{number:.5g}"


def assignment(values: Mapping[str, Scalar]) -> str:
    """Such as `lr=0.001 optimizer=AdamW`."""
    return " ".join(f"{name}={v:.4g}" if isinstance(v, float) else f"{name}={v}" for name, v in values.items())


def times(before: float, after: float) -> str:
    """How many times less, such as `3.2 x`."""
    return "–" if after <= 0 else f"{before / after:.3g} x"
