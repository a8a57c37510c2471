"""What a person may write about a model is bounded, and never makes anybody run code."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest

from frostline_trainer.contract import ModelSpec


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"trust_remote_code": True}, "trust_remote_code would run code"),
        ({"text_config": {"auto_map": {}}}, "auto_map would run code"),
        ({"attn_implementation": "somebody/kernel"}, "code from the hub"),
        ({"deep": nested(100)}, "nested deeper than 8 levels; flatten it"),
        ({"deep": nested(100_000)}, "nested deeper than 8 levels; flatten it"),
        ({"wide": [0] * 20_000}, "more than 10000 entries"),
        ({"long": "x" * 200_000}, "more than 100000 characters"),
    ],
)
def test_a_config_without_bounds_or_with_code_is_refused_by_name(config: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        ModelSpec(family="CausalLM", config={"model_type": "gpt2", **config})
    assert words in refused.value.errors(include_input=False)[0]["msg"]


def test_a_config_of_ordinary_depth_is_taken() -> None:
    config = {"model_type": "gpt_neo", "attention_types": [[["global", "local"], 2]], "rope": {"a": {"b": [1]}}}
    assert ModelSpec.model_validate_json(json.dumps({"family": "CausalLM", "config": config})).config == config
