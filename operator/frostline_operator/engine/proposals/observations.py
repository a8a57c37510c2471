"""What a study's results come to as numbers that a model can learn from: lower is better, rungs on one scale."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline_operator.engine.state import Trial

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST = 200
"""Observations that the model is given at most: its cost grows with their third power."""
_SPREAD = 3.0
"""Values that lie further above the median than so many times the distance from it to the best are cut off there: how
bad a bad configuration is says nothing of where the good ones are."""


@dataclass(frozen=True)
class Observations:
    """Results as arrays of equal length, in the order of trial and rung."""

    trials: Integers
    """Index of the trial."""
    rungs: Integers
    values: Array
    """Transformed (see `observe`); the lower the better."""


def observe(trials: Iterable[Trial], maximize: bool, most: int = MOST) -> Observations:
    """The results of trials.

    Losses (positive and to be minimized) become their logarithms; anything else becomes log(1 + d / m), where d is the
    distance from the best value and m the median of d. Neighbouring rungs are aligned by the median difference over the
    trials that have a value at both, so that only how trials compare is left. A trial that failed at a rung has the
    worst value that was seen there. Where there are more results than `most`, half of those kept are of the trials that
    came furthest, best first, and half of others spread evenly over all values.
    """
    rows = [(trial.index, r.rung, r.value) for trial in trials for r in trial.results]
    rows.sort(key=lambda row: row[:2])
    index = np.array([row[0] for row in rows], dtype=np.int64)
    rung = np.array([row[1] for row in rows], dtype=np.int64)
    value = np.array([math.nan if row[2] is None else row[2] for row in rows], dtype=np.float64)
    worked = np.isfinite(value)
    if not worked.any():
        return Observations(index[:0], rung[:0], value[:0])
    value[worked] = _transformed(value[worked], maximize)
    value = _aligned(index, rung, value)
    for r in np.unique(rung):
        here = rung == r
        known = value[here & worked] if (here & worked).any() else value[worked]
        value[here & ~worked] = known.max()
    value = np.minimum(value, np.median(value) + _SPREAD * (np.median(value) - value.min()))
    kept = _kept(index, rung, value, most)
    return Observations(index[kept], rung[kept], value[kept])


def _transformed(value: Array, maximize: bool) -> Array:
    if not maximize and bool((value > 0).all()):
        return np.asarray(np.log(value))
    loss = -value if maximize else value
    distance = loss - loss.min()
    scale = float(np.median(distance)) or float(distance.max()) or 1.0
    return np.asarray(np.log1p(distance / scale))


def _aligned(index: Integers, rung: Integers, value: Array) -> Array:
    by_rung = {
        int(r): {int(t): float(v) for t, v in zip(index[rung == r], value[rung == r], strict=True) if math.isfinite(v)}
        for r in np.unique(rung)
    }
    aligned, shift = value.copy(), 0.0
    below: dict[int, float] = {}
    for r in sorted(by_rung):
        here = by_rung[r]
        both = below.keys() & here.keys()
        if both:
            shift += float(np.median([here[t] - below[t] for t in both]))
        aligned[rung == r] -= shift
        below = here
    return aligned


def _kept(index: Integers, rung: Integers, value: Array, most: int) -> Integers:
    """Positions of at most `most` results, whole trials as far as they fit, ascending."""
    if len(index) <= most:
        return np.arange(len(index))
    reached = {int(t): (int(r), float(v)) for t, r, v in zip(index, rung, value, strict=True)}  # rungs ascend
    order = sorted(reached, key=lambda t: (-reached[t][0], reached[t][1], t))
    members = {t: np.flatnonzero(index == t) for t in order}
    kept: list[int] = []
    rest = iter(order)
    taken = set()
    for t in rest:
        if len(kept) + len(members[t]) > most // 2:
            break
        kept += members[t].tolist()
        taken.add(t)
    others = sorted((t for t in order if t not in taken), key=lambda t: (reached[t][1], t))
    room = max(1, (most - len(kept)) // max(1, math.ceil(len(index) / len(order))))
    for at in np.unique(np.linspace(0, len(others) - 1, min(room, len(others))).round().astype(int)):
        if len(kept) + len(members[others[at]]) <= most:
            kept += members[others[at]].tolist()
    return np.array(sorted(kept), dtype=np.int64)
