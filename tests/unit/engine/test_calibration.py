"""The correction of memory profiles: bounded, monotone, independent of order, and tightened by running out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline_operator.engine import calibration
from frostline_operator.engine.calibration import HIGHEST, LOWEST, RUNS_TO_TRUST, Correction

GIB = 2**30
sizes = st.integers(min_value=1, max_value=200 * GIB)
corrections = st.builds(
    Correction,
    highest=st.floats(0, 10),
    runs=st.integers(0, 20),
    floor=st.floats(0, HIGHEST),
    failures=st.integers(0, 5),
)


@given(corrections, sizes, sizes)
def test_the_factor_is_bounded_whatever_is_measured(correction: Correction, predicted: int, measured: int) -> None:
    after = calibration.observed(correction, predicted=predicted, measured=measured)
    assert LOWEST <= after.factor <= HIGHEST


@given(corrections, sizes, sizes, sizes)
def test_a_larger_measurement_never_gives_a_smaller_factor(
    correction: Correction, predicted: int, one: int, two: int
) -> None:
    low, high = sorted((one, two))
    smaller = calibration.observed(correction, predicted=predicted, measured=low)
    larger = calibration.observed(correction, predicted=predicted, measured=high)
    assert smaller.factor <= larger.factor


@given(corrections, sizes, sizes)
def test_running_out_never_loosens(correction: Correction, required: int, limit: int) -> None:
    assert calibration.exhausted(correction, required=required, limit=limit).factor >= correction.factor


@given(corrections, sizes, st.floats(0.2, 3.9))
def test_a_run_that_ran_out_is_no_longer_said_to_fit(correction: Correction, required: int, share: float) -> None:
    limit = max(1, int(required * share))
    after = calibration.exhausted(correction, required=required, limit=limit)
    assert required * after.factor > limit


@given(corrections, sizes, sizes, st.lists(st.tuples(sizes, sizes), max_size=5))
def test_later_successes_do_not_undo_what_a_failure_taught(
    correction: Correction, required: int, limit: int, runs: list[tuple[int, int]]
) -> None:
    after = calibration.exhausted(correction, required=required, limit=limit)
    floor = after.floor
    for predicted, measured in runs:
        after = calibration.observed(after, predicted=predicted, measured=measured)
    assert after.factor >= min(HIGHEST, floor)


def test_the_order_in_which_runs_finish_does_not_matter() -> None:
    runs = [(100, 97), (100, 111), (200, 190), (50, 60)]
    outcomes = set()
    for order in itertools.permutations(runs):
        correction = Correction()
        for predicted, measured in order:
            correction = calibration.observed(correction, predicted=predicted, measured=measured)
        outcomes.add(correction)
    assert len(outcomes) == 1
    assert outcomes.pop().factor == pytest.approx(1.2)


def test_memory_is_given_back_only_after_several_runs_agree() -> None:
    correction = Correction()
    for run in range(1, RUNS_TO_TRUST + 1):
        correction = calibration.observed(correction, predicted=100, measured=97)
        assert correction.factor == (pytest.approx(0.97) if run == RUNS_TO_TRUST else 1.0)


def test_a_run_that_measured_nothing_changes_nothing() -> None:
    assert calibration.observed(Correction(), predicted=100, measured=0) == Correction()


def test_the_ratio_is_measured_over_predicted_where_both_are_known() -> None:
    assert calibration.ratio(200, 150) == 0.75
    assert calibration.ratio(100, 0) is None
    assert calibration.ratio(None, 100) is None
