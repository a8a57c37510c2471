"""Plain words for everything that pydantic may say."""

from __future__ import annotations

from typing import Any

import pytest

from frostline_operator.api.problems import PATTERNS, Problem, StudyError, listed, model_at, nearest, shown
from frostline_operator.api.status import HPOStudyStatus
from frostline_operator.api.study import HPOStudy
from frostline_operator.api.trial import HPOTrial


def patterns(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
        return own.union(*(patterns(value) for value in schema.values()))
    if isinstance(schema, list):
        return set().union(*(patterns(value) for value in schema))
    return set()


def test_every_regular_expression_has_words() -> None:
    assert patterns(HPOStudy.model_json_schema(by_alias=True)) <= set(PATTERNS)


@pytest.mark.parametrize("model", [HPOStudy, HPOTrial, HPOStudyStatus])
def test_every_section_is_described(model: Any) -> None:
    for name, section in model.model_json_schema()["$defs"].items():
        assert section.get("description"), name


def test_where_models_are_found() -> None:
    found = model_at(HPOStudy, ("spec", "parameters", 3, "when"))
    assert found is not None
    assert found.__name__ == "Condition"
    assert model_at(HPOStudy, ("spec", "model", "config")) is None
    assert model_at(HPOStudy, ("spec", "fidelity", "rungs", 0)).__name__ == "RungSpec"  # type: ignore[union-attr]
    assert model_at(HPOStudy, ("spec", "nothing", "here")) is None


@pytest.mark.parametrize(
    ("word", "meant"),
    [("lr", "lr"), ("LR", "lr"), ("weight_decay", "weightDecay"), ("momentun", "momentum"), ("zzz", None), ("", None)],
)
def test_nearest(word: str, meant: str | None) -> None:
    assert nearest(word, ["lr", "weightDecay", "momentum"]) == meant


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nothing"), (True, "true"), (1.0, "1"), (0.1, "0.1"), (1 / 3, "0.3333333333333333"), ("a", "'a'"),
     ({}, "a section"), ([], "a list"), ("x" * 99, "'" + "x" * 56 + "...'")],
)  # fmt: skip
def test_shown(value: object, text: str) -> None:
    assert shown(value) == text


def test_listed() -> None:
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a or b", "a, b or c"]


def test_problems_print_in_the_order_of_their_lines_and_once() -> None:
    one, two = Problem("f", 9, "a", "x"), Problem("f", 10, "", "y")
    error = StudyError([two, one, one])
    assert str(error) == "f:9: a: x\nf:10: y"
    assert error.problems == (one, two)
