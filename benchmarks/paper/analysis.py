"""What the table says about fidelity: pure functions from a family to numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.lookup import Family
from benchmarks.measures import Estimate, Value, better_half, bootstrap, halving, regret, spearman, spearman_estimate
from frostline_operator.api.study import Promotion
from frostline_operator.engine.schedule import goes_on

PATH_TRIALS = 32
"""Configurations that enter Successive Halving when whole searches are replayed."""
REPLAYS = 400
"""Random subsets of the table on which a search is replayed."""


def over_layers(family: Family) -> dict[int, Estimate]:
    """Spearman against full fidelity, at all tokens, by z."""
    return {z: spearman_estimate(family.measured(z, family.fractions), family.full) for z in family.depths}


def over_layers_among_the_better(family: Family) -> dict[int, Estimate]:
    """The same over the better half of the configurations only."""
    keep = better_half(family.full)
    full = [family.full[i] for i in keep]
    found = {}
    for z in family.depths:
        values = family.measured(z, family.fractions)
        found[z] = spearman_estimate([values[i] for i in keep], full)
    return found


def over_tokens(family: Family) -> dict[int, Estimate]:
    """Spearman against full fidelity, all layers training, by eighths of the tokens."""
    return {
        part: spearman_estimate(family.measured(family.layers, part), family.full)
        for part in range(1, family.fractions + 1)
    }


def joint(family: Family) -> list[list[float]]:
    """Spearman against full fidelity: a row per measured z, a column per eighth of the tokens."""
    return [
        [spearman(family.measured(z, part), family.full) for part in range(1, family.fractions + 1)]
        for z in family.depths
    ]


def seeds_agree(family: Family) -> Estimate | None:
    """Spearman between full trainings from two seeds: no fidelity can be expected to agree better than that."""
    other = family.document.get("secondSeed")
    if other is None:
        return None
    return spearman_estimate([series[-1] for series in other], family.full)


# --- whole searches ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rung:
    """One step of a schedule: z, eighths of the tokens, and the trials let in."""

    z: int
    part: int
    trials: int


def path(family: Family, lowest: int) -> list[Rung]:
    """Four rungs, eta 2, from `lowest` layers on; `lowest` = L is halving over tokens only."""
    return [
        Rung(max(lowest, family.layers // 2**down), family.fractions // 2**down, PATH_TRIALS // 2 ** (3 - down))
        for down in (3, 2, 1, 0)
    ]


def rung_values(family: Family, rungs: list[Rung], promotion: Promotion = "Restart") -> list[list[Value]]:
    """Every configuration's value at every rung: the table's cell, but with Continue over layers that of its way up."""
    if promotion == "Continue" and rungs[0].z < family.layers:
        series = family.document["continued"][str(rungs[0].z)]
        return [[found[rung] for found in series] for rung in range(len(rungs))]
    return [[family.value(i, r.z, r.part * family.tokens / family.fractions) for i in _all(family)] for r in rungs]


def _all(family: Family) -> range:
    return range(len(family.configurations))


def agreement(family: Family, rungs: list[Rung], promotion: Promotion = "Restart") -> list[Estimate]:
    """Spearman of each rung against full fidelity, over all configurations."""
    return [spearman_estimate(values, family.full) for values in rung_values(family, rungs, promotion)]


def chosen_regret(family: Family, rungs: list[Rung], promotion: Promotion = "Restart") -> Estimate:
    """Mean regret of the configuration that Successive Halving chooses, against the best of those that it was given.

    Replayed on random subsets of the table; the interval is over the subsets.
    """
    values = rung_values(family, rungs, promotion)
    found = np.array([_replay(family, values, rungs, seed) for seed in range(REPLAYS)])
    return bootstrap(REPLAYS, lambda at: float(found[at].mean()))


def within(family: Family, rungs: list[Rung], share: float = 0.01, promotion: Promotion = "Restart") -> float:
    """How often the configuration chosen is within this share of the best."""
    values = rung_values(family, rungs, promotion)
    return float(np.mean([_replay(family, values, rungs, seed) <= share for seed in range(REPLAYS)]))


def _replay(family: Family, values: list[list[Value]], rungs: list[Rung], seed: int) -> float:
    among = np.random.default_rng(seed).permutation(len(family.configurations))[:PATH_TRIALS].tolist()
    chosen = halving(values, [rung.trials for rung in rungs], among)[-1][0]
    best = min(value for i in among if (value := family.full[i]) is not None)
    return regret(family.full[chosen], best)


def path_cost(
    family: Family, rungs: list[Rung], unit: str, *, promotion: Promotion = "Restart", packing: int = 16
) -> list[float]:
    """What each rung costs for all its trials, in FLOPs or seconds; up to `packing` trials share a prefix."""
    price = family.flops if unit == "flops" else family.seconds
    found = []
    for below, rung in zip([None, *rungs], rungs, strict=False):
        until, before = rung.part * family.tokens / family.fractions, 0.0
        if below is not None and goes_on(promotion, below.z, rung.z):
            before = below.part * family.tokens / family.fractions
        runs, rest = divmod(rung.trials, packing)
        tokens = until - before
        found.append(runs * price(rung.z, tokens, packing) + (price(rung.z, tokens, rest) if rest else 0.0))
    return found


def lowest_useful(family: Family, threshold: float = 0.9) -> int:
    """Smallest measured z from which on every z ranks at least this well at all tokens."""
    known = over_layers(family)
    useful = family.layers
    for z in sorted(known, reverse=True):
        if known[z].value < threshold:
            break
        useful = z
    return useful


# --- whether a study can tell -----------------------------------------------------------------------------------------


def measured_agreement(family: Family, rungs: list[Rung], seed: int) -> float:
    """What a study of these rungs would measure between its two lowest: Spearman over those promoted, as in `trust`.

    Only the better half reaches the second rung, so this is lower than the agreement over all configurations.
    """
    values = rung_values(family, rungs)
    among = np.random.default_rng(seed).permutation(len(family.configurations))[:PATH_TRIALS].tolist()
    promoted = halving(values, [rung.trials for rung in rungs], among)[1]
    both = [i for i in promoted if values[0][i] is not None and values[1][i] is not None]
    return spearman([values[0][i] for i in both], [values[1][i] for i in both])


def trust(family: Family, lowest: int, replays: int = 100) -> tuple[list[float], list[float]]:
    """Per replay: the agreement that the study measures, and the regret of what it chooses."""
    rungs = path(family, lowest)
    values = rung_values(family, rungs)
    seeds = range(replays)
    return [measured_agreement(family, rungs, seed) for seed in seeds], [
        _replay(family, values, rungs, seed) for seed in seeds
    ]
