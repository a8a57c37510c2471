"""Numbers as Grafana writes them in its units, and names of series from their legends."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def text(value: float, unit: str, decimals: int | None = None) -> str:
    """A number in a unit of Grafana's (`short`, `bytes`, `s`, `percentunit` and so on)."""
    if math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.{1 if decimals is None else decimals}f}%"
    if unit == "bytes":
        return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"), decimals)
    if unit == "s":
        return _seconds(value, decimals)
    if unit == "dtdurations":
        return duration(value)
    if unit == "sishort":
        return _scaled(value, 1000, ("", "k", "M", "G", "T", "P", "E"), decimals)
    if unit in ("ops", "reqps"):
        return f"{plain(value, decimals)} {'ops/s' if unit == 'ops' else 'req/s'}"
    if unit == "none":
        return f"{value:.0f}" if value == int(value) else f"{value:.{4 if decimals is None else decimals}f}"
    return plain(value, decimals) if abs(value) < 100_000 else _scaled(value, 1000, ("", "K", "Mil", "Bil"), decimals)


_NICE_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def ticks(low: float, high: float, unit: str) -> list[float]:
    """Round values between two ends, about four, round in what the unit counts by: 1024 for bytes, 60 for times."""
    rough = (high - low) / 4 or 1.0
    if unit == "bytes":
        step = 2.0 ** math.ceil(math.log2(rough))
    elif unit in ("s", "dtdurations") and rough > 1:
        step = float(next((nice for nice in _NICE_SECONDS if nice >= rough), 86400 * math.ceil(rough / 86400)))
    else:
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def plain(value: float, decimals: int | None = None) -> str:
    """A number as it is, with as many digits as say something."""
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def duration(seconds: float) -> str:
    """The two largest parts of a duration."""
    left, parts = max(0, round(seconds)), []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size or (name == "s" and not parts):
            parts.append(f"{left // size}{name}")
        left %= size
    return " ".join(parts[:2])


def _seconds(value: float, decimals: int | None) -> str:
    if 0 < abs(value) < 1:
        return f"{value * 1000:.{0 if abs(value) >= 0.1 else 1}f} ms"
    if abs(value) >= 3600:
        return f"{value / 3600:.2f} h"
    return f"{value / 60:.1f} min" if abs(value) >= 120 else f"{plain(value, decimals)} s"


def _scaled(value: float, step: int, units: tuple[str, ...], decimals: int | None) -> str:
    power = 0
    while abs(value) >= step and power < len(units) - 1:
        value /= step
        power += 1
    return f"{plain(value, decimals)} {units[power]}".strip()


def name(legend: str, labels: Mapping[str, str]) -> str:
    """The name of a series by its panel's legend."""
    if legend and legend != "__auto":
        return _LABEL.sub(lambda match: labels.get(match[1], ""), legend)
    shown = {key: value for key, value in labels.items() if key != "__name__"}
    return ", ".join(shown.values()) or labels.get("__name__", "value")
