"""The corners of a search space at which memory is foretold."""

from __future__ import annotations

import json
from typing import Any

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.profiling import (
    MOST_CHOICES,
    MOST_CORNERS,
    choices,
    choices_document,
    corners,
    profile_document,
)


def study(parameters: list[dict[str, Any]], **model: Any) -> HPOStudySpec:
    document = {
        "objective": {"metric": "loss", "direction": "Minimize"},
        "parameters": parameters,
        "search": {"algorithm": "ASHA", "trials": 8},
        "fidelity": {"tokens" if model.get("family") == "Custom" else "samples": {"max": 100000}},
        "model": model or {"family": "MLP", "hidden": [32, 32]},
        "data": {"kind": "Table", "builtin": "breast-cancer"},
        "training": {"batchSize": 8},
    }
    return HPOStudySpec.model_validate_json(json.dumps(document))


LR = {"name": "lr", "type": "Float", "min": 1e-4, "max": 1e-1, "scale": "Log"}
BATCH = {"name": "batchSize", "type": "Int", "min": 4, "max": 64}
OPTIMIZER = {"name": "opt", "type": "Categorical", "values": ["SGD", "AdamW"], "bind": "training.optimizer.name"}


def test_what_changes_no_size_makes_no_corner() -> None:
    assert list(corners(study([LR]))) == []


def test_ranges_are_tried_at_their_ends_and_choices_one_by_one() -> None:
    found = list(corners(study([LR, BATCH, OPTIMIZER])))
    trained = {(v.training.batch_size, v.training.optimizer.name) for v in found if v.training is not None}
    assert trained == {(4, "SGD"), (4, "AdamW"), (64, "SGD"), (64, "AdamW")}
    assert found[-1].label == "batchSize = 64, opt = AdamW"


def test_a_conditional_hyperparameter_counts_where_it_exists() -> None:
    width = {
        "name": "width", "type": "Int", "min": 16, "max": 256, "bind": "model.hidden.0",
        "when": {"parameter": "opt", "values": ["SGD"]},
    }  # fmt: skip
    found = list(corners(study([OPTIMIZER, width])))
    assert {v.label for v in found} == {"opt = SGD, width = 16", "opt = SGD, width = 256", "opt = AdamW"}


def test_there_are_never_many_corners_and_the_largest_values_together_are_among_them() -> None:
    many = [{"name": f"w{i}", "type": "Int", "min": 8, "max": 64, "bind": f"model.hidden.{i}"} for i in range(6)]
    found = list(corners(study([*many, BATCH], family="MLP", hidden=[8] * 6)))
    assert len(found) <= MOST_CORNERS
    assert found[0].model is not None and found[0].model.hidden == [64] * 6
    assert found[0].training is not None and found[0].training.batch_size == 64


def test_of_a_custom_entrypoint_every_unbound_hyperparameter_counts() -> None:
    spec = study([LR, {"name": "width", "type": "Int", "min": 8, "max": 64}], family="Custom", entrypoint="a.b:c")
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"kind": "None", "builtin": None})})
    assert [v.hyperparameters["width"] for v in corners(spec) if v.hyperparameters is not None] == [8, 64]
    assert "width" in json.loads(profile_document(spec))["hyperparameters"]


def test_every_choice_and_both_ends_of_a_range_are_tried_out_beside_several_companies() -> None:
    width = {"name": "width", "type": "Int", "min": 16, "max": 256, "bind": "model.hidden.0"}
    offered = list(choices(study([LR, OPTIMIZER, width])))
    assert {v.label for v in offered} == {"opt = SGD", "opt = AdamW", "width = 16", "width = 256"}
    beside = {v.model.hidden[0] for v in offered if v.label == "opt = SGD" and v.model is not None}
    assert len(beside) > 1
    assert len(json.loads(choices_document(study([LR, OPTIMIZER, width])))["variants"]) <= MOST_CHOICES


def test_a_choice_under_a_condition_is_tried_out_where_it_exists() -> None:
    momentum = {
        "name": "nesterov", "type": "Categorical", "values": [True, False], "bind": "training.optimizer.nesterov",
        "when": {"parameter": "opt", "values": ["SGD"]},
    }  # fmt: skip
    offered = [v for v in choices(study([LR, OPTIMIZER, momentum])) if v.label.startswith("nesterov")]
    assert {v.label for v in offered} == {"nesterov = True", "nesterov = False"}
    assert {v.training.optimizer.name for v in offered if v.training is not None} == {"SGD"}
