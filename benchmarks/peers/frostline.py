"""Frostline on the look-up benchmark: its real engine, in a simulated cluster whose clock is what training costs."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

from benchmarks.lookup import Family
from benchmarks.peers.session import BudgetSpent, Session
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.actions import CreateTrial, StartRun
from frostline_operator.engine.state import MemoryClass, Observation, Run, StudyState
from frostline_operator.engine.tick import advance
from frostline_operator.engine.transition import RunEnded, apply, settle
from frostline_trainer.contract import ExitCode, ModelProfile, RunResult, TrialResult


@dataclass(frozen=True)
class Variant:
    """One way to set Frostline up. `layers` is the lowest rung's z; 0 trains all layers at every rung."""

    layers: int | float = 1
    """As a share of L where it is below 1."""
    algorithm: str = "ASHA"
    promotion: str = "RestartOnThaw"
    sampler: str = "Random"
    trials: int = 4096
    """A search without end: the budget ends it."""
    eta: int = 2
    packing: int = 16
    workers: int = 1
    search: dict[str, Any] = field(default_factory=dict)

    def lowest(self, layers: int) -> int:
        """z of the lowest rung in a network of so many layers."""
        if self.layers == 0:
            return layers
        return max(1, round(self.layers * layers)) if self.layers < 1 else int(self.layers)

    def study(self, family: Family, seed: int) -> HPOStudySpec:
        """The study, as a manifest would have it. Model and data are not looked at: the table stands for them."""
        amount = {"max": family.tokens, "min": family.tokens // self.eta ** (3 if self.eta == 2 else 1)}
        return HPOStudySpec.model_validate(
            {
                "parameters": family.parameters,
                "search": {
                    "algorithm": self.algorithm,
                    "sampler": self.sampler,
                    "seed": seed,
                    "trials": self.trials,
                    "eta": self.eta,
                    "parallelism": self.workers,
                    "maxTrialsPerRun": self.packing,
                    **self.search,
                },
                "fidelity": {
                    "layers": {"min": self.lowest(family.layers) if self.layers else "All"},
                    family.unit: amount,
                },
                "promotion": self.promotion,
                **family.sections,
            }
        )


class Simulation:
    """A study from its first tick to the end of the session's budget."""

    def __init__(self, session: Session, variant: Variant, seed: int) -> None:
        self.session, self.variant = session, variant
        self.family = session.family
        self.spec = variant.study(self.family, seed)
        self.profile = ModelProfile.model_validate(self.family.document["profile"])
        self.classes = (MemoryClass("any", None, variant.workers),)
        self.state = StudyState()
        self.now = 0.0
        self.ending: list[tuple[float, str]] = []
        self.nearest: dict[int, int] = {}

    def run(self) -> None:
        """Until the study is over or the budget is spent. The clock is in the session's unit, per worker."""
        while True:
            self._decide()
            if not self.ending:
                return
            self.now, name = heapq.heappop(self.ending)
            if self.now > self.session.budget:
                return
            self.session.spent = self.now
            self._end(self.state.runs[name])

    def _decide(self) -> None:
        seen = Observation("study", self.spec, self.profile, self.classes, self.state, self.now)
        if self.state.started_at is None:
            self.state.started_at = self.now
        for action in advance(seen):
            apply(self.state, action)
            if isinstance(action, CreateTrial):
                self.session.trials += 1
                self.nearest[action.index] = self.family.nearest(action.assignment)
            elif isinstance(action, StartRun):
                heapq.heappush(self.ending, (self.now + self._price(self.state.runs[action.name]), action.name))

    def _price(self, run: Run) -> float:
        return self.session.price(run.layers, run.tokens - run.start_tokens, len(run.trials))

    def _end(self, run: Run) -> None:
        results = []
        for index in run.trials:
            configuration = self.nearest[index]
            value = self._value(configuration, run)
            self.session.saw(configuration, run.layers, run.tokens, value, self.now)
            results.append(
                TrialResult(
                    name=self.state.trials[index].name,
                    reason="Diverged" if value is None else "Completed",
                    objective=value,
                    tokens=run.tokens,
                    checkpoint=None if value is None else f"{index}",
                )
            )
        taken = self._price(run)
        result = RunResult(
            run=run.name, layers=run.layers, exit_code=ExitCode.DONE, trials=results, seconds=taken, train_seconds=taken
        )
        settle(self.state, RunEnded(run.name, result, taken))

    def _value(self, configuration: int, run: Run) -> float | None:
        """The table's own cell; with Continue over layers what the same schedule came to for this configuration."""
        if self.spec.promotion == "Continue":
            known = self.family.document["continued"][str(self.variant.lowest(self.family.layers))]
            found: float | None = known[configuration][run.rung]
            return found
        return self.family.value(configuration, run.layers, run.tokens)


def search(session: Session, variant: Variant, seed: int) -> None:
    """Run one search; what it did is in the session."""
    try:
        Simulation(session, variant, seed).run()
    except BudgetSpent:
        return


VARIANTS: dict[str, Variant] = {
    "frostline": Variant(layers=0.5),
    "frostline, from z = 1": Variant(layers=1),
    "frostline, from L/4": Variant(layers=0.25),
    "frostline, no packing": Variant(layers=0.5, packing=1),
    "frostline, tokens only": Variant(layers=0),
    "frostline, Sobol": Variant(layers=0.5, sampler="Sobol"),
    "frostline, Hyperband": Variant(layers=0.5, algorithm="Hyperband", trials=32),
    "frostline, halving of 32": Variant(layers=0.5, algorithm="SuccessiveHalving", trials=32),
    "frostline, eta 4": Variant(layers=0.5, eta=4),
    "frostline Restart": Variant(layers=0.5, promotion="Restart"),
    "frostline Continue": Variant(layers=0.5, promotion="Continue"),
    "frostline Continue, from z = 1": Variant(layers=1, promotion="Continue"),
}
"""All with ASHA, random configurations, RestartOnThaw and packing, but for what the name says."""
