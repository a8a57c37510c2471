"""What of a study must not change once it has begun."""

from typing import Any

import pytest

from frostline_operator.crds.rules import changed_sections, fixed_part
from tests.unit.engine.world import study


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"suspend": True}, []),
        ({"budget": {"tokens": 5}}, []),
        ({"search": {"algorithm": "SuccessiveHalving", "trials": 8, "parallelism": 9}}, []),
        ({"search": {"algorithm": "SuccessiveHalving", "trials": 9, "parallelism": 2}}, ["spec.search.trials"]),
        ({"training": {"batchSize": 6, "sequenceLength": 2}}, ["spec.training"]),
    ],
)
def test_what_must_not_change(change: dict[str, Any], expected: list[str]) -> None:
    assert changed_sections(fixed_part(study()), study(**change)) == expected


def test_a_field_at_its_default_is_no_change_and_neither_is_the_digest_of_an_earlier_release() -> None:
    said = {"training": {"batchSize": 5, "sequenceLength": 2}}
    more = {"training": {"batchSize": 5, "sequenceLength": 2, "labelSmoothing": 0.0, "optimizer": {"name": "AdamW"}}}
    assert fixed_part(study(**said)) == fixed_part(study(**more))
    assert changed_sections({"spec.training": "0123456789ab"}, study(**said)) == []
