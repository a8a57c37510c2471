"""What /metrics says of a study: its figures at one moment, made at a tick and never changed.

A scrape only writes them down, so that it costs nothing however often and by however many it is done. Their number
depends on rungs, memory classes and conditions, never on the number of trials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.api.trial import TrialState
from frostline_operator.engine import cost
from frostline_operator.engine.placement import placement, ratio
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.remaining import seconds_left
from frostline_operator.engine.speed import Speed
from frostline_operator.engine.state import Observation, Run, RunState
from frostline_operator.engine.summary import RungRow, Summary, trial_state
from frostline_operator.kubernetes.objects.jobs import StudyRef

RUNG_STATES = ("Pending", "Running", "Completed", "Failed")
"""Of a trial at a rung that it has entered: no run yet, in a run, with a value, without one for good."""


@dataclass(frozen=True)
class Statement:
    """A condition."""

    type: str
    reason: str
    holds: bool


@dataclass(frozen=True)
class BudgetFigures:
    """One thing that is counted."""

    unit: str
    used: float
    """By runs that have ended."""
    reserved: float
    limit: float | None


@dataclass(frozen=True)
class RungFigures:
    """One rung, all brackets together."""

    rung: int
    layers: int
    """Trained there: less than asked for where no class holds more."""
    tokens: int
    planned: int
    states: Mapping[str, int]
    """Trials that have entered it, by `RUNG_STATES`."""
    promoted: int | None
    """None at the highest rung, which nothing leaves."""
    best: float | None
    spearman: float | None


@dataclass(frozen=True)
class ClassFigures:
    """What a study did on one memory class."""

    name: str
    predicted_bytes: int | None
    """Largest prediction of a run's peak."""
    measured_bytes: int | None
    """Largest peak that a run measured."""
    ratio: float | None
    """Largest measured over predicted of one and the same run."""
    gpu_seconds: float
    """That ended runs held a device."""
    out_of_memory: int
    waiting: int
    """Runs that are asked for and do not run yet, or would be if a device were free."""


@dataclass(frozen=True)
class Progress:
    """How far a study is whose model has been profiled."""

    layers: int
    """L of the whole network."""
    trials: Mapping[str, int]
    runs: Mapping[str, int]
    rungs: tuple[RungFigures, ...]
    classes: tuple[ClassFigures, ...]
    budget: tuple[BudgetFigures, ...]
    best: float | None
    seconds_left: float | None
    flops: float
    """Trained so far."""
    full_flops: float
    """Every trial drawn so far trained at full fidelity."""
    tokens_only_flops: float
    """The results so far with all layers at every rung: classic halving."""
    full_gpu_seconds: float | None
    """`full_flops` at the speed of this study's runs; None before the first has ended."""
    disagreements: int


@dataclass(frozen=True)
class StudyFigures:
    """Everything that /metrics says of one study."""

    namespace: str
    study: str
    uid: str
    phase: str
    statements: tuple[Statement, ...] = ()
    info: Mapping[str, str] = field(default_factory=dict)
    """algorithm, metric and direction, once the spec has been read."""
    progress: Progress | None = None
    """None before the model is profiled."""


def figures(
    study: StudyRef,
    spec: HPOStudySpec | None,
    phase: str,
    conditions: Sequence[Mapping[str, Any]],
    made: Progress | None,
) -> StudyFigures:
    """All there is to say; of a study that was not accepted, or not profiled yet, only the first part.

    Args:
        study: whose.
        spec: None where it could not be read.
        phase, conditions: as of the study's status.
        made: see `progress`.
    """
    said = tuple(Statement(str(c["type"]), str(c.get("reason", "")), c["status"] == "True") for c in conditions)
    info = {}
    if spec is not None:
        objective = spec.objective
        info = {"algorithm": spec.search.algorithm, "metric": objective.metric, "direction": objective.direction}
    return StudyFigures(study.namespace, study.name, study.uid, phase, said, info, made)


def progress(observation: Observation, summary: Summary, budget: Sequence[Mapping[str, Any]]) -> Progress:
    """The figures of a study.

    Args:
        observation: with each class's devices, whoever has them.
        summary: the summary of it.
        budget: the lines of its status, whose wall clock stands still once the study is over.
    """
    plan = observation.plan
    busy = observation.state.busy()
    trials = Counter(trial_state(trial, trial.index in busy) for trial in observation.state.trials.values())
    runs = Counter(run.state for run in observation.state.runs.values())
    lines = (BudgetFigures(b["name"], b["spent"], b["reserved"], b.get("limit")) for b in budget)
    return Progress(
        layers=observation.profile.layers,
        trials={state: trials[state] for state in get_args(TrialState)},
        runs={state.value: runs[state] for state in RunState},
        rungs=_rungs(observation, plan, summary.rungs),
        classes=_classes(observation, plan),
        budget=tuple(lines),
        best=None if summary.best is None else summary.best.value,
        seconds_left=seconds_left(observation, summary),
        flops=summary.savings.flops,
        full_flops=summary.savings.full,
        tokens_only_flops=summary.savings.tokens_only,
        full_gpu_seconds=_full_gpu_seconds(observation, plan, summary.savings.full),
        disagreements=observation.state.disagreements,
    )


def _rungs(observation: Observation, plan: Plan, rows: Sequence[RungRow]) -> tuple[RungFigures, ...]:
    best_of = max if observation.spec.objective.direction == "Maximize" else min
    made = []
    for rung in plan.rungs:
        here = [row for row in rows if row.rung == rung.index]
        entered, running = sum(row.entered for row in here), sum(row.running for row in here)
        finished, failed = sum(row.finished for row in here), sum(row.failed for row in here)
        values = [row.best for row in here if row.best is not None]
        made.append(
            RungFigures(
                rung=rung.index,
                layers=min((row.layers for row in here), default=rung.layers),
                tokens=rung.tokens,
                planned=sum(row.planned for row in here),
                states=dict(
                    zip(
                        RUNG_STATES,
                        (max(0, entered - running - finished - failed), running, finished, failed),
                        strict=True,
                    )
                ),
                promoted=sum(row.promoted for row in here) if rung.index < plan.top else None,
                best=best_of(values) if values else None,
                spearman=here[0].spearman if here else None,
            )
        )
    return tuple(made)


def _classes(observation: Observation, plan: Plan) -> tuple[ClassFigures, ...]:
    runs: dict[str, list[Run]] = {memory_class.name: [] for memory_class in observation.classes}
    for run in observation.state.runs.values():
        runs.setdefault(run.memory_class, []).append(run)
    waiting = _waiting(observation, plan)
    return tuple(_class(name, runs[name], waiting[name]) for name in sorted(runs))


def _class(name: str, runs: Sequence[Run], waiting: int) -> ClassFigures:
    return ClassFigures(
        name=name,
        predicted_bytes=max((run.predicted_bytes for run in runs if run.predicted_bytes), default=None),
        measured_bytes=max((run.peak_bytes for run in runs if run.peak_bytes), default=None),
        ratio=max(
            (r for run in runs if (r := ratio(run.predicted_bytes or 0, run.peak_bytes)) is not None), default=None
        ),
        gpu_seconds=sum(run.charged.gpu_seconds for run in runs if not run.state.active),
        out_of_memory=sum(1 for run in runs if run.state is RunState.OUT_OF_MEMORY),
        waiting=waiting,
    )


def _waiting(observation: Observation, plan: Plan) -> Counter[str]:
    """By class: runs that have no device yet, and those that would be started if one were free."""
    active = observation.state.active_runs
    summary = Counter(run.memory_class for run in active if run.state is RunState.PENDING)
    if observation.state.finished is not None or observation.spec.suspend:
        return summary
    room, busy = observation.spec.search.parallelism - len(active), observation.state.busy()
    waiting = Counter(t.rung for t in observation.state.trials.values() if t.waiting and t.index not in busy)
    rules = placement(observation, observation.state)
    for rung in sorted(waiting, reverse=True):
        home = rules.home(plan.rungs[rung].layers)
        count = min(room, waiting[rung])
        if home is not None and count > 0:
            summary[home.name] += count
            room -= count
    return summary


def _full_gpu_seconds(observation: Observation, plan: Plan, full: float) -> float | None:
    """Seconds of the trials that ran, at full fidelity: `full` FLOPs in runs of one trial each."""
    flops = cost.full_flops(observation.profile, plan.rungs[-1].tokens)
    each = Speed(observation.state.runs.values()).seconds(flops, "", plan.top)
    return None if each is None else each * full / flops
