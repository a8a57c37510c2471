"""What the operator writes: trials and status."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from frostline_operator.api.parameters import assignment_list
from frostline_operator.api.status import BestTrial, BudgetLine, HPOStudyStatus, RungStatus, StatusCondition
from frostline_operator.api.trial import HPOTrial, TrialRungResult

WHEN = datetime(2030, 1, 31, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))


def trial() -> HPOTrial:
    return HPOTrial.model_validate(
        {
            "metadata": {"name": "demo-3"},
            "spec": {"study": "demo", "index": 3, "assignment": assignment_list({"lr": 0.1, "opt": "SGD", "on": True})},
            "status": {
                "state": "Waiting",
                "rungResults": [
                    {"rung": 0, "state": "Completed", "value": 2.5, "layers": 1, "tokens": 1000, "run": "demo-r0-0",
                     "seconds": 1.5, "peakBytes": 10, "predictedBytes": 11}
                ],
                "checkpoint": {"path": "demo-3/0", "layers": 1, "tokens": 1000},
                "conditions": [
                    {"type": "Complete", "status": "False", "reason": "Waiting", "lastTransitionTime": WHEN}
                ],
            },
        }
    )  # fmt: skip


def test_a_trial_survives_the_api_server() -> None:
    written = trial().model_dump(mode="json", by_alias=True)
    assert HPOTrial.model_validate(json.loads(json.dumps(written))) == trial()
    assert written["spec"]["assignment"][0] == {"name": "lr", "value": 0.1}
    assert written["status"]["conditions"][0]["lastTransitionTime"] == "2030-01-31T12:00:00Z"


def test_assignments_keep_order_and_types() -> None:
    values = {"b": 1, "a": 1.5, "c": True, "d": "x"}
    entries = assignment_list(values)
    assert [(entry.name, entry.value) for entry in entries] == list(values.items())
    assert entries[2].value is True


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_json_has_not_become_none(value: float) -> None:
    result = TrialRungResult(rung=0, state="Diverged", value=value, layers=1, tokens=1)
    assert result.value is None


def status() -> HPOStudyStatus:
    return HPOStudyStatus(
        observed_generation=2,
        phase="Running",
        start_time=WHEN,
        layers=10,
        rungs=[RungStatus(rung=0, asked_layers=1, layers=1, tokens=1000, entered=4, rank_correlation=0.9)],
        best=BestTrial(
            trial="demo-3", value=2.5, rung=0, layers=1, tokens=1000, assignment=assignment_list({"lr": 0.1})
        ),
        budget=[BudgetLine(name="gpuSeconds", limit=100, spent=10.5, reserved=20)],
        conditions=[
            StatusCondition(type="Accepted", status="True", reason="Valid", last_transition_time=datetime.now(UTC))
        ],
    )


def test_a_status_survives_the_api_server() -> None:
    written = status().model_dump(mode="json", by_alias=True, exclude_none=True)
    assert HPOStudyStatus.model_validate(json.loads(json.dumps(written))) == status().model_copy(
        update={"conditions": HPOStudyStatus.model_validate(written).conditions}
    )
    assert written["startTime"] == "2030-01-31T12:00:00Z"
    assert written["rungs"][0]["askedLayers"] == 1


@pytest.mark.parametrize(
    "changes",
    [{"reason": "two words"}, {"status": "Maybe"}, {"lastTransitionTime": "yesterday"}, {"unknown": 1}],
)
def test_conditions_that_kubernetes_would_refuse(changes: dict[str, Any]) -> None:
    right = {"type": "Accepted", "status": "True", "reason": "Valid", "lastTransitionTime": "2030-01-31T12:00:00Z"}
    StatusCondition.model_validate(right)
    with pytest.raises(ValidationError):
        StatusCondition.model_validate(right | changes)


def test_no_mapping_is_keyed_by_names() -> None:
    """CRDs take lists: a mapping with free keys has no schema and merges badly."""
    for model in (HPOTrial, HPOStudyStatus):
        text = json.dumps({k: v for k, v in model.model_json_schema()["$defs"].items() if k != "ObjectMeta"})
        assert '"additionalProperties": {' not in text
