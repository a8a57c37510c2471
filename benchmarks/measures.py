"""Statistics of search algorithms: rank agreement, regret, anytime curves, and how sure one can be of each.

Values are losses, lower is better; None is a configuration that diverged, which ranks last. Only numpy and scipy.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Value = float | None
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and the middle 95 % of its bootstrap distribution."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def filled(values: Sequence[Value] | Array) -> Array:
    """Numbers to rank: what diverged is worse than everything else, and equally bad."""
    if isinstance(values, np.ndarray):
        return values
    return np.array([np.inf if value is None else value for value in values], dtype=np.float64)


def spearman(one: Sequence[Value] | Array, other: Sequence[Value] | Array) -> float:
    """Spearman's rho, ties at their mean rank; NaN where one side does not vary."""
    a, b = rankdata(filled(one)), rankdata(filled(other))
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))  # Pearson's correlation of the ranks, ties included


def bootstrap(
    count: int, statistic: Callable[[NDArray[np.int64]], float], draws: int = 1000, seed: int = 0
) -> Estimate:
    """Percentile bootstrap over `count` items (Efron and Tibshirani 1993, chapter 13).

    Args:
        count: number of items (configurations, or seeds).
        statistic: of the items with these indices, repeats included.
        draws: resamples; those where the statistic is NaN are left out.
        seed: same seed, same interval.
    """
    generator = np.random.default_rng(seed)
    found = np.array([statistic(generator.integers(0, count, count)) for _ in range(draws)])
    found = found[~np.isnan(found)]
    low, high = np.percentile(found, [2.5, 97.5]) if len(found) else (float("nan"), float("nan"))
    return Estimate(statistic(np.arange(count)), float(low), float(high))


def spearman_estimate(one: Sequence[Value], other: Sequence[Value]) -> Estimate:
    """Spearman's rho with its interval over the configurations."""
    return _spearman_estimate(tuple(one), tuple(other))


@functools.cache
def _spearman_estimate(one: tuple[Value, ...], other: tuple[Value, ...]) -> Estimate:
    a, b = filled(one), filled(other)
    return bootstrap(len(one), lambda at: spearman(a[at], b[at]))


def better_half(values: Sequence[Value]) -> list[int]:
    """Indices of the better half: whether the good are told from the very good is the harder question."""
    return sorted(int(i) for i in np.argsort(filled(values), kind="stable")[: (len(values) + 1) // 2])


def regret(value: Value, best: float) -> float:
    """How much worse than the best, as a share of it: 0.01 is 1 % worse. Infinite for what diverged."""
    return float("inf") if value is None else value / best - 1.0


def halving(rungs: Sequence[Sequence[Value]], sizes: Sequence[int], among: Sequence[int]) -> list[list[int]]:
    """Successive Halving on known values.

    Args:
        rungs: per rung, the value of every configuration at its fidelity.
        sizes: trials let into each rung; the first is at most the number of candidates.
        among: candidates, in the order in which they were drawn.

    Returns:
        The configurations evaluated at each rung, and last the one chosen: the best of the last rung.
    """
    entered = list(among)[: sizes[0]]
    drawn = {index: place for place, index in enumerate(entered)}
    history = [entered]
    for rung, size in zip(rungs, [*sizes[1:], 1], strict=True):
        entered = sorted(entered, key=lambda i: (float("inf") if rung[i] is None else rung[i], drawn[i]))
        entered = entered[:size]
        history.append(entered)
    return history


# --- over the course of a search --------------------------------------------------------------------------------------

Trace = Sequence[tuple[float, float]]
"""(cost so far, true regret of the incumbent from then on), by cost; before the first one there is no incumbent."""


def anytime(trace: Trace, costs: Sequence[float]) -> Array:
    """The incumbent's regret at each of these costs: a step function, NaN before the first incumbent."""
    found = np.full(len(costs), np.nan)
    for at, value in trace:
        found[np.asarray(costs) >= at] = value
    return found


def cost_to_reach(trace: Trace, target: float) -> float:
    """The least cost from which on the incumbent's regret stays at or below the target; infinite where it never does.

    An incumbent that is left again for a worse one does not count.
    """
    reached = float("inf")
    for cost, value in trace:
        if value > target:
            reached = float("inf")
        elif reached == float("inf"):
            reached = cost
    return reached


def median_curve(traces: Sequence[Trace], costs: Sequence[float]) -> tuple[Array, Array, Array]:
    """Median, lower and upper quartile of several searches' regret at each cost; NaN while half have no incumbent."""
    curves = np.array([anytime(trace, costs) for trace in traces])
    curves = np.where(np.isnan(curves), np.inf, curves)
    low, middle, high = (np.quantile(curves, q, axis=0, method="lower") for q in (0.25, 0.5, 0.75))
    return tuple(np.where(np.isinf(part), np.nan, part) for part in (middle, low, high))  # type: ignore[return-value]


def geometric(first: float, last: float, count: int) -> list[float]:
    """Costs evenly spaced on a logarithmic axis."""
    return [float(cost) for cost in np.geomspace(first, last, count)]


def monotone_share(values: Sequence[float], slack: float = 0.0) -> float:
    """Share of neighbouring pairs that do not fall by more than `slack`: 1 is a curve that only rises."""
    pairs = list(itertools.pairwise(values))
    return sum(b >= a - slack for a, b in pairs) / max(1, len(pairs))
