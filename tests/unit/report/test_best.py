"""The best configuration as YAML: the loader reads it, and binds it to the same model, data and training."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from frostline_operator.api.bindings import Bound, bind, is_active
from frostline_operator.api.loader import parse_study
from frostline_operator.api.parameters import Parameter
from frostline_operator.api.study import HPOStudy
from frostline_operator.api.yaml import to_yaml
from frostline_operator.report.best import best_to_yaml, best_yaml
from frostline_operator.report.record import Best, StudyRecord
from frostline_trainer.contract import Scalar

from . import records

_TRAINING = """
    - {name: lr, type: Float, min: 1e-5, max: 1, scale: Log}
    - {name: weightDecay, type: Categorical, values: [0.0, 0.1]}
    - {name: batchSize, type: Int, min: 1, max: 64}
    - {name: nesterov, type: Categorical, values: [true, false]}
    - {name: opt, type: Categorical, values: [AdamW, SGD], bind: training.optimizer.name}
    - {name: momentum, type: Categorical, values: [0.5, 0.9], when: {parameter: opt, values: [SGD]}}
    - {name: fixed, type: Constant, value: 0.1, bind: training.schedule.final}
"""
FAMILIES = {
    "CausalLM": (
        """
    - {name: width, type: Categorical, values: [64, 128], bind: model.config.n_embd}
    - {name: activation, type: Categorical, values: [gelu_new, "no", "1e5"], bind: model.config.activation_function}""",
        "family: CausalLM, config: {model_type: gpt2, n_layer: 4, n_embd: 64, n_head: 4}",
        "kind: Text, builtin: python-docs",
    ),
    "Vision": (
        "\n    - {name: augment, type: Categorical, values: [true, false], bind: data.augment}",
        "family: Vision, name: resnet18",
        "kind: Images, builtin: digits",
    ),
    "MLP": (
        """
    - {name: first, type: Int, min: 8, max: 64, bind: model.hidden.0}
    - {name: act, type: Categorical, values: [relu, tanh], bind: model.activation}""",
        "family: MLP, hidden: [32, 32]",
        "kind: Table, builtin: breast-cancer",
    ),
    "Custom": (
        """
    - {name: depth, type: Int, min: 1, max: 9}
    - {name: mode, type: Categorical, values: ["yes", plain, 3, true]}
    - {name: inner, type: Float, min: 0, max: 1, when: {parameter: mode, values: [plain]}}""",
        'family: Custom, entrypoint: "mine:train"',
        "kind: None",
    ),
}


def study(family: str) -> HPOStudy:
    """A study of a family whose parameters reach every kind of field, in places with values that are defaults."""
    parameters, model, data = FAMILIES[family]
    return parse_study(f"""\
apiVersion: hpo.frostline.dev/v1alpha1
kind: HPOStudy
metadata: {{name: s}}
spec:
  parameters:{parameters}{_TRAINING}
  search: {{trials: 4}}
  fidelity: {{{"tokens" if family == "CausalLM" else "samples"}: {{max: 1000000}}}}
  model: {{{model}}}
  data: {{{data}}}
""")


def draw(parameters: list[Parameter], seed: int) -> dict[str, Scalar]:
    """A random assignment; a third of the numbers in ranges are their bounds."""
    chance, assignment = random.Random(seed), {}
    for p in parameters:
        if not is_active(p, assignment):
            continue
        if p.type == "Categorical":
            assignment[p.name] = chance.choice(p.values or [])
        elif p.type == "Constant":
            assert p.value is not None
            assignment[p.name] = p.value
        else:
            number = chance.choice([p.min, p.max, chance.uniform(p.min or 0, p.max or 0)])
            assert number is not None
            assignment[p.name] = int(number) if p.type == "Int" else float(number)
    return assignment


def record_of(made: HPOStudy, assignment: dict[str, Scalar]) -> StudyRecord:
    best = Best(trial="s-0", value=1.0, rung=0, layers=1, tokens=1, assignment=assignment)
    return records.whole().model_copy(update={"study": made, "best": best})


def loaded(made: HPOStudy, text: str) -> tuple[Bound, dict[str, Scalar]]:
    """What a study with these sections trains: the bound sections, and what its own code is handed."""
    sections: dict[str, Any] = YAML(typ="safe").load(text)
    document = made.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document["spec"] |= {
        "parameters": [{"name": "lr", "type": "Constant", "value": sections["training"]["optimizer"]["lr"]}],
        "search": {"trials": 1},
    }
    document |= {"apiVersion": made.api_version, "kind": made.kind}
    rest = {name: section for name, section in document["spec"].items() if name not in sections}
    indented = "".join(f"  {line}\n" for line in (to_yaml(rest) + text).splitlines())
    again = parse_study(to_yaml({k: v for k, v in document.items() if k != "spec"}) + "spec:\n" + indented)
    constants = {p.name: p.value for p in again.spec.parameters if p.value is not None}
    return bind(again.spec.parameters, again.spec.base, constants), constants


def read(bound: Bound) -> tuple[Any, ...]:
    """The sections without the fields that the optimizer does not read, which the loader refuses."""
    training = bound.training.model_dump()
    if bound.training.optimizer.name != "SGD":
        del training["optimizer"]["nesterov"], training["optimizer"]["momentum"]
    return bound.model, bound.data, training


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_the_loader_binds_it_to_the_same_configuration(family: str, seed: int) -> None:
    made = study(family)
    assignment = draw(made.spec.parameters, seed)
    text = best_yaml(record_of(made, assignment))
    bound, constants = loaded(made, text)
    assert read(bound) == read(bind(made.spec.parameters, made.spec.base, assignment))
    if family == "Custom":
        loose = {n: v for n, v in assignment.items() if n in ("depth", "mode", "inner")}
        assert {n: constants[n] for n in constants if n != "lr"} == loose


def test_tuned_values_that_equal_defaults_are_in_it() -> None:
    made = study("Vision")
    assignment = draw(made.spec.parameters, 1) | {
        "opt": "AdamW",
        "lr": 1e-3,
        "batchSize": 8,
        "nesterov": False,
        "augment": False,
    }
    assignment.pop("momentum", None)
    sections = YAML(typ="safe").load(best_yaml(record_of(made, assignment)))
    optimizer = sections["training"]["optimizer"]
    assert (optimizer["name"], optimizer["lr"]) == ("AdamW", 1e-3)
    assert "weightDecay" in optimizer
    assert "nesterov" not in optimizer
    assert sections["training"]["batchSize"] == 8
    assert sections["data"]["augment"] is False


def test_there_is_none_without_a_result() -> None:
    assert best_yaml(records.empty()) == ""
    assert "best:" not in best_to_yaml(records.empty())
