"""Who goes on: ranking the results of a rung, and the shares that each group of equal fidelity sends up.

Rules, each with a test: a finite value ranks by the objective's direction; an infinity on the good side is as broken as
NaN; NaN, infinities and failures rank last and never block a rung; ties go to the trial that was drawn first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import spearmanr


@dataclass(frozen=True)
class Score:
    """One trial's outcome at one rung, as far as ranking is concerned."""

    trial: int
    """Index of the trial, which breaks ties."""
    value: float | None
    """None for a trial that failed at this rung."""
    layers: int
    """z it was really trained with: only results of equal fidelity are ranked against each other."""

    @property
    def usable(self) -> bool:
        """Whether it can ever be promoted."""
        return self.value is not None and math.isfinite(self.value)


def ranked(scores: Sequence[Score], maximize: bool) -> list[Score]:
    """Best first."""

    def key(score: Score) -> tuple[bool, float, int]:
        if not score.usable:
            return (True, 0.0, score.trial)
        assert score.value is not None
        return (False, -score.value if maximize else score.value, score.trial)

    return sorted(scores, key=key)


def select(scores: Sequence[Score], quota: int, maximize: bool) -> list[int]:
    """The trials among the best `quota`, each group of equal layers sending its own share, best first.

    Shares are by largest remainder, so that together they are the quota; a remainder's tie goes to the deeper group.
    Trials without a usable value are never selected, so fewer than `quota` may come back.
    """
    groups: dict[int, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.layers, []).append(score)
    quota = min(quota, len(scores))
    if not scores or quota <= 0:
        return []
    shares = {z: quota * len(group) // len(scores) for z, group in groups.items()}
    left = quota - sum(shares.values())
    by_remainder = sorted(groups, key=lambda z: (-(quota * len(groups[z]) % len(scores)), -z))
    for z in by_remainder[:left]:
        shares[z] += 1
    chosen: list[Score] = []
    for z, group in groups.items():
        chosen += [score for score in ranked(group, maximize)[: shares[z]] if score.usable]
    return [score.trial for score in ranked(chosen, maximize)]


def rank_correlation(lower: dict[int, float], upper: dict[int, float]) -> float | None:
    """Spearman's rho between two rungs over the trials that have a finite value at both; None below three of them.

    The trials that reached both rungs are the better ones only, so this understates the agreement over all trials.
    """
    both = [t for t in sorted(lower.keys() & upper.keys()) if math.isfinite(lower[t]) and math.isfinite(upper[t])]
    if len(both) < 3:
        return None
    low, high = [lower[t] for t in both], [upper[t] for t in both]
    if len(set(low)) == 1 or len(set(high)) == 1:
        return None
    return float(spearmanr(low, high).statistic)
