"""Hardware as a fidelity: the smallest class that fits, fewer layers only where nothing else helps.

The correction of memory profiles: bounded, monotone, independent of order, and tightened by running out.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline_operator.engine import placement
from frostline_operator.engine.placement import (
    HIGHEST,
    LOWEST,
    RUNS_TO_TRUST,
    Correction,
    Fit,
    NothingFits,
    OutOfMemory,
    Placement,
)
from frostline_operator.engine.state import MemoryClass

SMALL, LARGE = MemoryClass("small", 8, 2), MemoryClass("large", 24, 1)


def rules(**changes: object) -> Placement:
    """One layer needs 2, one more trial 1."""
    settings: dict[str, object] = {
        "classes": (LARGE, SMALL),
        "need": lambda layers, trials, _: 2 * layers + trials - 1,
        "headroom": 0.0,
    }
    return Placement(**{**settings, **changes})  # type: ignore[arg-type]


FREE = {"small": 1, "large": 1}


def test_a_run_goes_to_the_smallest_class_that_fits_its_layers() -> None:
    assert rules().place(4, 1, FREE) == Fit("small", 4, 1)
    assert rules().place(5, 1, FREE) == Fit("large", 5, 1)


def test_it_waits_for_that_class_unless_it_may_overflow_or_degrade() -> None:
    assert rules().place(4, 1, {"large": 1}) is None
    assert rules(overflow=True).place(4, 1, {"large": 1}) == Fit("large", 4, 1)
    assert rules().place(5, 1, {"small": 1}) is None
    assert rules(degrade=True).place(5, 1, {"small": 1}) == Fit("small", 4, 1)


def test_as_many_trials_share_a_run_as_fit() -> None:
    assert rules().place(3, 8, FREE) == Fit("small", 3, 3)


def test_where_no_class_fits_it_takes_the_most_layers_that_do() -> None:
    assert rules().largest_layers(20) == 12
    assert rules().place(20, 1, FREE) == Fit("large", 12, 1)


def test_headroom_is_kept_free() -> None:
    assert rules(headroom=0.5).place(3, 1, FREE) == Fit("large", 3, 1)


def test_nothing_fits_is_an_answer_of_its_own() -> None:
    with pytest.raises(NothingFits):
        rules(need=lambda *_: 100).place(1, 1, FREE)


def test_memory_is_no_limit_where_nothing_is_known_of_it() -> None:
    assert rules(need=lambda *_: None).place(50, 16, FREE) == Fit("small", 50, 16)


@pytest.mark.parametrize(
    ("memory_class", "layers", "trials", "ruled_out"),
    [
        (SMALL, 3, 2, True),
        (SMALL, 4, 5, True),
        (SMALL, 2, 9, False),
        (SMALL, 3, 1, False),
        (LARGE, 3, 2, False),
    ],
)
def test_what_ran_out_of_memory_rules_out_everything_that_needs_more(
    memory_class: MemoryClass, layers: int, trials: int, ruled_out: bool
) -> None:
    assert OutOfMemory(8, 3, 2).rules_out(memory_class, layers, trials) is ruled_out


def test_after_a_failure_the_next_try_is_on_the_larger_class() -> None:
    assert rules(failures=[OutOfMemory(8, 3, 1)]).place(3, 1, FREE) == Fit("large", 3, 1)
    failed_everywhere = [OutOfMemory(8, 3, 1), OutOfMemory(24, 3, 1)]
    assert rules(failures=failed_everywhere).place(3, 1, FREE) == Fit("small", 2, 1)


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
    after = placement.after_measurement(correction, predicted=predicted, measured=measured)
    assert LOWEST <= after.factor <= HIGHEST


@given(corrections, sizes, sizes, sizes)
def test_a_larger_measurement_never_gives_a_smaller_factor(
    correction: Correction, predicted: int, one: int, two: int
) -> None:
    low, high = sorted((one, two))
    smaller = placement.after_measurement(correction, predicted=predicted, measured=low)
    larger = placement.after_measurement(correction, predicted=predicted, measured=high)
    assert smaller.factor <= larger.factor


@given(corrections, sizes, sizes)
def test_running_out_never_loosens(correction: Correction, required: int, limit: int) -> None:
    assert placement.after_exhaustion(correction, required=required, limit=limit).factor >= correction.factor


@given(corrections, sizes, st.floats(0.2, 3.9))
def test_a_run_that_ran_out_is_no_longer_said_to_fit(correction: Correction, required: int, share: float) -> None:
    limit = max(1, int(required * share))
    after = placement.after_exhaustion(correction, required=required, limit=limit)
    assert required * after.factor > limit


@given(corrections, sizes, sizes, st.lists(st.tuples(sizes, sizes), max_size=5))
def test_later_successes_do_not_undo_what_a_failure_taught(
    correction: Correction, required: int, limit: int, runs: list[tuple[int, int]]
) -> None:
    after = placement.after_exhaustion(correction, required=required, limit=limit)
    floor = after.floor
    for predicted, measured in runs:
        after = placement.after_measurement(after, predicted=predicted, measured=measured)
    assert after.factor >= min(HIGHEST, floor)


def test_the_order_in_which_runs_finish_does_not_matter() -> None:
    runs = [(100, 97), (100, 111), (200, 190), (50, 60)]
    outcomes = set()
    for order in itertools.permutations(runs):
        correction = Correction()
        for predicted, measured in order:
            correction = placement.after_measurement(correction, predicted=predicted, measured=measured)
        outcomes.add(correction)
    assert len(outcomes) == 1
    assert outcomes.pop().factor == pytest.approx(1.2)


def test_memory_is_given_back_only_after_several_runs_agree() -> None:
    correction = Correction()
    for run in range(1, RUNS_TO_TRUST + 1):
        correction = placement.after_measurement(correction, predicted=100, measured=97)
        assert correction.factor == (pytest.approx(0.97) if run == RUNS_TO_TRUST else 1.0)


def test_a_run_that_measured_nothing_changes_nothing() -> None:
    assert placement.after_measurement(Correction(), predicted=100, measured=0) == Correction()


def test_the_ratio_is_measured_over_predicted_where_both_are_known() -> None:
    assert placement.ratio(200, 150) == 0.75
    assert placement.ratio(100, 0) is None
    assert placement.ratio(None, 100) is None
