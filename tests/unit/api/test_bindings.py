"""Hyperparameters and the fields they go to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_operator.api.bindings import BindingError, Bound, bind, is_active
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.api.targets import UnknownFieldError, bindable, resolve, suggestion
from frostline_trainer.contract import ModelSpec, Scalar

LR = {"name": "lr", "type": "Float", "min": 1e-4, "max": 1e-1}


def spec(parameters: list[dict[str, Any]], **changes: Any) -> HPOStudySpec:
    sections: dict[str, Any] = {
        "parameters": parameters,
        "search": {"trials": 1},
        "fidelity": {"tokens": {"max": 1_000_000}},
        "model": {"family": "CausalLM", "config": {"model_type": "gpt2", "n_embd": 64, "rope": {"factor": 2.0}}},
        "data": {"kind": "Text", "builtin": "python-docs"},
    }
    return HPOStudySpec.model_validate(sections | changes)


def mlp(parameters: list[dict[str, Any]], **changes: Any) -> HPOStudySpec:
    return spec(
        parameters,
        **{
            "model": {"family": "MLP", "hidden": [8, 8]},
            "data": {"kind": "Table", "builtin": "breast-cancer"},
            "fidelity": {"samples": {"max": 100_000}},
            **changes,
        },
    )


def bound_by(study: HPOStudySpec, assignment: dict[str, Scalar]) -> Bound:
    return bind(study.parameters, study.base, assignment)


def test_values_go_to_their_fields_and_the_rest_stays() -> None:
    study = spec(
        [
            LR,
            {"name": "weight_decay", "type": "Float", "min": 0, "max": 1},
            {"name": "batchSize", "type": "Int", "min": 1, "max": 64},
            {"name": "opt", "type": "Categorical", "values": ["AdamW", "Adam"], "bind": "training.optimizer.name"},
            {"name": "width", "type": "Categorical", "values": [64, 128], "bind": "model.config.n_embd"},
            {"name": "factor", "type": "Float", "min": 1, "max": 4, "bind": "model.config.rope.factor"},
            {"name": "new", "type": "Constant", "value": "x", "bind": "model.config.some.where"},
        ]
    )
    assignment: dict[str, Scalar] = {
        "lr": 0.01, "weight_decay": 0.5, "batchSize": 16, "opt": "Adam", "width": 128, "factor": 3.0, "new": "x",
    }  # fmt: skip
    model, data, training = bound_by(study, assignment)
    assert model.config == {
        "model_type": "gpt2", "n_embd": 128, "rope": {"factor": 3.0}, "some": {"where": "x"},
    }  # fmt: skip
    assert training.optimizer.model_dump() == study.training.optimizer.model_dump() | {
        "name": "Adam", "lr": 0.01, "weight_decay": 0.5,
    }  # fmt: skip
    assert training.batch_size == 16
    assert data == study.data
    assert study.model.config == {"model_type": "gpt2", "n_embd": 64, "rope": {"factor": 2.0}}, "the study is unchanged"


def test_one_width_of_an_mlp() -> None:
    study = mlp([{"name": "first", "type": "Int", "min": 4, "max": 64, "bind": "model.hidden.0"}])
    assert bound_by(study, {"first": 32}).model.hidden == [32, 8]


def test_a_conditional_hyperparameter_that_is_absent_leaves_its_field() -> None:
    study = spec(
        [
            {"name": "opt", "type": "Categorical", "values": ["AdamW", "SGD"], "bind": "training.optimizer.name"},
            {
                "name": "momentum",
                "type": "Float",
                "min": 0,
                "max": 0.5,
                "when": {"parameter": "opt", "values": ["SGD"]},
            },
        ]
    )
    assert bound_by(study, {"opt": "AdamW"}).training.optimizer.momentum == 0.9
    assert bound_by(study, {"opt": "SGD", "momentum": 0.5}).training.optimizer.momentum == 0.5


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ({}, "the assignment lacks lr"),
        ({"lr": 0.1, "wd": 1}, "the assignment has wd, which is not active"),
        ({"lr": "fast"}, "training.optimizer.lr: must be a number, got 'fast'"),
        ({"lr": -1.0}, "training.optimizer.lr: must be above 0, got -1"),
        ({"lr": True}, "training.optimizer.lr: must be a number, got true"),
    ],
)
def test_assignments_that_do_not_fit(assignment: dict[str, Scalar], message: str) -> None:
    with pytest.raises(BindingError) as caught:
        bound_by(spec([LR]), assignment)
    assert str(caught.value) == message


def test_true_is_not_one_for_a_condition() -> None:
    study = spec(
        [
            {"name": "flag", "type": "Categorical", "values": [1, 2], "bind": "model.config.flag"},
            {"name": "x", "type": "Float", "min": 0, "max": 1, "bind": "model.config.x",
             "when": {"parameter": "flag", "values": [1]}},
        ]
    )  # fmt: skip
    child = study.parameters[1]
    assert is_active(child, {"flag": 1})
    assert is_active(child, {"flag": 1.0})
    assert not is_active(child, {"flag": True})
    assert not is_active(child, {})


def test_every_bindable_field_resolves_to_itself() -> None:
    assert "training.optimizer.lr" in bindable()
    assert "data.augment" in bindable()
    assert "data.path" not in bindable()
    for path in bindable():
        assert resolve(path).text == path
        assert suggestion(path.rpartition(".")[2]) is not None


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("learning_rate", "training.optimizer.lr"),
        ("learnRate", None),
        ("WeightDecay", "training.optimizer.weightDecay"),
        ("batch_size", "training.batchSize"),
        ("momentun", "training.optimizer.momentum"),
        ("scheduler", "training.schedule.name"),
        ("grad_clip", "training.gradientClipping"),
        ("warm_up", "training.schedule.warmup"),
        ("zzz", None),
    ],
)
def test_what_a_name_most_likely_means(name: str, path: str | None) -> None:
    assert suggestion(name) == path


@pytest.mark.parametrize("path", ["model.config.n_layer", "model.config.text.num_hidden_layers", "model.name"])
def test_fields_that_change_the_depth(path: str) -> None:
    assert resolve(path).changes_depth


@pytest.mark.parametrize("path", ["model.config.n_embd", "model.activation", "training.optimizer.name", "data.augment"])
def test_fields_that_do_not(path: str) -> None:
    assert not resolve(path).changes_depth


@given(st.lists(st.sampled_from(["training", "model", "data", "config", "lr", "optimizer", "hidden", "0", "", "x"])))
@settings(max_examples=200, deadline=None)
def test_any_path_resolves_or_says_why_not(parts: list[str]) -> None:
    try:
        resolve(".".join(parts))
    except UnknownFieldError as error:
        assert ";" in str(error)


def test_depth_may_vary_where_every_rung_trains_all_layers() -> None:
    depth = {"name": "d", "type": "Categorical", "values": [4, 8], "bind": "model.config.n_layer"}
    assert bound_by(spec([depth], fidelity={"layers": {"min": "All"}, "tokens": {"max": 100_000}}), {"d": 8})
    rungs = [{"layers": "All", "tokens": 10_000}, {"layers": "All", "tokens": 20_000}]
    assert bound_by(spec([depth], fidelity={"rungs": rungs}), {"d": 8}).model.config["n_layer"] == 8


def test_two_hyperparameters_for_one_field_where_their_conditions_exclude_each_other() -> None:
    study = spec(
        [
            {"name": "opt", "type": "Categorical", "values": ["AdamW", "SGD"], "bind": "training.optimizer.name"},
            {**LR, "name": "a", "bind": "training.optimizer.lr", "when": {"parameter": "opt", "values": ["AdamW"]}},
            {**LR, "name": "b", "bind": "training.optimizer.lr", "when": {"parameter": "opt", "values": ["SGD"]}},
        ]
    )
    assert bound_by(study, {"opt": "SGD", "b": 0.05}).training.optimizer.lr == 0.05


def test_a_custom_model_takes_names_bound_to_nothing() -> None:
    study = spec(
        [{"name": "whatever", "type": "Float", "min": 0, "max": 1}],
        model={"family": "Custom", "entrypoint": "a:b"},
        data={"kind": "None"},
    )
    bound = bound_by(study, {"whatever": 0.5})
    assert bound.training == study.training


def test_defaults_of_other_families_written_out_are_no_mistake() -> None:
    written = ModelSpec(family="MLP", hidden=[4]).model_dump()
    assert ModelSpec.model_validate(written).family == "MLP"
