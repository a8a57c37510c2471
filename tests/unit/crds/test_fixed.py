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
