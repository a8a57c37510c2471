"""Figures at every z from as few measurements as the network's repetition allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

EXACT = 1e-9
"""Relative difference up to which a measured middle counts as lying on the straight line between its neighbours."""


def at_every_z(layers: int, measure: Callable[[int], Sequence[float]]) -> list[tuple[float, ...]]:
    """What `measure` says at z = 1 to `layers`, with what blocks that are alike say taken from a straight line.

    It is asked at both ends, at their neighbours, and in the middle of every gap. A gap whose middle is on the straight
    line is filled in, any other is split, so a network whose units all differ is measured at every z.
    """
    rows: dict[int, tuple[float, ...]] = {}

    def at(z: int) -> tuple[float, ...]:
        if z not in rows:
            rows[z] = tuple(measure(z))
        return rows[z]

    def fill(low: int, high: int) -> None:
        if high - low < 2:
            return
        middle = (low + high) // 2
        if all(map(_same, at(middle), _between(at(low), at(high), (middle - low) / (high - low)))):
            for z in range(low + 1, high):
                rows.setdefault(z, _between(at(low), at(high), (z - low) / (high - low)))
        else:
            fill(low, middle)
            fill(middle, high)

    for low, high in pairwise(sorted({1, min(2, layers), max(1, layers - 1), layers})):
        at(low)
        fill(low, high)
    return [at(z) for z in range(1, layers + 1)]


def _between(low: Sequence[float], high: Sequence[float], share: float) -> tuple[float, ...]:
    return tuple(one + share * (two - one) for one, two in zip(low, high, strict=True))


def _same(one: float, two: float) -> bool:
    return math.isclose(one, two, rel_tol=EXACT)
