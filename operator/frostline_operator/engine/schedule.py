"""Rungs and brackets: how layers and tokens grow, and how many trials are let through.

Fidelities follow Frozen Layers (arXiv 2504.10735, section 4): layers and tokens grow together by eta from rung to rung.
Successive Halving is from Jamieson and Talwalkar (2016), Hyperband from Li et al. (JMLR 2017), ASHA from Li et al.
(MLSys 2020). All of it is integer arithmetic: floating-point logarithms give 4 instead of 5 for 243 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from frostline_operator.api.search import AmountRange, FidelitySpec, LayerRange, SearchSpec
from frostline_operator.api.study import Promotion

DEFAULT_RUNGS = 4
"""The paper's joint schedule has four rungs; lower ones rank too poorly to pay (arXiv 2504.10735, section 5)."""


@dataclass(frozen=True)
class Rung:
    """One step of the schedule and the fidelity it asks for."""

    index: int
    layers: int
    """z asked for, counted from the output; placement may have to take fewer."""
    tokens: int
    """Tokens (or samples) that a trial has seen at this rung's end."""


@dataclass(frozen=True)
class Bracket:
    """A schedule that a set of trials climbs together."""

    index: int
    first_rung: int
    """Where its trials start: 0, but higher for Hyperband's later brackets."""
    sizes: tuple[int, ...]
    """Trials let into each rung from `first_rung` on. For ASHA, at most so many enter the first one."""


def goes_on(promotion: Promotion, below: int, above: int) -> bool:
    """Whether a promoted trial that trained `below` layers goes on from its checkpoint with `above`, or starts over."""
    return promotion != "Restart" and resumes(promotion, below, above)


def resumes(promotion: Promotion, before: int, now: int) -> bool:
    """Whether a run that trains `now` layers can take up what was trained with `before`.

    Thawing halfway is not the training whose outcome is asked for: layers that begin late end elsewhere, and trials
    rank differently (docs/does-it-work.md). More tokens with the same layers is the same training, only longer. With
    fewer layers nothing can go on: what they had learnt is not in the prefix.
    """
    return now >= before if promotion == "Continue" else now == before


def integer_log(base: int, value: int) -> int:
    """Largest k with base ** k <= value, exactly.

    Raises:
        ValueError: for a base below 2 or a value below 1.
    """
    if base < 2 or value < 1:
        raise ValueError(f"no integer logarithm of {value} to base {base}")
    power, k = base, 0
    while power <= value:
        power *= base
        k += 1
    return k


def rungs(fidelity: FidelitySpec, eta: int, layers: int) -> tuple[Rung, ...]:
    """The study's rungs, lowest first, for a network of `layers` units (L).

    t_r = T // eta^(R-1-r) and z_r = max(z_min, z_max // eta^(R-1-r)). Neighbours that come out the same are one rung.
    """
    if fidelity.rungs is not None:
        asked = [(layers if r.layers == "All" else min(r.layers, layers), r.tokens) for r in fidelity.rungs]
    else:
        amount = fidelity.tokens or fidelity.samples
        assert amount is not None, "validated by FidelitySpec"
        low, high = _layer_bounds(fidelity.layers, layers)
        # Starting at half takes no rung away: the tokens still grow from as low.
        count = _rung_count(amount, 1 if fidelity.layers.min == "Half" else low, high, eta)
        asked = [(max(low, high // eta**down), _tokens_at(amount, eta**down)) for down in range(count - 1, -1, -1)]
    distinct = list(dict.fromkeys(asked))
    return tuple(Rung(index, z, t) for index, (z, t) in enumerate(distinct))


def _layer_bounds(asked: LayerRange, layers: int) -> tuple[int, int]:
    high = layers if asked.max == "All" else min(asked.max, layers)
    if asked.min == "All":
        return high, high
    return (max(1, high // 2) if asked.min == "Half" else min(asked.min, high)), high


def _rung_count(amount: AmountRange, low: int, high: int, eta: int) -> int:
    if isinstance(amount.min, int):
        return 1 + integer_log(eta, amount.max // amount.min)
    by_layers = 1 + integer_log(eta, high // low)
    if amount.min == "All":
        return by_layers
    by_tokens = 1 + integer_log(eta, amount.max)
    wanted = DEFAULT_RUNGS if low == high else by_layers
    return min(DEFAULT_RUNGS, wanted, by_tokens)


def _tokens_at(amount: AmountRange, divisor: int) -> int:
    return amount.max if amount.min == "All" else max(1, amount.max // divisor)


def brackets(search: SearchSpec, rung_count: int, trials: int) -> tuple[Bracket, ...]:
    """The brackets of the study's algorithm over `rung_count` rungs.

    For SuccessiveHalving and ASHA one bracket of `trials`; for Hyperband `trials` is the size of the widest bracket,
    the others are scaled with it (eta^(R-1) gives Table 1 of Li et al. 2017), and one without trials is left out.
    """
    if search.algorithm != "Hyperband":
        return (Bracket(0, 0, halving(trials, search.eta, rung_count)),)
    top = rung_count - 1
    widest = search.eta**top
    made: list[Bracket] = []
    for index in range(rung_count):
        steps = top - index
        size = (rung_count // (steps + 1)) * search.eta**steps
        scaled = size * trials // widest
        if scaled > 0:
            made.append(Bracket(len(made), index, halving(scaled, search.eta, steps + 1)))
    return tuple(made)


def halving(trials: int, eta: int, rung_count: int) -> tuple[int, ...]:
    """How many of `trials` each rung lets in: floor(trials / eta^r), at least one so that somebody reaches the top."""
    return tuple(max(1, trials // int(eta**r)) for r in range(rung_count))


def hyperband_trials(eta: int, rung_count: int) -> int:
    """Size of Hyperband's widest bracket where the study does not say: one trial reaches the top of it."""
    return int(eta ** (rung_count - 1))
