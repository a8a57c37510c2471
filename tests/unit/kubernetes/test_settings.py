"""What an operator's settings add to a study."""

from __future__ import annotations

from typing import Any, cast

import pydantic
import pytest

from frostline_operator.engine.state import StudyState
from frostline_operator.kubernetes.acceptance import accepted, without_prices
from frostline_operator.kubernetes.client.api import Api
from frostline_operator.kubernetes.journal import Journal
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.settings import OperatorSettings
from tests.unit.engine.world import study
from tests.unit.kubernetes.fakes import FakeApi

PRICES = [{"memoryClass": "8Gi", "perHour": 0.5}]
OPERATORS = OperatorSettings.model_validate({"headroom": 0.2, "prices": PRICES})


def test_a_study_that_says_nothing_gets_the_operators_headroom_and_prices() -> None:
    spec = OPERATORS.defaults.complete(study(budget={"cost": 3}))
    assert spec.placement.margin == 0.2
    assert [price.per_hour for price in spec.budget.prices] == [0.5]
    assert without_prices(spec) is None


def test_what_a_study_says_itself_holds() -> None:
    own: dict[str, Any] = {"cost": 3, "prices": [{"memoryClass": "8Gi", "perHour": 9}]}
    spec = OPERATORS.defaults.complete(study(placement={"headroom": 0.0}, budget=own))
    assert spec.placement.margin == 0.0
    assert [price.per_hour for price in spec.budget.prices] == [9]


def test_a_cost_that_nobody_has_prices_for_is_refused_with_the_remedy() -> None:
    spec = OperatorSettings().defaults.complete(study(budget={"cost": 3}))
    said = without_prices(spec)
    assert said is not None and "spec.budget.cost" in said and "perHour" in said


def test_a_study_keeps_the_defaults_that_it_began_with() -> None:
    """Its placement cannot change on its way, nor can a limit lose what it is reckoned by."""
    api = FakeApi()
    journal = Journal(cast(Api, api), StudyRef("space", "s", "01234567-89ab-cdef", {}))
    journal.load()
    body = {
        "apiVersion": "hpo.frostline.dev/v1alpha1",
        "kind": "HPOStudy",
        "metadata": {"name": "s", "namespace": "space", "uid": "01234567-89ab-cdef"},
        "spec": study(budget={"cost": 3}).model_dump(mode="json", by_alias=True, exclude_unset=True),
    }
    place = {"checkpoints": "s3://bucket/path"}
    first = accepted(body, journal, OPERATORS.model_copy(update=place))
    journal.save(StudyState(started_at=1.0))
    later = accepted(body, journal, OperatorSettings.model_validate({"headroom": 0.5, **place}))
    assert not isinstance(first, str) and first == later and first.placement.margin == 0.2
    body["metadata"]["name"] = "other"
    other = Journal(cast(Api, FakeApi()), StudyRef("space", "other", "11234567-89ab-cdef", {}))
    other.load()
    assert "spec.budget.cost needs prices" in str(accepted(body, other, OperatorSettings.model_validate(place)))


def test_two_prices_for_one_class_are_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="8Gi has a price already"):
        OperatorSettings.model_validate({"prices": PRICES * 2})
