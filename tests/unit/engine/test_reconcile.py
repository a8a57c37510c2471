"""Two sources for one value must agree; a missing one says nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline_operator.engine.reconcile import Decision, Patience, Sample, agree, at_rung, decide, disagreements
from frostline_operator.engine.state import Awaited, Recorded, RunState
from frostline_trainer.contract import ExitCode, RunResult, TrialResult


def record(**values: float) -> RunResult:
    trials = [TrialResult(name=n, reason="Completed", objective=v, tokens=100) for n, v in values.items()]
    return RunResult(run="r", layers=1, exit_code=ExitCode.DONE, trials=trials)


def test_only_values_at_the_rungs_tokens_count() -> None:
    samples = [Sample("a", 1, 50, 9.0), Sample("a", 1, 100, 2.0), Sample("b", 1, 99, 1.0), Sample("c", 0, 100, 3.0)]
    assert at_rung(samples, 1, 100) == {"a": 2.0}


def test_rounding_is_no_disagreement_and_a_missing_sample_is_none_either() -> None:
    assert disagreements({"a": 1.0 + 1e-9}, record(a=1.0, b=2.0), 1) == []
    assert disagreements({"a": math.nan}, record(a=math.nan), 1) == []


def test_another_value_is_reported_with_both() -> None:
    [found] = disagreements({"a": 1.5}, record(a=1.0), 1)
    assert "showed 1.5" in str(found) and "says 1" in str(found)


# --- which of the two counts, through Prometheus ---

AWAITED = Awaited(100.0, RunState.SUCCEEDED, (Recorded(0, 1.5, 200), Recorded(1, 2.5, 200)))
RECORD, WAIT = Patience(10.0), Patience(10.0, record_counts=False)


def test_the_sample_counts_as_soon_as_it_is_there_and_the_others_are_waited_for() -> None:
    assert decide(AWAITED, {1: 2.5}, 101.0, RECORD) == [Decision(1, 2.5, "Prometheus")]


def test_a_sample_that_is_missing_is_unknown_until_it_had_its_chance_then_the_record_counts() -> None:
    assert decide(AWAITED, {}, 109.9, RECORD) == []
    assert decide(AWAITED, {0: 7.0}, 110.0, RECORD) == [Decision(0, 7.0, "Prometheus"), Decision(1, 2.5, "Record")]


def test_where_only_prometheus_counts_no_record_ever_stands_in() -> None:
    assert decide(AWAITED, {}, 1e9, WAIT) == []
    assert decide(AWAITED, {}, 1e9, WAIT, last_call=True) == [Decision(0, None, None), Decision(1, None, None)]
    assert decide(AWAITED, {0: 7.0}, 1e9, WAIT) == [Decision(0, 7.0, "Prometheus")]


def test_a_study_that_is_over_or_changes_its_source_waits_no_longer() -> None:
    both = [Decision(0, 1.5, "Record"), Decision(1, 2.5, "Record")]
    assert decide(AWAITED, {}, 100.0, RECORD, last_call=True) == both
    assert decide(AWAITED, {0: 7.0}, 100.0, None) == both


def test_a_clock_that_was_set_back_only_makes_it_wait() -> None:
    assert decide(AWAITED, {}, 50.0, RECORD) == []


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_agrees_with_itself_through_prometheus_text(value: float) -> None:
    assert agree(float(repr(value)), value) and float(repr(value)) == value


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(math.nan, math.nan, True), (math.nan, 1.0, False), (math.inf, math.inf, True), (math.inf, -math.inf, False),
     (1.0, 1.0 + 1e-9, True), (1.0, 1.001, False), (0.0, 1e-13, True)],
)  # fmt: skip
def test_what_agrees(one: float, other: float, same: bool) -> None:
    assert agree(one, other) is same
