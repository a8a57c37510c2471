"""Turning waiting trials into runs: who shares one."""

from __future__ import annotations

from typing import Any

import pytest

from frostline_operator.engine.actions import StartRun
from frostline_trainer.contract import Scalar

from .world import World, study

SUFFIX_ONLY = [
    ("training.optimizer.lr", [0.1, 0.2]), ("training.optimizer.name", ["AdamW", "SGD"]),
    ("training.schedule.warmup", [0.1, 0.2]), ("training.gradientClipping", [0.5, 1.0]),
    ("training.labelSmoothing", [0.0, 0.1]), ("training.dropout", [0.1, 0.2]),
]  # fmt: skip
SHARED = [
    ("training.batchSize", [4, 5]), ("training.accumulation", [1, 2]), ("training.sequenceLength", [2, 3]),
    ("training.precision", ["fp32", "bf16"]), ("training.prefixPrecision", ["fp32", "bf16"]),
    ("training.activationCheckpointing", [False, True]), ("model.config.n_embd", [128, 256]),
    ("model.config.resid_pdrop", [0.0, 0.1]),
]  # fmt: skip


def runs_of_first_tick(choice: dict[str, Any], **changes: Any) -> list[StartRun]:
    parameters = [{"name": "p", "type": "Categorical", **choice}]
    search = {"algorithm": "SuccessiveHalving", "trials": 2, "parallelism": 1}
    actions = World(study(parameters=parameters, search=search, **changes)).tick()
    return [action for action in actions if isinstance(action, StartRun)]


@pytest.mark.parametrize(("path", "values"), SUFFIX_ONLY)
def test_trials_that_differ_in_the_trainable_part_only_share_a_run(path: str, values: list[Scalar]) -> None:
    [run] = runs_of_first_tick({"values": values, "bind": path})
    assert len(run.trials) == 2


@pytest.mark.parametrize(("path", "values"), SHARED)
def test_trials_that_differ_in_prefix_batches_or_precision_do_not(path: str, values: list[Scalar]) -> None:
    [run] = runs_of_first_tick({"values": values, "bind": path})
    assert len(run.trials) == 1


def test_trials_of_a_custom_entrypoint_share_a_run_whatever_reaches_the_entrypoint_only() -> None:
    """It builds the model of each trial itself, and the trials of a run take turns."""
    custom = {"model": {"family": "Custom", "entrypoint": "a:b"}, "data": {"kind": "None"}}
    [run] = runs_of_first_tick({"values": [1, 2]}, **custom)
    assert len(run.trials) == 2
