"""The plan of a study: its rungs, its brackets, and how many trials start in each."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine import cost, schedule, space
from frostline_operator.engine.schedule import Bracket, Rung
from frostline_trainer.contract import ModelProfile

_MOST_TRIALS = 1_000_000


@dataclass(frozen=True)
class Plan:
    """What a study is going to do, as far as that is known before it starts."""

    rungs: tuple[Rung, ...]
    brackets: tuple[Bracket, ...]
    open_ended: bool
    """ASHA within a budget in time or money alone: it draws configurations until that is spent."""
    layers: int
    """L of the network."""

    @property
    def top(self) -> int:
        """Index of the highest rung."""
        return len(self.rungs) - 1

    @property
    def trials(self) -> int:
        """Configurations that are started at most."""
        return sum(bracket.sizes[0] for bracket in self.brackets)

    def climbed(self, bracket: Bracket) -> tuple[Rung, ...]:
        """The rungs that a bracket's trials climb."""
        return self.rungs[bracket.first_rung :]

    def size(self, bracket: Bracket, rung: int) -> int:
        """How many of a bracket's trials a rung lets in."""
        return bracket.sizes[rung - bracket.first_rung]


def make_plan(spec: HPOStudySpec, profile: ModelProfile) -> Plan:
    """The plan of a study for the network with this profile.

    Where the study gives no number of trials, it is the largest that the budgets in trials and tokens pay for and that
    the search space holds. A budget in time or money alone leaves ASHA open-ended.
    """
    search, budget = spec.search, spec.budget
    steps = schedule.rungs(spec.fidelity, search.eta, profile.layers)
    size = space.cardinality(spec.parameters, search)

    def affordable(trials: int) -> bool:
        made = schedule.brackets(search, len(steps), trials)
        total = sum(bracket.sizes[0] for bracket in made)
        if size is not None and total > size:
            return False
        if budget.trials is not None and total > budget.trials:
            return False
        if search.trials is not None or budget.tokens is None:
            return True
        tokens = sum(cost.schedule_tokens(profile, steps[b.first_rung :], b.sizes, spec.promotion) for b in made)
        return tokens <= budget.tokens

    wanted = search.trials
    if wanted is None and search.algorithm == "Hyperband" and budget.trials is None and budget.tokens is None:
        wanted = schedule.hyperband_trials(search.eta, len(steps))
    most = wanted if wanted is not None else _MOST_TRIALS
    trials = max(1, bisect.bisect_left(range(1, most + 1), True, key=lambda n: not affordable(n)))
    open_ended = wanted is None and trials == _MOST_TRIALS
    return Plan(steps, schedule.brackets(search, len(steps), trials), open_ended, profile.layers)
