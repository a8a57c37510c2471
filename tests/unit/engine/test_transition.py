"""Booking the end of a run: what counts as a result, and what is charged."""

from __future__ import annotations

import math

import pytest

from frostline_operator.engine.actions import StartRun
from frostline_operator.engine.reconcile import Decision, Sample
from frostline_operator.engine.state import Amounts, RunState, StudyState, Trial
from frostline_operator.engine.transition import RunEnded, apply, book, note_saved, settle
from frostline_trainer.contract import CheckpointRef, ExitCode, RunResult, TrialResult


def started(layers: int = 2, start_tokens: int = 100) -> StudyState:
    state = StudyState()
    for index in (0, 1):
        state.trials[index] = Trial(index, f"s-{index}", 0, {"lr": 0.1}, rung=1)
    apply(
        state,
        StartRun("r", 0, 1, layers, 200, start_tokens, (0, 1), "cpu", Amounts(200, 90.0, 9.0), 60.0, None, 1e6),
    )
    return state


def result(*trials: TrialResult, layers: int = 2, code: ExitCode = ExitCode.DONE) -> RunResult:
    return RunResult(run="r", layers=layers, exit_code=code, trials=list(trials), seconds=30.0, train_seconds=20.0)


def completed(name: str, value: float | None, tokens: int = 200) -> TrialResult:
    return TrialResult(name=name, reason="Completed", objective=value, tokens=tokens, checkpoint=f"{name}/rung-1-r")


def test_results_checkpoints_and_what_was_really_used_are_booked() -> None:
    state = started()
    settle(state, RunEnded("r", result(completed("s-0", 1.5), completed("s-1", 2.5)), 31.0, 0.1))
    assert [state.trials[i].results[0].value for i in (0, 1)] == [1.5, 2.5]
    checkpoint = state.trials[0].checkpoint
    assert checkpoint is not None and (checkpoint.layers, checkpoint.tokens) == (2, 200)
    run = state.runs["r"]
    assert run.state is RunState.SUCCEEDED
    assert run.charged == Amounts(200, 30.0, 3.0)


def test_a_trials_seconds_at_a_rung_are_its_share_of_every_attempt() -> None:
    state = started()
    settle(state, RunEnded("r", None, 10.0, 0.1))
    assert state.runs["r"].state is RunState.LOST and state.seconds_of(0, 1) == 5.0
    apply(state, StartRun("r2", 0, 1, 2, 200, 100, (0,), "cpu", Amounts(100, 90.0, 9.0), 60.0, None, 1e6))
    settle(state, RunEnded("r2", result(completed("s-0", 1.5)).model_copy(update={"run": "r2"}), 31.0, 0.1))
    assert (state.seconds_of(0, 1), state.seconds_of(1, 1), state.seconds_of(0, 0)) == (35.0, 5.0, 0)


def test_settling_twice_changes_nothing() -> None:
    state = started()
    settle(state, RunEnded("r", result(completed("s-0", 1.5)), 31.0))
    before = state.copy()
    settle(state, RunEnded("r", result(completed("s-0", 9.9)), 99.0))
    assert state == before


def test_a_value_at_fewer_tokens_than_the_rungs_does_not_count() -> None:
    state = started()
    settle(state, RunEnded("r", result(completed("s-0", 1.5, tokens=199)), 31.0))
    assert state.trials[0].results == () and state.trials[0].waiting


def test_a_value_at_other_layers_than_the_runs_does_not_count() -> None:
    state = started(layers=2)
    settle(state, RunEnded("r", result(completed("s-0", 1.5), layers=1), 31.0))
    assert state.trials[0].results == ()


def test_another_runs_record_is_taken_for_a_loss() -> None:
    state = started()
    other = result(completed("s-0", 1.5)).model_copy(update={"run": "x"})
    settle(state, RunEnded("r", other, 31.0))
    assert state.runs["r"].state is RunState.LOST


def test_values_that_are_not_finite_are_booked_as_diverged_without_a_value() -> None:
    state = started()
    diverged = TrialResult(name="s-1", reason="Diverged", objective=math.nan, tokens=120)
    settle(state, RunEnded("r", result(completed("s-0", math.inf), diverged), 31.0))
    for index in (0, 1):
        [booked] = state.trials[index].results
        assert (booked.state, booked.value) == ("Diverged", None)


def test_a_stopped_run_leaves_its_trials_waiting_with_their_checkpoints() -> None:
    state = started()
    stopped = TrialResult(name="s-0", reason="Stopped", objective=3.0, tokens=150, checkpoint="s-0/rung-1-r")
    settle(state, RunEnded("r", result(stopped, code=ExitCode.STOPPED), 31.0))
    assert state.runs["r"].state is RunState.STOPPED
    assert state.trials[0].waiting
    checkpoint = state.trials[0].checkpoint
    assert checkpoint is not None and checkpoint.tokens == 150


@pytest.mark.parametrize(
    "path",
    ["../../other/s-01234567/t/rung-1-r", "/etc", "s-1/rung-1-r", "s-0/rung-0-r", "s-0/rung-1-x", "", "s3://b/x"],
)
def test_a_checkpoint_elsewhere_than_the_runs_own_is_none(path: str) -> None:
    state = started()
    settle(state, RunEnded("r", result(completed("s-0", 1.5).model_copy(update={"checkpoint": path})), 31.0))
    assert state.trials[0].checkpoint is None
    assert state.trials[0].results[0].value == 1.5


def test_a_lost_run_is_charged_for_the_time_it_held_and_the_tokens_that_were_seen() -> None:
    state = started()
    shown = [Sample(name, 1, tokens, 1.0) for name, tokens in (("s-0", 150), ("s-0", 120), ("s-1", 90), ("s-9", 190))]
    note_saved(state, "r", {"s-1": 120})
    settle(state, RunEnded("r", None, 40.0, 0.5, shown, message="killed"))
    run = state.runs["r"]
    assert (run.state, run.charged, run.message) == (RunState.LOST, Amounts(70, 40.0, 20.0), "killed")


def test_a_run_told_to_stop_before_it_had_anything_to_write_is_no_loss() -> None:
    state = started()
    state.update_run("r", state=RunState.STOPPING)
    settle(state, RunEnded("r", None, 2.0))
    assert state.runs["r"].state is RunState.STOPPED


# --- values that are awaited ---


def test_awaited_values_are_held_and_everything_else_is_booked_at_the_end() -> None:
    state = started()
    settle(state, RunEnded("r", result(completed("s-0", 1.5), completed("s-1", 2.5)), 31.0, 0.1), 50.0)
    run = state.runs["r"]
    assert run.state is RunState.AWAITING and not run.state.active and run.state.open
    assert run.charged == Amounts(200, 30.0, 3.0)
    assert all(state.trials[i].results == () and state.trials[i].checkpoint is not None for i in (0, 1))
    assert state.busy() == {0, 1} and state.active_runs == []


def test_the_value_that_counts_is_booked_with_where_it_came_from() -> None:
    state = started()
    settle(state, RunEnded("r", result(completed("s-0", 1.5), completed("s-1", 2.5)), 31.0), 50.0)
    book(state, "r", [Decision(0, 1.25, "Prometheus")])
    assert state.runs["r"].state is RunState.AWAITING and state.busy() == {0, 1}
    book(state, "r", [Decision(1, 2.5, "Record")])
    assert state.runs["r"].state is RunState.SUCCEEDED and state.runs["r"].awaited is None
    booked = [state.trials[i].results[0] for i in (0, 1)]
    assert [(r.value, r.source, r.tokens, r.layers) for r in booked] == [
        (1.25, "Prometheus", 200, 2), (2.5, "Record", 200, 2),
    ]  # fmt: skip
    before = state.copy()
    book(state, "r", [Decision(0, 9.0, "Prometheus")])
    assert state == before


def test_a_value_from_prometheus_that_is_not_finite_ranks_last() -> None:
    for value in (math.nan, math.inf, -math.inf):
        state = started()
        settle(state, RunEnded("r", result(completed("s-0", 1.5)), 31.0), 50.0)
        book(state, "r", [Decision(0, value, "Prometheus")])
        [booked] = state.trials[0].results
        assert (booked.state, booked.value) == ("Diverged", None)


def test_a_trial_that_diverged_is_not_awaited() -> None:
    state = started()
    diverged = TrialResult(name="s-1", reason="Diverged", objective=math.nan, tokens=120)
    settle(state, RunEnded("r", result(completed("s-0", 1.5), diverged), 31.0), 50.0)
    assert state.trials[1].results[0].state == "Diverged"
    assert [record.trial for record in state.runs["r"].awaited.records] == [0]  # type: ignore[union-attr]


def test_a_value_that_the_run_did_not_measure_itself_is_awaited() -> None:
    state = started()
    settle(state, RunEnded("r", result(completed("s-0", None)), 31.0), 50.0)
    book(state, "r", [Decision(0, 0.5, "Prometheus")])
    assert state.trials[0].results[0].value == 0.5


def test_what_would_not_count_by_its_record_is_not_awaited() -> None:
    for ended in (
        result(completed("s-0", 1.5, tokens=199)),
        result(completed("s-0", 1.5), layers=1),
        result(TrialResult(name="s-0", reason="Stopped", objective=3.0, tokens=150), code=ExitCode.STOPPED),
    ):
        state = started()
        settle(state, RunEnded("r", ended, 31.0), 50.0)
        assert not state.runs["r"].state.open and state.trials[0].waiting


def test_a_trial_for_which_nothing_counts_is_left_without_a_result() -> None:
    state = started()
    settle(state, RunEnded("r", result(completed("s-0", 1.5)), 31.0), 50.0)
    book(state, "r", [Decision(0, None, None)])
    assert state.runs["r"].state is RunState.SUCCEEDED and state.trials[0].waiting


# --- checkpoints on the way ---


def test_a_lost_run_leaves_what_it_was_seen_to_have_saved() -> None:
    state = started()
    note_saved(state, "r", {"s-0": 150})
    note_saved(state, "r", {"s-0": 140, "s-1": 100, "s-9": 180})  # none that is newer, or that is a trial of it
    assert state.runs["r"].saved == ((0, 150),)
    assert state.trials[0].checkpoint is None, "while the run is under way nobody goes on from it"
    settle(state, RunEnded("r", None, 40.0))
    checkpoint = state.trials[0].checkpoint
    assert checkpoint == CheckpointRef(path="s-0/rung-1-r", layers=2, tokens=150)
    assert (state.trials[0].checkpoint_rung, state.trials[1].checkpoint) == (1, None)


def test_a_run_that_ended_out_of_memory_leaves_and_is_charged_for_what_it_had_saved() -> None:
    state = started()
    note_saved(state, "r", {"s-0": 150})
    trials = [TrialResult(name=name, reason="OutOfMemory", tokens=100) for name in ("s-0", "s-1")]
    settle(state, RunEnded("r", result(*trials, code=ExitCode.OUT_OF_MEMORY), 31.0))
    assert state.runs["r"].charged.tokens == 50
    assert state.trials[0].checkpoint is not None and state.trials[0].checkpoint.tokens == 150


def test_a_record_counts_before_what_was_saved_on_the_way() -> None:
    state = started()
    note_saved(state, "r", {"s-0": 150})
    settle(state, RunEnded("r", result(completed("s-0", 1.5), completed("s-1", 2.5)), 31.0))
    assert state.trials[0].checkpoint == CheckpointRef(path="s-0/rung-1-r", layers=2, tokens=200)
    assert state.runs["r"].charged.tokens == 200


def test_a_checkpoint_on_the_way_that_cannot_be_read_is_done_without() -> None:
    state = started(start_tokens=0)
    note_saved(state, "r", {"s-0": 150, "s-1": 150})
    settle(state, RunEnded("r", None, 40.0))
    for name, start_tokens, how in (("r-1", 150, RunState.LOST), ("r-2", 0, RunState.FAULT)):
        apply(state, StartRun(name, 0, 1, 2, 200, start_tokens, (0, 1), "cpu", Amounts(50, 90.0, 9.0), 60.0, None, 1e6))
        trials = [TrialResult(name=trial, reason="Fault", tokens=start_tokens) for trial in ("s-0", "s-1")]
        fault = result(*trials, code=ExitCode.STUDY_FAULT)
        settle(state, RunEnded(name, fault.model_copy(update={"run": name, "message": "no whole checkpoint"}), 5.0))
        assert (state.runs[name].state, state.runs[name].message) == (how, "no whole checkpoint")
        assert state.trials[0].checkpoint is None and state.trials[0].waiting


def test_one_that_ran_out_of_memory_does_not_take_the_place_of_what_fewer_layers_had_learnt() -> None:
    state = started(layers=10, start_tokens=0)
    below = CheckpointRef(path="s-0/rung-0-x", layers=5, tokens=100)
    state.update_trial(0, checkpoint=below, checkpoint_rung=0)
    note_saved(state, "r", {"s-0": 50, "s-1": 50})
    trials = [TrialResult(name=name, reason="OutOfMemory") for name in ("s-0", "s-1")]
    settle(state, RunEnded("r", result(*trials, layers=10, code=ExitCode.OUT_OF_MEMORY), 31.0))
    assert state.trials[0].checkpoint == below
    assert state.trials[1].checkpoint is not None and state.trials[1].checkpoint.layers == 10


def test_a_trainer_that_could_not_even_read_its_run_is_heard() -> None:
    state = started()
    refused = RunResult(run="", layers=1, exit_code=ExitCode.STUDY_FAULT, trials=[], message="colour: not permitted")
    settle(state, RunEnded("r", refused, 5.0))
    assert (state.runs["r"].state, state.runs["r"].message) == (RunState.LOST, "colour: not permitted")


def test_a_lost_checkpoint_makes_its_trial_begin_again_and_no_other() -> None:
    state = started(start_tokens=0)
    stopped = [TrialResult(name=n, reason="Stopped", tokens=150, checkpoint=f"{n}/rung-1-r") for n in ("s-0", "s-1")]
    settle(state, RunEnded("r", result(*stopped, code=ExitCode.STOPPED), 40.0))
    apply(state, StartRun("r-1", 0, 1, 2, 200, 150, (0, 1), "cpu", Amounts(50, 90.0, 9.0), 60.0, None, 1e6))
    trials = [TrialResult(name=n, reason="Fault", tokens=150, checkpoint_lost=n == "s-1") for n in ("s-0", "s-1")]
    lost = result(*trials, code=ExitCode.INFRASTRUCTURE).model_copy(update={"run": "r-1", "message": "no checkpoint"})
    settle(state, RunEnded("r-1", lost, 5.0))
    assert (state.runs["r-1"].state, state.runs["r-1"].message) == (RunState.LOST, "no checkpoint")
    assert state.trials[0].checkpoint is not None and state.trials[1].checkpoint is None
    assert state.trials[0].waiting and state.trials[1].waiting


def test_a_checkpoint_of_which_there_is_a_record_must_fit() -> None:
    state = started(start_tokens=0)
    stopped = [TrialResult(name=n, reason="Stopped", tokens=150, checkpoint=f"{n}/rung-1-r") for n in ("s-0", "s-1")]
    settle(state, RunEnded("r", result(*stopped, code=ExitCode.STOPPED), 40.0))
    apply(state, StartRun("r-1", 0, 1, 2, 200, 150, (0, 1), "cpu", Amounts(50, 90.0, 9.0), 60.0, None, 1e6))
    trials = [TrialResult(name=trial, reason="Fault", tokens=150) for trial in ("s-0", "s-1")]
    fault = result(*trials, code=ExitCode.STUDY_FAULT).model_copy(update={"run": "r-1"})
    settle(state, RunEnded("r-1", fault, 5.0))
    assert state.runs["r-1"].state is RunState.FAULT and state.trials[0].checkpoint is not None


def test_what_changed_since_before_is_told_and_nothing_else() -> None:
    state = started()
    before = state.copy()
    assert not state.since(before)
    settle(state, RunEnded("r", result(completed("s-0", 1.5)), 31.0))
    state.started_at, state.disagreements = 5.0, 1
    changes = state.since(before)
    assert [trial.index for trial in changes.trials] == [0]
    assert [run.state for run in changes.runs] == [RunState.SUCCEEDED]
    assert (changes.started_at, changes.finished, changes.disagreements) == (5.0, None, 1)
