"""The learning rate at a rung that trains fewer layers: what is multiplied, and what never is."""

from __future__ import annotations

from typing import Any

import pytest

from frostline_operator.engine.depth_transfer import transferred
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.runspec import run_spec
from frostline_trainer.contract import RunSpec, TrainingSpec
from tests.unit.engine.world import LAYERS, PROFILE, World, study


def rate(layers: int, rung: int = 0, optimizer: str = "AdamW", lr: float = 1e-3, **training: Any) -> float:
    spec = TrainingSpec.model_validate({"optimizer": {"name": optimizer, "lr": lr}, **training})
    return transferred(spec, rung, layers, 10).optimizer.lr


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "Adafactor", "AdamW8bit"])
def test_auto_multiplies_by_the_share_of_layers_that_stands_still(optimizer: str) -> None:
    rates = [rate(z, optimizer=optimizer, depthTransfer="Auto") for z in (1, 2, 5, 10)]
    assert rates == pytest.approx([1e-2, 5e-3, 2e-3, 1e-3])


def test_nothing_is_multiplied_unless_asked_for() -> None:
    assert rate(1) == 1e-3


@pytest.mark.parametrize("training", [{"depthTransfer": "Auto"}, {"depthFactors": [8.0]}])
def test_the_rate_of_sgd_and_that_of_full_depth_stay_as_they_are(training: dict[str, Any]) -> None:
    assert rate(1, optimizer="SGD", **training) == 1e-3
    assert rate(10, **training) == 1e-3


def test_factors_are_by_rung_and_end_with_the_list() -> None:
    assert [rate(2, rung, depthFactors=[16, 4]) for rung in range(3)] == pytest.approx([16e-3, 4e-3, 1e-3])


def test_no_rate_leaves_the_contracts_bounds() -> None:
    assert rate(1, lr=500.0, depthTransfer="Auto") == 1e3


def test_what_was_multiplied_is_not_multiplied_again() -> None:
    spec = TrainingSpec.model_validate({"depthTransfer": "Auto"})
    once = transferred(spec, 0, 2, 10)
    assert transferred(once, 0, 2, 10) == once
    assert TrainingSpec.model_validate_json(once.model_dump_json(by_alias=True)) == once


def test_a_run_is_given_the_rate_in_force_and_a_trial_keeps_its_own() -> None:
    search = {"algorithm": "SuccessiveHalving", "trials": 4, "parallelism": 1}
    world = World(study(search=search, training={"batchSize": 5, "sequenceLength": 2, "depthTransfer": "Auto"}))
    plan, factors = make_plan(world.spec, PROFILE), set()
    while world.state.finished is None:
        world.tick()
        for run in world.state.active_runs:
            document: RunSpec = run_spec(
                "s", "uid", world.spec, plan, world.state, run, checkpoint="/c", metrics_port=0, linger_seconds=1.0
            )
            for trial in document.trials:
                own = trial.hyperparameters["lr"]
                assert isinstance(own, float)
                assert trial.training.optimizer.lr == pytest.approx(own * LAYERS / run.layers)
                factors.add(LAYERS / run.layers)
        if world.state.active_runs:
            world.end_one()
    assert len(factors) > 1 and 1.0 in factors
