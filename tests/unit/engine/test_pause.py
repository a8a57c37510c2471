"""A full disk: a study waits and goes on, and no trial is the worse for it."""

from __future__ import annotations

import pytest

from frostline_operator.engine.actions import StartRun, Wait
from frostline_operator.engine.launch import MOST_LOST
from frostline_operator.engine.pause import LONGEST_SECONDS, paused_until
from frostline_operator.engine.state import Amounts, Run, RunState, StudyState
from frostline_operator.engine.transition import RunEnded
from frostline_trainer.contract import ExitCode

from .world import World, study


def state(*ends: float | None) -> StudyState:
    """Runs that ended for want of space at these times; None succeeded."""
    runs = {}
    for number, at in enumerate(ends):
        how = RunState.SUCCEEDED if at is None else RunState.LOST
        name = f"r{number}"
        runs[name] = Run(name, 0, 0, 1, 100, 0, (0,), "cpu", how, Amounts(), no_space_at=at)
    return StudyState(runs=runs)


def test_pauses_double_up_to_ten_minutes_and_end_with_a_success() -> None:
    assert paused_until(state()) is None and paused_until(state(None)) is None
    assert paused_until(state(1000)) == 1030
    assert paused_until(state(1000, 1030)) == 1090
    assert paused_until(state(1000, 1001, 1002)) == 1030, "runs side by side fail for one reason"
    assert paused_until(state(1000, 1030, None)) is None
    assert paused_until(state(1000, 1030, None, 2000)) == 2030
    assert paused_until(state(*(1000 + 1000 * n for n in range(30)))) == 30_000 + LONGEST_SECONDS


class FullDisk(World):
    """Each run ends for want of space until a moment; every other one cannot even leave a record."""

    until = 20_000.0

    def _ending(self, run: Run, seconds: float) -> RunEnded:
        if self.now >= self.until:
            return super()._ending(run, seconds)
        if len(self.state.runs) % 2:
            return RunEnded(run.name, None, seconds, no_space=True, at=self.now)
        ended = self._whole_run(run, ExitCode.INFRASTRUCTURE, "Fault", seconds, 0.0)
        assert ended.result is not None
        return RunEnded(run.name, ended.result.model_copy(update={"no_space": True}), seconds, at=self.now)


@pytest.mark.parametrize("algorithm", ["SuccessiveHalving", "ASHA"])
def test_no_trial_is_failed_for_a_full_disk_and_the_study_comes_to_what_a_calm_one_does(algorithm: str) -> None:
    search = {"algorithm": algorithm, "trials": 6, "parallelism": 1}
    calm, full = World(study(search=search)), FullDisk(study(search=search))
    expected, state = calm.play(), full.play()
    assert state.finished is not None and state.finished == expected.finished
    lost = [run for run in state.runs.values() if run.no_space_at is not None]
    assert len(lost) > MOST_LOST
    assert not any(result.state == "Failed" for trial in state.trials.values() for result in trial.results)


def test_while_a_study_is_paused_it_starts_nothing_and_says_until_when() -> None:
    world = FullDisk(study(search={"algorithm": "ASHA", "trials": 6, "parallelism": 1}))
    world.tick()
    world.end_one()
    trials, ended = len(world.state.trials), world.now
    for _ in range(3):
        [wait] = world.tick()
        assert isinstance(wait, Wait) and "no space is left" in wait.reason and "UTC" in wait.reason
        world.now += 9.9
    assert len(world.state.trials) == trials
    world.now = ended + 30
    assert any(isinstance(action, StartRun) for action in world.tick())
