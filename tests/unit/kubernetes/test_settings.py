"""What an operator's settings add to a study."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from frostline_operator.cluster.kubernetes.accepting import without_prices
from frostline_operator.cluster.kubernetes.settings import OperatorSettings
from tests.unit.engine.world import study

PRICES = [{"memoryClass": "8Gi", "perHour": 0.5}]
OPERATORS = OperatorSettings.model_validate({"headroom": 0.2, "prices": PRICES})


def test_a_study_that_says_nothing_gets_the_operators_headroom_and_prices() -> None:
    spec = OPERATORS.completed(study(budget={"cost": 3}))
    assert spec.placement.margin == 0.2
    assert [price.per_hour for price in spec.budget.prices] == [0.5]
    assert without_prices(spec) is None


def test_what_a_study_says_itself_holds() -> None:
    own: dict[str, Any] = {"cost": 3, "prices": [{"memoryClass": "8Gi", "perHour": 9}]}
    spec = OPERATORS.completed(study(placement={"headroom": 0.0}, budget=own))
    assert spec.placement.margin == 0.0
    assert [price.per_hour for price in spec.budget.prices] == [9]


def test_a_cost_that_nobody_has_prices_for_is_refused_with_the_remedy() -> None:
    spec = OperatorSettings().completed(study(budget={"cost": 3}))
    said = without_prices(spec)
    assert said is not None and "spec.budget.cost" in said and "perHour" in said


def test_two_prices_for_one_class_are_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="8Gi has a price already"):
        OperatorSettings.model_validate({"prices": PRICES * 2})
