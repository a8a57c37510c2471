"""From what the engine knows to what a report shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from frostline_operator import __version__
from frostline_operator.api.study import HPOStudy
from frostline_operator.engine.placement import ratio
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.reconcile import Sample
from frostline_operator.engine.state import Observation, Run, StudyState, Trial
from frostline_operator.engine.summary import Summary, summarize, trial_state
from frostline_operator.report.record import (
    Best,
    CurvePoint,
    Notice,
    RungRecord,
    RunRecord,
    StudyRecord,
    Totals,
    TrialRecord,
    TrialRung,
)

Samples = Callable[[str], Sequence[Sample]]
"""Name of a run -> the values observed of it."""


def collect(
    study: HPOStudy,
    observation: Observation,
    samples: Samples,
    ended_at: float | None = None,
    host: str = "",
    checkpoints: str = "",
) -> StudyRecord:
    """The record of a study, finished or under way.

    Args:
        study: its manifest.
        observation: where it stands.
        samples: what was observed of its runs: the learning curves.
        ended_at: when it ended, seconds since 1970; None while it is under way.
        host: machine or cluster that it ran on.
        checkpoints: folder or URL of its checkpoints.
    """
    state = observation.state
    plan = observation.plan
    summary = summarize(observation)
    curves = _curves(state, samples)
    busy = state.busy()
    finished = state.finished
    return StudyRecord(
        study=study,
        layers=observation.profile.layers,
        unit=observation.profile.unit,
        outcome=finished.reason if finished else ("Running" if busy else "Interrupted"),
        message=finished.message if finished else "",
        started=_time(state.started_at),
        ended=_time(ended_at),
        written=_time(observation.now),
        version=__version__,
        host=host,
        checkpoints=checkpoints,
        rungs=tuple(_rows(summary)),
        trials=tuple(_trial(state, plan, trial, trial.index in busy, curves) for trial in state.trials.values()),
        runs=tuple(_run(state, run) for run in state.runs.values()),
        totals=_totals(observation, summary),
        best=_best(state, summary),
        notices=tuple(Notice(type=c.type, message=c.message) for c in summary.conditions),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _curves(state: StudyState, samples: Samples) -> dict[tuple[str, int], tuple[CurvePoint, ...]]:
    """Points by trial and rung, in order of tokens; the last attempt's where there were several."""
    curves: dict[tuple[str, int], dict[int, CurvePoint]] = {}
    for run in state.runs.values():
        for sample in samples(run.name):
            points = curves.setdefault((sample.trial, run.rung), {})
            if sample.tokens > run.start_tokens:
                points[sample.tokens] = CurvePoint(tokens=sample.tokens, value=sample.objective, loss=sample.loss)
    return {key: tuple(points[t] for t in sorted(points)) for key, points in curves.items()}


def _rows(summary: Summary) -> list[RungRecord]:
    return [
        RungRecord(
            bracket=row.bracket,
            rung=row.rung,
            asked_layers=row.asked_layers,
            layers=row.layers or row.asked_layers,
            tokens=row.tokens,
            size=row.planned,
            entered=row.entered,
            running=row.running,
            finished=row.finished,
            promoted=row.promoted,
            failed=row.failed,
            best=row.best,
            flops=row.flops,
            seconds=row.seconds,
            rank_correlation=row.spearman,
        )
        for row in summary.rungs
    ]


def _trial(
    state: StudyState,
    plan: Plan,
    trial: Trial,
    busy: bool,
    curves: dict[tuple[str, int], tuple[CurvePoint, ...]],
) -> TrialRecord:
    results = [_result(state, plan, trial, position, curves) for position in range(len(trial.results))]
    if trial.waiting:
        rung = plan.rungs[trial.rung]
        results.append(
            TrialRung(
                rung=trial.rung,
                state="Running" if busy else "Pending",
                layers=rung.layers,
                asked_layers=rung.layers,
                tokens=rung.tokens,
                curve=curves.get((trial.name, trial.rung), ()),
            )
        )
    return TrialRecord(
        index=trial.index,
        name=trial.name,
        bracket=trial.bracket,
        state=trial_state(trial, busy),
        assignment=trial.assignment,
        results=tuple(sorted(results, key=lambda result: result.rung)),
    )


def _result(
    state: StudyState,
    plan: Plan,
    trial: Trial,
    position: int,
    curves: dict[tuple[str, int], tuple[CurvePoint, ...]],
) -> TrialRung:
    result = trial.results[position]
    run = state.runs.get(result.run)
    return TrialRung(
        rung=result.rung,
        state=result.state,
        value=result.value,
        layers=result.layers,
        asked_layers=plan.rungs[result.rung].layers,
        tokens=result.tokens,
        seconds=state.seconds_of(trial.index, result.rung),
        run=result.run,
        peak_bytes=None if run is None or not run.peak_bytes else run.peak_bytes,
        promoted=trial.rung > result.rung,
        message=result.message,
        curve=curves.get((trial.name, result.rung), ()),
    )


def _run(state: StudyState, run: Run) -> RunRecord:
    return RunRecord(
        name=run.name,
        bracket=run.bracket,
        rung=run.rung,
        layers=run.layers,
        tokens=run.tokens,
        trials=tuple(state.trials[index].name for index in run.trials),
        state=str(run.state),
        device=run.device or run.memory_class,
        seconds=run.seconds,
        predicted_bytes=run.predicted_bytes,
        peak_bytes=run.peak_bytes or None,
        memory_ratio=ratio(run.predicted_bytes, run.peak_bytes),
        message=run.message,
    )


def _totals(observation: Observation, summary: Summary) -> Totals:
    runs = [run for run in observation.state.runs.values() if not run.state.active]
    return Totals(
        flops=summary.savings.flops,
        seconds=sum(run.device_seconds for run in runs),
        tokens=sum(run.charged.tokens for run in runs),
        cost=summary.spent.cost if observation.spec.budget.prices else None,
        full_flops=summary.savings.full,
        tokens_only_flops=summary.savings.tokens_only,
    )


def _best(state: StudyState, summary: Summary) -> Best | None:
    if summary.best is None or summary.best_rung is None:
        return None
    trial = state.trials[summary.best.trial]
    result = trial.result_at(summary.best_rung)
    assert result is not None, "the best trial has a result at its rung"
    return Best(
        trial=trial.name,
        value=result.value,
        rung=result.rung,
        layers=result.layers,
        tokens=result.tokens,
        assignment=trial.assignment,
        checkpoint=trial.checkpoint.path if trial.checkpoint is not None else "",
    )
