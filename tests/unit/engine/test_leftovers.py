"""Which checkpoints may go: never one that a trial could still go on from, and in the end all but the best's."""

import pytest

from frostline_operator.engine.leftovers import leftovers
from tests.unit.engine.world import Trouble, World, study

ALGORITHMS = ("SuccessiveHalving", "Hyperband", "ASHA")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("promotion", ["RestartOnThaw", "Continue", "Restart"])
def test_what_is_removed_is_never_asked_for_again(algorithm: str, promotion: str) -> None:
    search = {"algorithm": algorithm, "trials": 16, "parallelism": 3, "maxTrialsPerRun": 2}
    world = World(
        study(search=search, promotion=promotion), 7, Trouble(lost=0.15, stopped=0.2, diverging=frozenset({3}))
    )
    removed: set[str] = set()
    for _ in range(3000):
        world.tick()
        for trial in world.state.trials.values():
            if trial.waiting and trial.checkpoint is not None:
                assert trial.checkpoint.path not in removed
        removed |= set(leftovers(world.state))
        if not world.state.active_runs:
            break
        world.end_one()
    finished = world.state.finished
    assert finished is not None and finished.best is not None
    best = world.state.trials[finished.best].checkpoint
    assert best is not None and best.path not in leftovers(world.state)
    others = [t for t in world.state.trials.values() if t.checkpoint and t.index != finished.best]
    assert others and {t.checkpoint.path for t in others if t.checkpoint} <= set(leftovers(world.state))


def test_of_a_trial_that_is_stopped_or_lost_again_and_again_only_the_newest_checkpoint_stays() -> None:
    fidelity = {"rungs": [{"layers": 1, "tokens": 100_000}]}
    search = {"trials": 1, "parallelism": 1}
    world = World(study(search=search, fidelity=fidelity), 3, Trouble(stopped=1.0, lost=0.3))
    for _ in range(12):
        world.tick()
        world.end_one()
    [trial] = world.state.trials.values()
    assert trial.waiting and trial.checkpoint is not None
    assert len(leftovers(world.state)) >= 11 and trial.checkpoint.path not in leftovers(world.state)


def test_nothing_goes_while_its_run_is_open() -> None:
    world = World(study(), 1)
    world.tick()
    assert leftovers(world.state) == []
