"""The document that a run is started with."""

from __future__ import annotations

from frostline_operator.engine.actions import StartRun
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.runspec import run_spec, winner_spec
from frostline_trainer.contract import CheckpointRef, RunSpec

from .world import PROFILE, World, study


def first_document(world: World) -> RunSpec:
    world.tick()
    run = next(iter(world.state.runs.values()))
    plan = make_plan(world.spec, PROFILE)
    return run_spec("s", "uid", world.spec, plan, world.state, run, checkpoint="/c", metrics_port=0, linger_seconds=1.0)


def test_hyperparameters_are_in_the_fields_they_are_bound_to() -> None:
    document = first_document(World(study()))
    for trial in document.trials:
        assert trial.training.optimizer.lr == trial.hyperparameters["lr"]


def test_the_learning_rate_schedule_extends_over_the_study_or_the_rung() -> None:
    for promotion in ("RestartOnThaw", "Continue"):
        assert first_document(World(study(promotion=promotion))).horizon == 800
    assert first_document(World(study(promotion="Restart"))).horizon == 100


def test_a_promoted_trial_continues_from_its_checkpoint_only_where_it_should() -> None:
    for promotion, lowest, start in (
        ("RestartOnThaw", 2, 100), ("RestartOnThaw", 1, 0), ("Continue", 1, 100), ("Restart", 2, 0),
    ):  # fmt: skip
        fidelity = {"layers": {"min": lowest}, "tokens": {"max": 800, "min": 100}}
        world = World(study(promotion=promotion, fidelity=fidelity, search={"trials": 2, "parallelism": 1}))
        world.tick()
        world.end_one()
        started = [action for action in world.tick() if isinstance(action, StartRun)]
        run = world.state.runs[started[0].name]
        assert run.rung == 1 and run.start_tokens == start
        plan = make_plan(world.spec, PROFILE)
        document = run_spec(
            "s", "uid", world.spec, plan, world.state, run, checkpoint="/c", metrics_port=0, linger_seconds=1.0
        )
        parent = document.trials[0].parent
        assert (parent is not None) is (start > 0)
        assert parent is None or (isinstance(parent, CheckpointRef) and parent.tokens == 100)


def test_the_document_survives_its_journey_as_json() -> None:
    document = first_document(World(study()))
    assert RunSpec.model_validate_json(document.model_dump_json(by_alias=True, exclude_none=True)) == document


def test_the_cache_of_the_prefix_is_as_large_as_the_study_allows() -> None:
    assert first_document(World(study())).cache_bytes == 0
    document = first_document(World(study(placement={"prefixCache": "64Mi", "prefixCacheDisk": "1Gi"})))
    assert (document.cache_bytes, document.cache_disk_bytes) == (64 * 2**20, 2**30)


def test_what_is_exported_of_a_trial_is_what_its_checkpoint_holds() -> None:
    world = World(study())
    world.tick()
    checkpoint = CheckpointRef(path="t/r/x", layers=3, tokens=100)
    world.state.update_trial(0, checkpoint=checkpoint, checkpoint_rung=1)
    document = winner_spec("s", "uid", world.spec, world.state.trials[0], "/c")
    [trial] = document.trials
    assert (document.layers, document.tokens, document.rung, trial.parent) == (3, 100, 1, checkpoint)
    assert trial.training.optimizer.lr == world.state.trials[0].assignment["lr"]
