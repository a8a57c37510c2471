"""The loop around the engine where values come through Prometheus: what counts, what is counted, what ends a wait."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.reconcile import Patience, Sample
from frostline_operator.engine.state import MemoryClass, Run, RunState, StudyState
from frostline_operator.local.store import SqliteStore
from frostline_operator.runtime.loop import StudyLoop
from frostline_operator.runtime.protocol import ClusterView, RunSettings, RunView, Trouble
from frostline_trainer.contract import ExitCode, RunResult, RunSpec, TrialResult
from tests.unit.engine.world import PROFILE, study

SPEC = study(search={"algorithm": "SuccessiveHalving", "trials": 2, "parallelism": 1}, budget={"wallClock": "10m"})


class Place:
    """A cluster where every run ends at once with a record; Prometheus shows what a test lets it show."""

    def __init__(self) -> None:
        self.wait: Patience | None = Patience(10.0)
        self.shown: dict[str, list[Sample]] = {}
        self.documents: dict[str, RunSpec] = {}
        self.now = 1000.0

    def classes(self, spec: HPOStudySpec, state: StudyState) -> tuple[MemoryClass, ...]:
        return (MemoryClass("cpu", None, 1),)

    def observe(self, spec: HPOStudySpec, state: StudyState) -> ClusterView:
        runs = (*state.active_runs, *state.awaiting_runs)
        views = [self._ended(run) if run.name in self.documents else RunView(run.name, "Absent") for run in runs]
        return ClusterView(tuple(views), patience=self.wait)

    def _ended(self, run: Run) -> RunView:
        names = [trial.name for trial in self.documents[run.name].trials]
        trials = [
            TrialResult(name=n, reason="Completed", objective=1.0 + i, tokens=run.tokens) for i, n in enumerate(names)
        ]
        result = RunResult(run=run.name, layers=run.layers, exit_code=ExitCode.DONE, trials=trials, seconds=1.0)
        return RunView(run.name, "Ended", tuple(self.shown.get(run.name, ())), result=result)

    def start(self, spec: HPOStudySpec, run: Run, document: RunSpec) -> Trouble | None:
        self.documents[run.name] = document
        return None

    def stop(self, run: Run) -> None:
        raise AssertionError("nothing is to be stopped")

    def release(self, run: Run) -> None:
        raise AssertionError("nothing lingers here")

    def sweep(self, spec: HPOStudySpec, folders: Sequence[str], over: bool) -> bool:
        return True

    def run_settings(self, spec: HPOStudySpec, run: Run) -> RunSettings:
        return RunSettings(checkpoint="/c", metrics_port=0, linger_seconds=1.0)


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def loop(place: Place, tmp_path: Path) -> StudyLoop:
    made = StudyLoop("s", "uid", PROFILE, place, SqliteStore(tmp_path / "s.sqlite3"), lambda: place.now)
    made.tick(SPEC)
    made.tick(SPEC)
    return made


def awaiting(loop: StudyLoop) -> Run:
    [run] = loop.state.awaiting_runs
    return run


def show(place: Place, loop: StudyLoop, *values: float) -> str:
    run = awaiting(loop)
    names = [loop.state.trials[index].name for index in run.trials]
    place.shown[run.name] = [Sample(n, run.rung, run.tokens, v) for n, v in zip(names, values, strict=False)]
    return run.name


def test_values_that_are_awaited_hold_up_the_study_and_it_says_so(place: Place, loop: StudyLoop) -> None:
    loop.tick(SPEC)
    assert loop.state.active_runs == [] and not loop.done
    assert loop.waiting_for == "1 run has ended, whose values Prometheus has yet to show"


def test_the_value_that_prometheus_shows_counts(place: Place, loop: StudyLoop) -> None:
    name = show(place, loop, 1.0, 2.0)
    loop.tick(SPEC)
    assert loop.state.runs[name].state is RunState.SUCCEEDED
    first = loop.state.trials[0].results[0]
    assert (first.value, first.source) == (1.0, "Prometheus") and loop.state.disagreements == 0


def test_a_value_below_the_rungs_tokens_does_not(place: Place, loop: StudyLoop) -> None:
    run = awaiting(loop)
    place.shown[run.name] = [Sample("s-0000", run.rung, run.tokens - 1, 0.5)]
    loop.tick(SPEC)
    assert awaiting(loop).name == run.name


def test_what_differs_from_the_record_counts_and_is_counted(place: Place, loop: StudyLoop) -> None:
    show(place, loop, 0.5)
    loop.tick(SPEC)
    assert loop.state.trials[0].results[0].value == 0.5
    assert loop.state.disagreements == 1
    store = loop.store
    assert isinstance(store, SqliteStore)
    [said] = [message for _, reason, message in store.events() if reason == "SourceDisagreement"]
    assert "showed 0.5" in said and "the value from Prometheus counts" in said
    assert store.load().disagreements == 1


def test_a_query_of_another_kind_of_value_is_not_held_against_the_record(place: Place, loop: StudyLoop) -> None:
    place.wait = Patience(10.0, record_counts=False, comparable=False)
    show(place, loop, 0.5)
    loop.tick(SPEC)
    assert loop.state.disagreements == 0


def test_the_record_stands_in_once_the_value_had_its_chance(place: Place, loop: StudyLoop) -> None:
    place.now += 9.0
    loop.tick(SPEC)
    assert loop.state.awaiting_runs
    place.now += 1.0
    loop.tick(SPEC)
    first = loop.state.trials[0].results[0]
    assert (first.value, first.source) == (1.0, "Record")


def test_a_study_that_changes_its_source_goes_on_at_once(place: Place, loop: StudyLoop) -> None:
    place.wait = None
    loop.tick(SPEC)
    assert loop.state.trials[0].results[0].source == "Record"


def test_waiting_for_a_value_ends_with_the_studys_time(place: Place, loop: StudyLoop) -> None:
    place.wait = Patience(10.0, record_counts=False)
    place.now += 599.0
    loop.tick(SPEC)
    assert loop.state.awaiting_runs
    place.now += 2.0
    loop.tick(SPEC)
    assert loop.done and loop.state.finished is not None
    assert loop.state.finished.reason == "Failed" and loop.state.finished.best is None
    assert loop.state.finished.message.startswith("budget.wallClock allows no further run")


def test_what_is_awaited_survives_the_loop(place: Place, loop: StudyLoop, tmp_path: Path) -> None:
    again = StudyLoop("s", "uid", PROFILE, place, SqliteStore(tmp_path / "s.sqlite3"), lambda: place.now)
    assert again.state == loop.state
    show(place, again, 1.0)
    again.tick(SPEC)
    assert again.state.trials[0].results[0].source == "Prometheus"
