"""How a study's state changes: by the engine's own actions (`apply`) and by runs that end (`settle`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
from frostline_operator.engine.state import Amounts, Run, RungResult, RunState, StudyState, Trial
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
    seen_tokens: int = 0
    """Tokens that its trials were seen to have trained on (from the metrics); charged where there is no record."""
    message: str = ""


_ENDED_BY = {
    ExitCode.DONE: RunState.SUCCEEDED,
    ExitCode.OUT_OF_MEMORY: RunState.OUT_OF_MEMORY,
    ExitCode.STUDY_FAULT: RunState.FAULT,
    ExitCode.STOPPED: RunState.STOPPED,
}


def settle(state: StudyState, ended: RunEnded) -> None:
    """Book the end of a run: results, checkpoints and what it really took, in place. A second time changes nothing.

    A trial's result counts only if the run trained the layers that it was started with and the tokens reach the rung's;
    anything else leaves the trial waiting, so that it is run again. What was trained is charged either way.
    """
    run = state.runs[ended.run]
    if not run.state.active:
        return
    result = ended.result
    if result is None or result.run != run.name:
        lost = Amounts(ended.seen_tokens, ended.held_seconds, ended.held_seconds * ended.price_per_second)
        # One that was told to stop and had nothing to write yet (still starting up) is no loss.
        how = RunState.STOPPED if run.state is RunState.STOPPING else RunState.LOST
        state.update_run(run.name, state=how, charged=lost, message=ended.message)
        return
    by_name = {trial.name: trial for trial in result.trials}
    trained = 0
    for index in run.trials:
        outcome = by_name.get(state.trials[index].name)
        if outcome is not None:
            trained += max(0, outcome.tokens - run.start_tokens)
            _book_trial(state, run, result, index, outcome)
    seconds = max(result.seconds, 0.0)
    state.update_run(
        run.name,
        state=_ENDED_BY[result.exit_code],
        charged=Amounts(trained, seconds, seconds * ended.price_per_second),
        peak_bytes=result.peak_bytes,
        reserved_bytes=result.reserved_bytes,
        device=result.device,
        seconds=seconds,
        train_seconds=result.train_seconds,
        message=result.message or ended.message,
    )


def _book_trial(state: StudyState, run: Run, result: RunResult, index: int, outcome: TrialResult) -> None:
    trial = state.trials[index]
    if outcome.checkpoint is not None:
        checkpoint = CheckpointRef(path=outcome.checkpoint, layers=result.layers, tokens=outcome.tokens)
        state.update_trial(index, checkpoint=checkpoint, checkpoint_rung=run.rung)
    if trial.result_at(run.rung) is not None or result.layers != run.layers:
        return
    value = outcome.objective
    finite = value is not None and math.isfinite(value)
    if outcome.reason == "Diverged" or (outcome.reason == "Completed" and not finite):
        booked = RungResult(run.rung, "Diverged", None, result.layers, outcome.tokens, run.name)
    elif outcome.reason == "Completed" and outcome.tokens >= run.tokens:
        booked = RungResult(run.rung, "Completed", value, result.layers, outcome.tokens, run.name)
    else:
        return
    state.update_trial(index, results=(*trial.results, booked))
