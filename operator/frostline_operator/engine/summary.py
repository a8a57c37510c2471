"""Where a study stands: the rung table, what is spent and saved, the best so far, and the conditions.

The live view, the report, the metrics and the status of an `HPOStudy` all take these figures from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from frostline_operator.api.trial import TrialState
from frostline_operator.engine import cost, promotion
from frostline_operator.engine.budget import charged
from frostline_operator.engine.placement import Placement, placement
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.promotion import Score, best_trial
from frostline_operator.engine.schedule import Bracket, Rung
from frostline_operator.engine.state import Amounts, Observation, Run, StudyState, Trial


@dataclass(frozen=True)
class RungRow:
    """One line of the rung table."""

    bracket: int
    rung: int
    asked_layers: int
    layers: int
    """Most layers that fit the cluster's largest class, at most the layers asked for."""
    tokens: int
    planned: int
    """Trials that it lets in."""
    entered: int
    running: int
    finished: int
    failed: int
    promoted: int
    best: float | None
    flops: float
    seconds: float
    spearman: float | None
    """Rank correlation with the next rung."""
    correlated: int
    """Trials over which it was taken."""


@dataclass(frozen=True)
class Savings:
    """What the study costs beside what one would do without it, in FLOPs, for the trials that ran."""

    flops: float
    """Trained so far, attempts that came to nothing included."""
    full: float
    """The same trials trained at the highest fidelity; one that diverged or failed, as far as it came."""
    tokens_only: float
    """The same trials to the same tokens with all layers at every rung: classic halving."""


@dataclass(frozen=True)
class Condition:
    """A statement about the study in Kubernetes' form."""

    type: str
    status: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Summary:
    """Everything there is to show of a study at one moment."""

    rungs: tuple[RungRow, ...]
    best: Score | None
    best_rung: int | None
    spent: Amounts
    savings: Savings
    conditions: tuple[Condition, ...]
    trials: int
    decided: int


def summarize(observation: Observation) -> Summary:
    """The summary of an observation."""
    plan = observation.plan
    maximize = observation.spec.objective.direction == "Maximize"
    best = best_trial(observation.state, plan, maximize)
    correlated = promotion.correlations(observation.state, plan)
    rules = placement(observation, observation.state)
    return Summary(
        rungs=tuple(
            _row(observation, plan, bracket, rung, maximize, rules, (*correlated, (None, 0))[rung.index])
            for bracket in plan.brackets
            for rung in plan.climbed(bracket)
        ),
        best=best,
        best_rung=None if best is None else _highest_rung(observation.state, best.trial),
        spent=charged(observation.state),
        savings=savings(observation, plan),
        conditions=tuple(_conditions(observation, plan, rules, correlated)),
        trials=len(observation.state.trials),
        decided=sum(1 for trial in observation.state.trials.values() if trial.outcome is not None),
    )


def trial_state(trial: Trial, busy: bool) -> TrialState:
    """The word for where a trial is; `busy` if an active run carries it."""
    if trial.outcome is not None:
        return trial.outcome
    if busy:
        return "Running"
    return "Pending" if trial.waiting else "Waiting"


def _highest_rung(state: StudyState, trial: int) -> int:
    return max(result.rung for result in state.trials[trial].results if result.state == "Completed")


def _row(
    observation: Observation,
    plan: Plan,
    bracket: Bracket,
    rung: Rung,
    maximize: bool,
    rules: Placement,
    correlated: promotion.Correlation,
) -> RungRow:
    state = observation.state
    members = [t for t in state.trials.values() if t.bracket == bracket.index]
    here = promotion.scores(members, rung.index)
    runs = [run for run in state.runs.values() if (run.bracket, run.rung) == (bracket.index, rung.index)]
    usable = [score.value for score in here if score.usable and score.value is not None]
    return RungRow(
        bracket=bracket.index,
        rung=rung.index,
        asked_layers=rung.layers,
        layers=rules.largest_layers(rung.layers),
        tokens=rung.tokens,
        planned=plan.size(bracket, rung.index),
        entered=sum(1 for t in members if t.rung >= rung.index),
        running=sum(len(run.trials) for run in runs if run.state.active),
        finished=len(usable),
        failed=len(here) - len(usable),
        promoted=sum(1 for score in here if state.trials[score.trial].rung > rung.index),
        best=(max(usable) if maximize else min(usable)) if usable else None,
        flops=sum(_trained_flops(observation, run) for run in runs),
        seconds=sum(run.device_seconds for run in runs if not run.state.active),
        spearman=correlated[0],
        correlated=correlated[1],
    )


def savings(observation: Observation, plan: Plan) -> Savings:
    """FLOPs of the runs so far, and of the two baselines for the trials that ran.

    A result that no run brought (`Failed`) is no work: a trial without any other is in neither baseline.
    """
    profile = observation.profile
    top = cost.increment(plan.rungs[-1].tokens, 0, profile.step_tokens)
    restart = observation.spec.promotion == "Restart"
    full = tokens_only = 0.0
    for trial in observation.state.trials.values():
        results = sorted((r for r in trial.results if r.state != "Failed"), key=lambda r: r.rung)
        before = 0
        for result in results:
            tokens_only += cost.full_flops(profile, max(0, result.tokens - before))
            before = 0 if restart else result.tokens
        if results:
            full += cost.full_flops(profile, results[-1].tokens if trial.outcome == "Failed" else top)
    return Savings(
        flops=sum(_trained_flops(observation, run) for run in observation.state.runs.values()),
        full=full,
        tokens_only=tokens_only,
    )


def _trained_flops(observation: Observation, run: Run) -> float:
    """FLOPs of what a run has really trained, 0 while it is under way."""
    if run.state.active:
        return 0.0
    count = len(run.trials)
    return cost.run_flops(observation.profile, run.layers, run.charged.tokens // count, count)


def _conditions(
    observation: Observation, plan: Plan, rules: Placement, correlated: Sequence[promotion.Correlation]
) -> list[Condition]:
    rows = []
    untrusted = promotion.untrusted_rungs(correlated, observation.spec.trust)
    if untrusted:
        rung = untrusted[0]
        rho, count = correlated[rung]
        rows.append(
            Condition(
                "FidelityUntrusted",
                True,
                "LowRankCorrelation",
                f"rung {rung} ranks {count} trials unlike rung {rung + 1} (Spearman {rho:.2f}, below "
                f"{observation.spec.trust.threshold:g}); raise fidelity.layers.min or the lowest rung's tokens",
            )
        )
    short = [r for r in plan.rungs if 0 < rules.largest_layers(r.layers) < r.layers]
    if short:
        rung_ = short[-1]
        rows.append(
            Condition(
                "FidelityReduced",
                True,
                "NoClassFits",
                f"rung {rung_.index} asks for {rung_.layers} layers, but the largest class holds "
                f"{rules.largest_layers(rung_.layers)}; use a smaller batch, activation checkpointing or a larger GPU",
            )
        )
    return rows
