"""How a study's state changes: by the engine's own actions (`apply`) and by runs that end (`settle`)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from frostline_operator.engine.actions import (
    Action,
    CreateTrial,
    EndTrial,
    FailTrial,
    Finish,
    Promote,
    StartRun,
    StopRun,
    Wait,
)
from frostline_operator.engine.reconcile import Decision, Sample
from frostline_operator.engine.state import (
    Amounts,
    Awaited,
    Recorded,
    Run,
    RungResult,
    RunState,
    Source,
    StudyState,
    Trial,
)
from frostline_trainer.contract import CheckpointRef, ExitCode, RunResult, TrialResult


def apply(state: StudyState, action: Action) -> None:
    """Carry an action into the state, in place."""
    match action:
        case CreateTrial(index, name, bracket, rung, assignment):
            state.trials[index] = Trial(index, name, bracket, assignment, rung)
        case Promote(trial, _, to_rung):
            state.update_trial(trial, rung=to_rung)
        case FailTrial(trial, rung, run, message):
            known = state.trials[trial].results
            layers = state.runs[run].layers if run in state.runs else 1
            failed = RungResult(rung, "Failed", None, layers, 0, run, message)
            state.update_trial(trial, results=(*known, failed))
        case EndTrial(trial, outcome):
            state.update_trial(trial, outcome=outcome)
        case StartRun():
            state.runs[action.name] = Run(
                name=action.name,
                bracket=action.bracket,
                rung=action.rung,
                layers=action.layers,
                tokens=action.tokens,
                start_tokens=action.start_tokens,
                trials=action.trials,
                memory_class=action.memory_class,
                state=RunState.PENDING,
                charged=action.reserved,
                deadline_seconds=action.deadline_seconds,
                predicted_bytes=action.predicted_bytes,
                flops=action.flops,
            )
        case StopRun(name, _):
            state.update_run(name, state=RunState.STOPPING)
        case Finish(finished):
            state.finished = finished
        case Wait():
            pass
        case _:
            assert_never(action)


@dataclass(frozen=True)
class RunEnded:
    """That a run's process or pod is gone, and what it left."""

    run: str
    result: RunResult | None
    """None where it left no durable record (killed, node lost)."""
    held_seconds: float
    """How long it held its device, as seen from outside; charged where there is no record of its own."""
    price_per_second: float = 0.0
    samples: Sequence[Sample] = ()
    """What its metrics showed: how far it had come, where there is no record."""
    message: str = ""
    no_space: bool = False
    """Its exit code says that it had no space to write to; a record says so itself."""
    at: float = 0.0
    """The clock when its end was seen."""


_ENDED_BY = {
    ExitCode.DONE: RunState.SUCCEEDED,
    ExitCode.OUT_OF_MEMORY: RunState.OUT_OF_MEMORY,
    ExitCode.STUDY_FAULT: RunState.FAULT,
    ExitCode.INFRASTRUCTURE: RunState.LOST,
    ExitCode.STOPPED: RunState.STOPPED,
}


def settle(state: StudyState, ended: RunEnded, awaited_since: float | None = None) -> None:
    """Book the end of a run: results, checkpoints and what it really took, in place. A second time changes nothing.

    A trial's result counts only if the run trained the layers that it was started with and the tokens reach the rung's;
    anything else leaves the trial waiting, so that it is run again. What was trained is charged either way.

    Args:
        state: of the study.
        ended: the run.
        awaited_since: the clock, where the study's values come from Prometheus: results are then held until `book`. A
            trial that diverged is booked at once, since it never shows a value at the rung's tokens.
    """
    run = state.runs[ended.run]
    if not run.state.active:
        return
    result = ended.result
    for index, tokens in run.saved:
        _keep_saved(state, run, index, tokens, result)
    if result is None or result.run != run.name:
        held = ended.held_seconds
        lost = Amounts(_trained(state, run, None, ended.samples), held, held * ended.price_per_second)
        # One that was told to stop and had nothing to write yet (still starting up) is no loss.
        how = RunState.STOPPED if run.state is RunState.STOPPING else RunState.LOST
        said = ended.message if result is None else ended.message or result.message
        no_space_at = ended.at if ended.no_space and how is RunState.LOST else None
        state.update_run(run.name, state=how, charged=lost, message=said, no_space_at=no_space_at)
        return
    by_name = {trial.name: trial for trial in result.trials}
    records: list[Recorded] = []
    for index in run.trials:
        outcome = by_name.get(state.trials[index].name)
        if outcome is None:
            continue
        # A record is a stranger's: only the folder that the run was given is one of its checkpoints
        if outcome.checkpoint == run.folder_of(state.trials[index]):
            checkpoint = CheckpointRef(path=outcome.checkpoint, layers=result.layers, tokens=outcome.tokens)
            state.update_trial(index, checkpoint=checkpoint, checkpoint_rung=run.rung)
        elif outcome.checkpoint_lost:
            state.update_trial(index, checkpoint=None, checkpoint_rung=None)
        if state.trials[index].result_at(run.rung) is not None or result.layers != run.layers:
            continue
        if awaited_since is not None and _has_value(run, outcome):
            records.append(Recorded(index, outcome.objective, outcome.tokens))
        else:
            _book_trial(state, run, index, outcome)
    seconds = max(result.seconds, 0.0)
    how = _ENDED_BY[result.exit_code]
    if how is RunState.FAULT and _forgot_what_lost_runs_left(state, run):
        how = RunState.LOST
    state.update_run(
        run.name,
        state=RunState.AWAITING if records else how,
        awaited=Awaited(awaited_since, how, tuple(records)) if records and awaited_since is not None else None,
        charged=Amounts(_trained(state, run, result, ended.samples), seconds, seconds * ended.price_per_second),
        peak_bytes=result.peak_bytes,
        reserved_bytes=result.reserved_bytes,
        device=result.device,
        seconds=seconds,
        train_seconds=result.train_seconds,
        message=result.message or ended.message,
        no_space_at=ended.at if result.no_space and how is RunState.LOST else None,
    )


def _trained(state: StudyState, run: Run, result: RunResult | None, samples: Iterable[Sample]) -> int:
    """Tokens that a run has trained for all its trials together: what it is charged for.

    Each trial has come as far as the run's record says, or else its metrics; it was further where it was seen to save a
    checkpoint of more.
    """
    tokens = Counter({state.trials[index].name: saved for index, saved in run.saved})
    shown = [(s.trial, s.tokens) for s in samples] if result is None else [(t.name, t.tokens) for t in result.trials]
    for name, count in shown:
        tokens[name] = max(tokens[name], count)
    return sum(max(0, tokens[state.trials[index].name] - run.start_tokens) for index in run.trials)


def note_saved(state: StudyState, name: str, saved: Mapping[str, int]) -> None:
    """Note what a run under way has saved of its trials, in place.

    Args:
        state: of the study.
        name: of the run.
        saved: tokens of its last checkpoints on the way, by trial.
    """
    run = state.runs[name]
    known = dict(run.saved)
    newer = {i: t for i in run.trials if (t := saved.get(state.trials[i].name, 0)) > known.get(i, run.start_tokens)}
    if newer and run.state.active:
        state.update_run(name, saved=tuple(sorted({**known, **newer}.items())))


def book(state: StudyState, name: str, decisions: Iterable[Decision]) -> None:
    """Book what was decided of a run's awaited values, in place; with the last one the run is over."""
    run = state.runs[name]
    if run.awaited is None:
        return
    decided = {decision.trial: decision for decision in decisions}
    for record in run.awaited.records:
        decision = decided.get(record.trial)
        if decision is not None and decision.source is not None:
            _book_value(state, run, record.trial, decision.value, record.tokens, decision.source)
    left = tuple(record for record in run.awaited.records if record.trial not in decided)
    if left:
        state.update_run(name, awaited=replace(run.awaited, records=left))
    else:
        state.update_run(name, state=run.awaited.ends, awaited=None)


def _keep_saved(state: StudyState, run: Run, index: int, tokens: int, result: RunResult | None) -> None:
    """Let a trial go on from what a run had saved on the way, until a record says that there is more.

    Should it have written a newer one that nobody saw, then the next run has the less to do.
    """
    trial = state.trials[index]
    known = trial.checkpoint
    if result is not None and result.exit_code is ExitCode.OUT_OF_MEMORY and known and known.layers != run.layers:
        return  # perhaps so many layers never fit again, and those before do
    checkpoint = CheckpointRef(path=run.folder_of(trial), layers=run.layers, tokens=tokens)
    state.update_trial(index, checkpoint=checkpoint, checkpoint_rung=run.rung)


def _forgot_what_lost_runs_left(state: StudyState, run: Run) -> bool:
    """Forget the checkpoints on the way that a run at fault began with, if it did: they may be what cannot be read.

    Such as on a disk that went with its node. Nothing else is known of them, so the trials begin once more without.
    """
    if run.start_tokens == 0:
        return False
    forgot = False
    for index in run.trials:
        trial = state.trials[index]
        ended = [r for r in state.runs_of(index, run.rung) if r.state in (RunState.LOST, RunState.OUT_OF_MEMORY)]
        if trial.checkpoint is not None and trial.checkpoint.path in {past.folder_of(trial) for past in ended}:
            state.update_trial(index, checkpoint=None, checkpoint_rung=None)
            forgot = True
    return forgot


def _has_value(run: Run, outcome: TrialResult) -> bool:
    """Whether the metrics can show a value of it at the rung's tokens, and one that ranks."""
    finite = outcome.objective is None or math.isfinite(outcome.objective)
    return outcome.reason == "Completed" and outcome.tokens >= run.tokens and finite


def _book_trial(state: StudyState, run: Run, index: int, outcome: TrialResult) -> None:
    if outcome.reason == "Diverged":
        _book_value(state, run, index, None, outcome.tokens, "Record")
    elif outcome.reason == "Completed":
        finite = outcome.objective is not None and math.isfinite(outcome.objective)
        if not finite or outcome.tokens >= run.tokens:
            _book_value(state, run, index, outcome.objective, outcome.tokens, "Record")


def _book_value(state: StudyState, run: Run, index: int, value: float | None, tokens: int, source: Source) -> None:
    trial = state.trials[index]
    if trial.result_at(run.rung) is not None:
        return
    if value is not None and math.isfinite(value):
        booked = RungResult(run.rung, "Completed", value, run.layers, tokens, run.name, source=source)
    else:
        booked = RungResult(run.rung, "Diverged", None, run.layers, tokens, run.name, source=source)
    state.update_trial(index, results=(*trial.results, booked))
