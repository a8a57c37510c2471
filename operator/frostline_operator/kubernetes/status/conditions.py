"""The status of an HPOStudy: what `engine.summary` says, in the API's form. Pure, and written only where it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from frostline_operator.api.quantity import parse_duration
from frostline_operator.api.search import BudgetSpec
from frostline_operator.api.status import BestTrial, BudgetLine, HPOStudyStatus, RungStatus, TrialCounts
from frostline_operator.api.trial import assignment_list
from frostline_operator.engine.plan import Plan, make_plan
from frostline_operator.engine.state import Amounts, Observation, StudyState
from frostline_operator.engine.summary import RungRow, Summary

Manifest = dict[str, Any]

_LONGEST_MESSAGE = 2000
"""Of a condition: ten troubles at length are no help."""


class Conditions:
    """A study's conditions, which keep the time of their last change.

    Args:
        known: as they are in the API server.
        generation: of the study that new statements are about.
    """

    def __init__(self, known: Sequence[Mapping[str, Any]], generation: int) -> None:
        self._known = {str(condition["type"]): dict(condition) for condition in known}
        self._generation = generation

    def set(self, kind: str, status: bool | None, reason: str, message: str, now: float) -> bool:
        """Say something; True if that is news (another status or reason)."""
        word = "Unknown" if status is None else str(status)
        old = self._known.get(kind)
        same = old is not None and old["status"] == word
        since = old["lastTransitionTime"] if old is not None and same else timestamp(now)
        self._known[kind] = {
            "type": kind,
            "status": word,
            "reason": reason,
            "message": message[:_LONGEST_MESSAGE],
            "lastTransitionTime": since,
            "observedGeneration": self._generation,
        }
        return not same or old is None or old["reason"] != reason

    def clear(self, kind: str, reason: str, message: str, now: float) -> bool:
        """Say that something that was said no longer holds; nothing where it never was."""
        old = self._known.get(kind)
        return old is not None and old["status"] != "False" and self.set(kind, False, reason, message, now)

    def holds(self, kind: str) -> bool:
        """Whether a condition is True."""
        return self._known.get(kind, {}).get("status") == "True"

    def listed(self) -> list[Manifest]:
        """In the order in which they were first said."""
        return list(self._known.values())


def timestamp(seconds: float) -> str:
    """As Kubernetes writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def study_status(
    seen: Observation, found: Summary, phase: str, message: str, conditions: Conditions, generation: int
) -> Manifest:
    """The whole status.

    Args:
        seen: where the study stands.
        found: the summary of that.
        phase, message: in a word, and in a sentence.
        conditions: of the study.
        generation: of its spec that all this is about.
    """
    plan = make_plan(seen.spec, seen.profile)
    finished = seen.state.finished
    lines = budget_lines(seen.spec.budget, seen.state, seen.now)
    status = HPOStudyStatus(
        observed_generation=generation,
        phase=phase,  # type: ignore[arg-type]
        reason="" if finished is None else finished.reason,
        message=message[:_LONGEST_MESSAGE],
        layers=seen.profile.layers,
        rung=_rung(found, plan),
        progress=f"{found.decided}/{'?' if plan.open_ended and finished is None else max(plan.trials, found.trials)}",
        best_value="" if found.best is None or found.best.value is None else f"{found.best.value:.4g}",
        budget_used=_used(lines),
        trials=_counts(seen.state),
        rungs=[_row(row) for row in found.rungs],
        best=_best(seen, found),
        budget=lines,
    )
    document = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    if seen.state.started_at is not None:
        document["startTime"] = timestamp(seen.state.started_at)
    document["conditions"] = conditions.listed()
    return document


def budget_lines(budget: BudgetSpec, state: StudyState, now: float) -> list[BudgetLine]:
    """What is spent and reserved of everything that is counted."""
    ended, active = Amounts(), Amounts()
    for run in state.runs.values():
        if run.state.active:
            active = active + run.charged
        else:
            ended = ended + run.charged
    wall = 0.0 if state.started_at is None else max(0.0, now - state.started_at)
    wall_limit = None if budget.wall_clock is None else parse_duration(budget.wall_clock)
    rows = (
        ("trials", budget.trials, len(state.trials), 0),
        ("tokens", budget.tokens, ended.tokens, active.tokens),
        ("gpuSeconds", budget.gpu_seconds, ended.gpu_seconds, active.gpu_seconds),
        ("wallClock", wall_limit, wall, 0),
        ("cost", budget.cost, ended.cost, active.cost),
    )
    return [
        BudgetLine(
            name=name,  # type: ignore[arg-type]
            limit=None if limit is None else float(limit),
            spent=round(float(spent), 2),
            reserved=round(float(reserved), 2),
        )
        for name, limit, spent, reserved in rows
        if limit is not None or name in ("tokens", "gpuSeconds")
    ]


def _used(lines: Sequence[BudgetLine]) -> str:
    # Trials are all drawn early on, so their share says nothing about how far the study has come.
    shares = [line.spent / line.limit for line in lines if line.limit and line.name != "trials"]
    return f"{min(1.0, max(shares)):.0%}" if shares else ""


def _rung(found: Summary, plan: Plan) -> str:
    entered = [row.rung for row in found.rungs if row.entered]
    return f"{max(entered) + 1 if entered else 0}/{len(plan.rungs)}"


def _counts(state: StudyState) -> TrialCounts:
    busy = state.busy()
    counts = dict.fromkeys(TrialCounts.model_fields, 0)
    counts["total"] = len(state.trials)
    for trial in state.trials.values():
        if trial.outcome is not None:
            counts[trial.outcome.lower()] += 1
        elif trial.index in busy:
            counts["running"] += 1
        else:
            counts["pending" if trial.waiting else "waiting"] += 1
    return TrialCounts(**counts)


def _row(row: RungRow) -> RungStatus:
    return RungStatus(
        bracket=row.bracket,
        rung=row.rung,
        asked_layers=row.asked_layers,
        layers=max(1, row.layers),
        tokens=row.tokens,
        size=row.planned,
        entered=row.entered,
        running=row.running,
        finished=row.finished,
        promoted=row.promoted,
        failed=row.failed,
        flops=row.flops,
        seconds=round(row.seconds, 3),
        rank_correlation=None if row.spearman is None else round(row.spearman, 4),
        correlated_trials=row.correlated,
    )


def _best(seen: Observation, found: Summary) -> BestTrial | None:
    if found.best is None or found.best.value is None or found.best_rung is None:
        return None
    trial = seen.state.trials[found.best.trial]
    result = trial.result_at(found.best_rung)
    assert result is not None
    return BestTrial(
        trial=trial.name,
        value=found.best.value,
        rung=found.best_rung,
        layers=result.layers,
        tokens=result.tokens,
        assignment=assignment_list(trial.assignment),
        checkpoint=None if trial.checkpoint is None else trial.checkpoint.path,
    )
