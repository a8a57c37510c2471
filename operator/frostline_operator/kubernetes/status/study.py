"""The status of an HPOStudy: its conditions, and what `engine.summary` says, in the API's form. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from frostline_operator.api.parameters import assignment_list
from frostline_operator.api.quantity import parse_duration
from frostline_operator.api.search import BudgetSpec
from frostline_operator.api.status import BestTrial, BudgetLine, HPOStudyStatus, RungStatus, TrialCounts
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.state import Amounts, Observation, Run, RunState, StudyState
from frostline_operator.engine.summary import RungRow, Summary
from frostline_operator.kubernetes.status.conditions import LONGEST_MESSAGE, Conditions, timestamp
from frostline_operator.kubernetes.status.events import Event, of_condition
from frostline_operator.runtime.protocol import Trouble
from frostline_operator.scores.scores import Availability

Manifest = dict[str, Any]

_FIDELITY = frozenset({"FidelityUntrusted", "FidelityReduced"})


@dataclass(frozen=True)
class Situation:
    """What a tick has come to, as far as people are told."""

    observation: Observation
    """With each class's devices, whoever has them."""
    troubles: Mapping[str, Trouble]
    """By run, why it does not run."""
    no_devices: str
    """What to say where there is no device at all."""
    waiting_for: str | None
    """What the engine waits for."""
    from_prometheus: bool = False
    scores: Availability | None = None
    """Whether values come through Prometheus, None where that is not known yet."""


@dataclass
class Draft:
    """A study's status as one round makes it: the current conditions, and what the round's phases change."""

    conditions: Conditions
    current: Mapping[str, Any]
    """The status in the API server."""
    generation: int
    """Of the study that the round is about."""
    now: float
    """Seconds since the epoch."""
    fields: Manifest | None = None
    """All fields but the conditions, None where they stay as they are."""
    news: bool = False
    """Whether a condition has another status or reason."""
    described: StudyState | None = None
    """The state that the fields are about, where they say all of it."""
    events: list[Event] = field(default_factory=list)
    """To be recorded once the status is published."""

    def say(self, kind: str, status: bool, reason: str, message: str) -> None:
        """Set a condition, and where it is news record an event of the same words."""
        if self.conditions.set(kind, status, reason, message, self.now):
            self.news = True
            self.events.append(of_condition(kind, status, reason, message))

    def set(self, kind: str, status: bool, reason: str, message: str) -> None:
        """Set a condition without an event."""
        self.news |= self.conditions.set(kind, status, reason, message, self.now)

    def clear(self, kind: str, reason: str, message: str) -> None:
        """Say that something that was said no longer holds; nothing where it never was."""
        self.news |= self.conditions.clear(kind, reason, message, self.now)

    # --- what the phases of a round come to ---

    def accept(self) -> None:
        """The study can be run."""
        self.say("Accepted", True, "Valid", "the study is valid")

    def refuse(self, problem: str) -> None:
        """The study cannot be run as it is written."""
        self.say("Accepted", False, "Invalid", problem)
        self.clear("Progressing", "Invalid", "the study is not accepted")
        self.fields = {"phase": "Invalid", "reason": "Invalid", "message": problem}

    def lose_journal(self, problem: str) -> None:
        """What is known of the study is not whole, so that it cannot go on."""
        self.say("Progressing", False, "JournalUnreadable", problem)
        self.fields = {"phase": self.current.get("phase", "Pending"), "message": problem}

    def profile(self, message: str) -> None:
        """The model is profiled."""
        self.say("Profiled", True, "Computed", message)

    def await_profile(self, trouble: Trouble | None) -> None:
        """The model's profile is being computed, or something is in its way."""
        reason = "Computing" if trouble is None else trouble.reason
        message = "a Job computes what the model costs and needs" if trouble is None else trouble.message
        self.clear("Failed", "Corrected", "what was wrong has been changed")
        self.say("Profiled", False, reason, message)
        self.set("Progressing", trouble is None, reason, message)
        phase = "Profiling" if trouble is None or trouble.waits else "Blocked"
        self.fields = {"phase": phase, "reason": "" if trouble is None else reason, "message": message}

    def fail_profile(self, reason: str, message: str) -> None:
        """The model cannot be profiled, so that the study cannot be run before somebody changes something."""
        self.say("Profiled", False, reason, message)
        why = "ProfileImpossible" if reason == "Impossible" else reason
        self.say("Failed", True, why, message)
        self.set("Progressing", False, "Failed", message)
        self.fields = {"phase": "Failed", "reason": why, "message": message}


def set_conditions(draft: Draft, situation: Situation, summary: Summary) -> None:
    """The conditions of a study whose model is profiled."""
    for said in summary.conditions:
        draft.say(said.type, said.status, said.reason, said.message)
    for kind in sorted(_FIDELITY - {said.type for said in summary.conditions}):
        draft.clear(kind, "Resolved", "no longer so")
    troubles = _troubles(situation)
    if situation.observation.state.finished is None and not situation.observation.classes:
        draft.say("RunsBlocked", True, "NoDevices", situation.no_devices)
    elif troubles:
        worst = min(troubles, key=lambda t: (t.waits, t.reason))
        more = f" (and {_runs(len(troubles) - 1, 'more ')} waiting)" if len(troubles) > 1 else ""
        draft.say("RunsBlocked", True, worst.reason, worst.message + more)
    else:
        draft.clear("RunsBlocked", "Running", "nothing is held up")
    lost = lost_runs(situation.observation.state)
    if lost:
        trials = sum(len(run.trials) for run in lost)
        last = lost[-1]
        draft.say(
            "RunsLost", True, "RunLost",
            f"{_count(trials, 'trial')} lost the last run, {last.name} (rung {last.rung}) among others: "
            f"{last.message or 'it left no record'}; a run is repeated from its last checkpoint until its attempts are "
            "used up",
        )  # fmt: skip
    else:
        draft.clear("RunsLost", "Recovered", "no trial's last run was lost")
    if not situation.from_prometheus:
        draft.clear("MetricsAvailable", "Scrape", "values are read from the trainers")
    elif situation.scores is not None:
        scores = situation.scores
        draft.say("MetricsAvailable", scores.status, scores.reason, scores.message)
    _set_progressing(draft, situation, bool(troubles))


def _set_progressing(draft: Draft, situation: Situation, blocked: bool) -> None:
    observation = situation.observation
    finished = observation.state.finished
    if finished is None:
        running = sum(1 for run in observation.state.active_runs if run.state is RunState.RUNNING)
        if observation.spec.suspend:
            draft.say("Progressing", False, "Suspended", "suspended by spec.suspend")
            return
        stuck = blocked and not running
        words = situation.waiting_for or (
            f"{_runs(running)} running" if not stuck else "no run can run; see RunsBlocked"
        )
        draft.set("Progressing", not stuck, "RunsBlocked" if stuck else "Running", words)
        return
    draft.set("Progressing", False, finished.reason, finished.message)
    failed = finished.reason == "Failed"
    if failed:
        draft.set("Complete", False, finished.reason, finished.message)
    draft.say("Failed" if failed else "Complete", True, finished.reason, finished.message)


def lost_runs(state: StudyState) -> list[Run]:
    """Runs that left no record, where a trial of theirs has had no other one since; in the order of their start.

    Those that had no space to write to are no loss of attempts: the study is paused and says so itself.
    """
    last = {index: run for run in state.runs.values() if not run.state.active for index in run.trials}
    undone = {t.index for t in state.trials.values() if t.outcome in (None, "Failed")}
    lost = {run.name for index, run in last.items() if run.state is RunState.LOST and index in undone}
    return [run for run in state.runs.values() if run.name in lost and run.no_space_at is None]


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _runs(count: int, more: str = "") -> str:
    return f"{count} {more}{'run is' if count == 1 else 'runs are'}"


def _troubles(situation: Situation) -> Sequence[Trouble]:
    """Those of runs that are still wanted."""
    active = {run.name for run in situation.observation.state.active_runs}
    return [trouble for name, trouble in sorted(situation.troubles.items()) if name in active]


def _phase(situation: Situation, conditions: Conditions) -> tuple[str, str, str]:
    """Phase, reason and message, for printing."""
    state = situation.observation.state
    if state.finished is not None:
        return (
            "Failed" if state.finished.reason == "Failed" else "Complete",
            state.finished.reason,
            state.finished.message,
        )
    active = len(state.active_runs)
    if situation.observation.spec.suspend:
        return "Suspended", "", f"{_runs(active)} writing checkpoints" if active else "suspended"
    said = {c["type"]: c for c in conditions.listed()}
    blocked = said.get("RunsBlocked", {})
    if blocked.get("status") != "True":
        return "Running", "", situation.waiting_for or f"{_runs(active)} under way"
    stuck = said["Progressing"]["status"] == "False" and not all(t.waits for t in _troubles(situation))
    return (
        "Blocked" if stuck or not situation.observation.classes else "Running",
        blocked["reason"],
        str(blocked["message"]),
    )


def _hold_clock(status: Manifest, old: Mapping[str, Any]) -> None:
    """The wall clock of a study that is over stands still."""
    before = {line["name"]: line for line in old.get("budget") or []}
    if old.get("completionTime"):
        status["budget"] = [
            before.get(line["name"], line) if line["name"] == "wallClock" else line for line in status["budget"]
        ]
        status["budgetUsed"] = old.get("budgetUsed", status.get("budgetUsed", ""))


def study_status(draft: Draft, situation: Situation, summary: Summary) -> Manifest:
    """All fields of the status but the conditions, which are set already.

    Args:
        draft: with the conditions.
        situation: where the study stands.
        summary: of that.
    """
    observation = situation.observation
    plan = observation.plan
    finished = observation.state.finished
    lines = budget_lines(observation.spec.budget, observation.state, observation.now)
    phase, reason, message = _phase(situation, draft.conditions)
    trials = "?" if plan.open_ended and finished is None else max(plan.trials, summary.trials)
    status = HPOStudyStatus(
        observed_generation=draft.generation,
        phase=phase,  # type: ignore[arg-type]
        reason=reason,
        message=message[:LONGEST_MESSAGE],
        layers=observation.profile.layers,
        rung=_rung(summary, plan),
        progress=f"{summary.decided}/{trials}",
        best_value="" if summary.best is None or summary.best.value is None else f"{summary.best.value:.4g}",
        budget_used=_used(lines),
        trials=_counts(observation.state),
        rungs=[_row(row) for row in summary.rungs],
        best=_best(observation, summary),
        budget=lines,
    )
    document = status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"conditions"})
    if observation.state.started_at is not None:
        document["startTime"] = timestamp(observation.state.started_at)
    if finished is not None:
        document["completionTime"] = draft.current.get("completionTime") or timestamp(draft.now)
        _hold_clock(document, draft.current)
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


def _rung(summary: Summary, plan: Plan) -> str:
    entered = [row.rung for row in summary.rungs if row.entered]
    return f"{max(entered)}/{plan.top}" if entered else ""


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


def _best(observation: Observation, summary: Summary) -> BestTrial | None:
    if summary.best is None or summary.best.value is None or summary.best_rung is None:
        return None
    trial = observation.state.trials[summary.best.trial]
    result = trial.result_at(summary.best_rung)
    assert result is not None
    return BestTrial(
        trial=trial.name,
        value=summary.best.value,
        rung=summary.best_rung,
        layers=result.layers,
        tokens=result.tokens,
        assignment=assignment_list(trial.assignment),
        checkpoint=None if trial.checkpoint is None else trial.checkpoint.path,
    )
