"""What every search is held to: one clock, one rule for its incumbent, one budget.

A search may train any configuration of the table at any fidelity; the session charges for it and follows the incumbent,
which for every search is the same thing: the best value at the highest fidelity seen so far. What is then recorded is
that configuration's true regret, its loss after full training from scratch against the best of the table.
"""

from __future__ import annotations

from typing import Literal

from benchmarks.lookup import Family
from benchmarks.measures import Value, regret

Unit = Literal["seconds", "flops"]


class BudgetSpent(Exception):  # noqa: N818 - not an error: how a search that goes on forever is ended
    """No more may be trained."""


class Session:
    """One search on one family.

    Args:
        family: the table.
        unit: what is charged.
        budget: in that unit; the evaluation that would pass it is not made.
    """

    def __init__(self, family: Family, unit: Unit, budget: float) -> None:
        self.family, self.unit, self.budget = family, unit, budget
        self.spent = 0.0
        self.evaluations = 0
        self.trials = 0
        self.trace: list[tuple[float, float]] = []
        self._incumbent: tuple[tuple[float, int], float, int] | None = None

    def price(self, z: int, tokens: float, trials: int = 1) -> float:
        """What it costs to train so many trials over so many tokens each."""
        return (self.family.seconds if self.unit == "seconds" else self.family.flops)(z, tokens, trials)

    def train(self, configuration: int, before: float, until: float) -> float:
        """Full training of one configuration from `before` to `until` tokens: its loss there.

        This is what peers do, which know nothing of layers. A trial that goes on from its checkpoint pays the
        difference only.

        Raises:
            BudgetSpent: it would pass the budget.
        """
        self.spend(self.price(self.family.layers, until - before))
        value = self.family.value(configuration, self.family.layers, until)
        self.saw(configuration, self.family.layers, until, value, self.spent)
        return self.told(value)

    def spend(self, cost: float) -> None:
        """Charge, or end the search."""
        if self.spent + cost > self.budget:
            raise BudgetSpent
        self.spent += cost

    def saw(self, configuration: int, z: int, tokens: float, value: Value, at: float) -> None:
        """A value is known from cost `at` on; the incumbent may change."""
        self.evaluations += 1
        if value is None:
            return
        rank = (tokens, z)
        if self._incumbent is None or (rank, -value) > (self._incumbent[0], -self._incumbent[1]):
            self._incumbent = (rank, value, configuration)
            self.trace.append((at, regret(self.family.full[configuration], self.family.best)))

    def told(self, value: Value) -> float:
        """What a search is told of a diverged trial: a loss as bad as the worst that was ever measured."""
        return self._worst if value is None else value

    @property
    def _worst(self) -> float:
        return max(value for value in self.family.measured(self.family.layers, 1) if value is not None)


def full_trainings(family: Family, unit: Unit, count: float) -> float:
    """The cost of fully training so many configurations: the budget that searches are given."""
    one = family.seconds if unit == "seconds" else family.flops
    return count * one(family.layers, family.tokens)
