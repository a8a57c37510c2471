"""Events on a study: failures are warnings, nothing comes again and again, and no event makes anything else fail."""

from typing import cast

import pytest

from frostline_operator.engine.state import RunState
from frostline_operator.kubernetes.client.api import RECORDED_EVENTS, Api, ApiError
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.events import Recorder, of_condition, of_engine
from tests.unit.kubernetes.fakes import FakeApi

STUDY = StudyRef("space", "s", "01234567-89ab", {})


def test_events_are_not_recorded_again_and_never_fail() -> None:
    api = FakeApi()
    recorder = Recorder(cast(Api, api), STUDY)
    recorder.record(of_engine("RunLost", "x: no record"))
    recorder.record(of_engine("RunLost", "x: no record"))
    assert len(api.list(RECORDED_EVENTS, "space")[0]) == 1
    api.fail = ApiError(403, "Forbidden", "no")
    recorder.record(of_engine("Deadline", "done"))
    for number in range(100):
        recorder.record(of_engine("RunLost", str(number)))
    assert len(api.list(RECORDED_EVENTS, "space")[0]) <= 30


def test_an_event_has_what_the_api_asks_for() -> None:
    api = FakeApi()
    Recorder(cast(Api, api), STUDY).record(of_engine("RunLost", "x" * 5000))
    [event] = api.list(RECORDED_EVENTS, "space")[0]
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "RunLost", "Train")
    assert event["reportingController"] == "hpo.frostline.dev/operator" and event["reportingInstance"]
    assert event["regarding"]["uid"] == STUDY.uid and event["metadata"]["namespace"] == STUDY.namespace
    assert event["eventTime"].endswith("Z") and len(event["eventTime"]) == len("2030-01-01T00:00:00.000000Z")
    assert len(event["note"]) <= 1024


@pytest.mark.parametrize(
    "reason", ["FailTrial", "NoSpace", "Paused", "Deadline", "SourceDisagreement", "CheckpointsLeft"]
    + [f"Run{state}" for state in (RunState.LOST, RunState.FAULT, RunState.OUT_OF_MEMORY)],
)  # fmt: skip
def test_what_goes_wrong_with_runs_is_a_warning(reason: str) -> None:
    assert of_engine(reason, "words").type == "Warning"


@pytest.mark.parametrize(
    ("condition", "status", "reason", "expected"),
    [
        ("Accepted", True, "Valid", "Normal"),
        ("Accepted", False, "Invalid", "Warning"),
        ("Profiled", False, "Computing", "Normal"),
        ("Profiled", False, "Impossible", "Warning"),
        ("Profiled", False, "ProfileFailed", "Warning"),
        ("RunsBlocked", True, "NoDevices", "Warning"),
        ("RunsBlocked", True, "Unschedulable", "Warning"),
        ("RunsBlocked", True, "Queued", "Normal"),
        ("RunsBlocked", False, "Running", "Normal"),
        ("FidelityReduced", True, "NoClassFits", "Warning"),
        ("FidelityUntrusted", True, "LowRankCorrelation", "Warning"),
        ("MetricsAvailable", False, "Unreachable", "Warning"),
        ("MetricsAvailable", True, "Available", "Normal"),
        ("Progressing", False, "Suspended", "Normal"),
        ("Complete", True, "Completed", "Normal"),
        ("Failed", True, "Failed", "Warning"),
    ],
)
def test_a_condition_that_is_bad_news_is_a_warning(condition: str, status: bool, reason: str, expected: str) -> None:
    assert of_condition(condition, status, reason, "words").type == expected


def test_the_reason_is_the_conditions_or_its_type_where_that_says_more() -> None:
    assert of_condition("Accepted", True, "Valid", "").reason == "Accepted"
    assert of_condition("RunsBlocked", True, "NoDevices", "").reason == "NoDevices"
