"""The loop around the engine: whatever a run's state and whatever is left of it, it comes to an end."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.state import Amounts, Finished, MemoryClass, Run, RunState, StudyState
from frostline_operator.local.store import SqliteStore
from frostline_operator.runtime.loop import StudyLoop
from frostline_operator.runtime.protocol import ClusterView, RunSettings, RunView, Trouble
from frostline_trainer.contract import ExitCode, RunResult, RunSpec, TrialResult
from tests.unit.engine.world import PROFILE, study

ACTIVE = [state for state in RunState if state.active]
PHASES = ["Absent", "Starting", "Running", "Ended"]
SPEC = study(
    search={"algorithm": "SuccessiveHalving", "trials": 12, "parallelism": 2, "maxTrialsPerRun": 1},
    budget={"tokens": 100_000},
)


class Place:
    """Two devices; a run starts, runs and ends within a look each, and stops when it is told to.

    Args:
        fault: whether every run finds the study at fault instead of training.
    """

    def __init__(self, fault: bool = False) -> None:
        self.fault = fault
        self.phases: dict[str, str] = {}
        self.told: set[str] = set()

    def classes(self, spec: HPOStudySpec, state: StudyState) -> tuple[MemoryClass, ...]:
        return (MemoryClass("cpu", None, 2),)

    def observe(self, spec: HPOStudySpec, state: StudyState) -> ClusterView:
        views = tuple(self._view(run, state) for run in state.active_runs)
        for name, phase in self.phases.items():
            self.phases[name] = {"Starting": "Running", "Running": "Ended"}.get(phase, phase)
        return ClusterView(views)

    def _view(self, run: Run, state: StudyState) -> RunView:
        phase = self.phases.get(run.name, "Absent")
        if phase == "Absent":
            return RunView(run.name, "Absent")
        if phase != "Ended":
            return RunView(run.name, "Starting" if phase == "Starting" else "Running", held_seconds=1.0)
        names = [state.trials[index].name for index in run.trials]
        if self.fault:
            trials = [TrialResult(name=name, reason="Fault") for name in names]
            code, message = ExitCode.STUDY_FAULT, "data.path: there is no /typo.txt"
        elif run.name in self.told:
            trials = [TrialResult(name=name, reason="Stopped") for name in names]
            code, message = ExitCode.STOPPED, ""
        else:
            trials = [TrialResult(name=n, reason="Completed", objective=1.0, tokens=run.tokens) for n in names]
            code, message = ExitCode.DONE, ""
        result = RunResult(run=run.name, layers=run.layers, exit_code=code, trials=trials, seconds=1.0, message=message)
        return RunView(run.name, "Ended", result=result)

    def start(self, spec: HPOStudySpec, run: Run, document: RunSpec) -> Trouble | None:
        self.phases.setdefault(run.name, "Starting")
        return None

    def stop(self, run: Run) -> None:
        self.told.add(run.name)
        if run.name in self.phases:
            self.phases[run.name] = "Ended"

    def release(self, run: Run) -> None:
        raise AssertionError("nothing lingers here")

    def sweep(self, spec: HPOStudySpec, folders: Sequence[str], over: bool) -> bool:
        return True

    def run_settings(self, spec: HPOStudySpec, run: Run) -> RunSettings:
        return RunSettings(checkpoint="/c", metrics_port=0, linger_seconds=1.0)


def opened(place: Place, folder: Path) -> StudyLoop:
    return StudyLoop("s", "uid", PROFILE, place, SqliteStore(folder / "s.sqlite3"), lambda: 1000.0)


def play(loop: StudyLoop, spec: HPOStudySpec = SPEC, most: int = 200) -> None:
    for _ in range(most):
        if loop.done:
            return
        loop.tick(spec)
    active = [f"{run.name} {run.state}" for run in loop.state.active_runs]
    raise AssertionError(f"no end in sight: {active}")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("state", ACTIVE)
@pytest.mark.parametrize("then", ["goes on", "is interrupted", "is over", "is suspended"])
def test_a_run_in_any_state_of_which_anything_is_left_comes_to_its_end(
    state: RunState, phase: str, then: str, tmp_path: Path
) -> None:
    place = Place()
    loop = opened(place, tmp_path)
    loop.tick(SPEC)
    first = loop.state.active_runs[0].name
    assert loop.state.runs[first].charged.tokens > 0
    loop.state.update_run(first, state=state)
    place.phases[first] = phase
    if phase == "Absent":
        del place.phases[first]
    if then == "is over":
        loop.state.finished = Finished("GoalReached", "", None)
        play(loop)
    elif then == "is suspended":
        for _ in range(10):
            loop.tick(SPEC.model_copy(update={"suspend": True}))
        assert loop.state.active_runs == []
    elif then == "is interrupted":
        loop.interrupt(SPEC)
        for _ in range(10):
            loop.book_only(SPEC)
        assert loop.state.active_runs == []
    else:
        play(loop)
    assert not loop.state.runs[first].state.active


def test_runs_are_told_to_stop_though_the_state_cannot_be_saved(tmp_path: Path) -> None:
    place = Place()
    store = SqliteStore(tmp_path / "s.sqlite3")
    loop = StudyLoop("s", "uid", PROFILE, place, store, lambda: 1000.0)
    loop.tick(SPEC)
    runs = {run.name for run in loop.state.active_runs}
    store.close()
    with pytest.raises(sqlite3.Error):
        loop.interrupt(SPEC)
    assert runs and place.told == runs


def test_runs_that_are_told_to_stop_before_they_were_started_end_at_once_and_give_back_their_reservation(
    tmp_path: Path,
) -> None:
    """The store says that they are to be started; the loop that wrote it was killed before it started them."""
    place = Place()
    loop = opened(place, tmp_path)
    loop.tick(SPEC)
    place.phases.clear()
    loop = opened(place, tmp_path)
    started = list(loop.state.runs)
    loop.interrupt(SPEC)
    loop.book_only(SPEC)
    assert [loop.state.runs[name].state for name in started] == [RunState.STOPPED] * 2
    assert [loop.state.runs[name].charged for name in started] == [Amounts()] * 2


def test_a_study_whose_every_run_is_at_fault_ends_though_more_trials_wait_than_devices_are_free(tmp_path: Path) -> None:
    loop = opened(Place(fault=True), tmp_path)
    play(loop)
    assert loop.state.finished is not None and loop.state.finished.reason == "Failed"
    assert "/typo.txt" in loop.state.finished.message


def test_a_run_of_which_nothing_is_left_is_lost(tmp_path: Path) -> None:
    """Somebody removed its folder while it ran."""
    place = Place()
    loop = opened(place, tmp_path)
    loop.tick(SPEC)
    loop.tick(SPEC)
    loop.tick(SPEC)
    running = next(run.name for run in loop.state.active_runs if run.state is RunState.RUNNING)
    del place.phases[running]
    loop.tick(SPEC)
    assert loop.state.runs[running].state is RunState.LOST
