"""Configurations as points: what goes in comes out, and likeness of configurations is nearness of points."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_operator.api.parameters import Condition, Parameter
from frostline_operator.api.search import SearchSpec
from frostline_operator.engine import space
from frostline_operator.engine.proposals.points import Points

ONLY_SGD = Condition(parameter="optimizer", values=["SGD"])
SPACE = [
    Parameter(name="lr", type="Float", min=1e-5, max=1e-1, scale="Log"),
    Parameter(name="optimizer", type="Categorical", values=["AdamW", "SGD", True]),
    Parameter(name="momentum", type="Float", min=0.5, max=0.99, when=ONLY_SGD),
    Parameter(name="kind", type="Categorical", values=["a", "b"], when=ONLY_SGD),
    Parameter(name="depth", type="Int", min=2, max=64, scale="Log"),
    Parameter(name="batch", type="Categorical", values=[64, 8, 32, 16]),
    Parameter(name="drop", type="Float", min=0.0, max=0.4, step=0.1),
    Parameter(name="fixed", type="Constant", value=3),
]  # fmt: skip


@given(seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_a_configuration_comes_back_from_its_point(seed: int) -> None:
    points = Points(SPACE)
    drawn = space.assignments(SPACE, SearchSpec(trials=1, seed=seed), 20)
    back = points.decode(np.abs(points.encode(drawn)))
    for given_, returned in zip(drawn, back, strict=True):
        assert returned.keys() == given_.keys()
        for name, value in given_.items():
            if isinstance(value, float):
                assert abs(float(returned[name]) - value) <= 2e-5 * abs(value) + 1e-12
            else:
                assert returned[name] == value and type(returned[name]) is type(value)


def test_numeric_choices_are_ordered_and_others_are_not() -> None:
    points = Points(SPACE)
    assert points.nominal.tolist() == [False, True, False, True, False, False, False]
    batches = [points.encode([{"batch": size}])[0, 5] for size in (8, 16, 32, 64)]
    assert batches == sorted(batches) and len(set(batches)) == 4


def test_what_a_condition_switches_off_does_not_tell_configurations_apart() -> None:
    points = Points(SPACE)
    common = {"lr": 1e-3, "optimizer": "AdamW", "depth": 4, "batch": 8, "drop": 0.1, "fixed": 3}
    one, other = points.encode([common, dict(common)])
    assert (one == other).all()
    assert one[3] == -1.0, "a category of its own"


def test_a_choice_of_an_initial_configuration_may_be_written_as_another_number() -> None:
    points = Points(SPACE)
    assert points.encode([{"batch": 16.0}])[0, 5] == points.encode([{"batch": 16}])[0, 5]
    assert points.encode([{"drop": 0.30000001}])[0, 6] == points.encode([{"drop": 0.3}])[0, 6]
