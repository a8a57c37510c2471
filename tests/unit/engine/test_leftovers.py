"""Which checkpoints may go: never one that a trial could still go on from, and in the end all but the best's."""

import pytest

from frostline_operator.engine.leftovers import leftovers
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.runspec import run_spec
from frostline_trainer.contract import RunSpec
from tests.unit.engine.world import PROFILE, Trouble, World, study

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
        for document in documents(world):
            assert removed.isdisjoint(folder for trial in document.trials for folder in trial.earlier)
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


def documents(world: World) -> list[RunSpec]:
    """What the active runs are started with."""
    plan = make_plan(world.spec, PROFILE)
    return [
        run_spec("s", "u", world.spec, plan, world.state, run, checkpoint="/c", metrics_port=0, linger_seconds=0.0)
        for run in world.state.active_runs
    ]


def test_what_a_run_without_a_record_may_have_left_is_kept_until_its_trial_has_a_result() -> None:
    search = {"trials": 2, "parallelism": 1, "maxTrialsPerRun": 1}
    world = World(study(search=search), 3, Trouble(lost=1.0))
    world.tick()
    world.end_one()
    world.tick()
    [document] = documents(world)
    [trial] = document.trials
    [folder] = trial.earlier
    assert folder.startswith(f"{trial.name}/rung-0-") and trial.parent is None
    assert document.checkpoint_seconds == 600
    assert leftovers(world.state) == []
    world.trouble = Trouble()
    world.end_one()
    assert folder in leftovers(world.state)


def test_of_a_trial_that_is_stopped_again_and_again_only_the_newest_checkpoint_stays() -> None:
    fidelity = {"rungs": [{"layers": 1, "tokens": 100_000}]}
    world = World(study(search={"trials": 1, "parallelism": 1}, fidelity=fidelity), 3, Trouble(stopped=1.0))
    for _ in range(12):
        world.tick()
        world.end_one()
    [trial] = world.state.trials.values()
    assert trial.waiting and trial.checkpoint is not None
    assert len(leftovers(world.state)) >= 10 and trial.checkpoint.path not in leftovers(world.state)
    world.tick()
    [document] = documents(world)
    assert document.trials[0].earlier == [] and document.trials[0].parent == trial.checkpoint


def test_attempts_with_other_layers_left_nothing_that_can_be_gone_on_from() -> None:
    world = World(study(search={"trials": 1, "parallelism": 1}), 3, Trouble(lost=1.0))
    world.tick()
    world.end_one()
    [run] = world.state.runs.values()
    world.state.update_run(run.name, layers=run.layers + 1)
    world.tick()
    [document] = documents(world)
    assert document.trials[0].earlier == []


def test_nothing_goes_while_its_run_is_open() -> None:
    world = World(study(), 1)
    world.tick()
    assert leftovers(world.state) == []
