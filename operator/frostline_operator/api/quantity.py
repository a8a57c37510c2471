"""Amounts as Kubernetes users write them: bytes such as `24Gi`, durations such as `1h30m`."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import AfterValidator, Field

_BYTES = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?$")
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_DURATION = re.compile(r"^(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?$")


def parse_bytes(text: str) -> int:
    """Bytes of a quantity such as `8Gi` or `500M`.

    Raises:
        ValueError: if the text is not a number with one of the suffixes k, M, G, T, Ki, Mi, Gi, Ti.
    """
    match = _BYTES.match(text)
    if not match:
        raise ValueError(f"{text!r} is not an amount of memory; write a number and a unit, such as 24Gi or 512Mi")
    amount = float(match[1]) * _FACTORS[match[2] or ""]
    if not math.isfinite(amount):
        raise ValueError(f"{text[:20]}… is more memory than there is; write a number and a unit, such as 24Gi")
    return int(amount)


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `90s`, `15m` or `1h30m`.

    Raises:
        ValueError: if the text has no number, or units other than d, h, m, s in this order.
    """
    match = _DURATION.match(text)
    if not match or not text:
        raise ValueError(f"{text!r} is not a duration; write numbers and units, such as 90s, 15m or 1h30m")
    if len(text) > 40:
        raise ValueError(f"{text[:20]}… is longer than anybody waits; write numbers and units, such as 1h30m")
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def format_bytes(amount: float) -> str:
    """The amount with the largest binary unit that keeps it at or above one, such as `7.5Gi`."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if amount >= _FACTORS[unit]:
            return f"{amount / _FACTORS[unit]:.4g}{unit}"
    return f"{amount:.0f}"


def _checked_bytes(text: str) -> str:
    parse_bytes(text)
    return text


def _checked_duration(text: str) -> str:
    if parse_duration(text) <= 0:
        raise ValueError(f"{text!r} is no time at all; give at least 1s")
    return text


Bytes = Annotated[str, Field(pattern=_BYTES.pattern), AfterValidator(_checked_bytes)]
"""An amount of memory as text, such as `24Gi`."""
Duration = Annotated[
    str, Field(pattern=r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"), AfterValidator(_checked_duration)
]
"""A length of time as text, such as `1h30m`."""
