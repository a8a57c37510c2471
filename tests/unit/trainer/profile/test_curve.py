"""Two records give every batch size, and the envelope is the peak."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_trainer.device.tracker import Trace
from frostline_trainer.profile import curve

blocks = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**5), st.integers(0, 8)), min_size=1, max_size=30)


def record(steps: list[tuple[int, int, int]], batch: int) -> Trace:
    trace, live = Trace(), []
    for fixed, slope, pick in steps:
        live.append(trace.allocate(fixed + slope * batch))
        if pick < 5 and len(live) > 1:
            trace.release(live.pop(pick % len(live)))
    return trace


@settings(max_examples=60, deadline=None)
@given(blocks, st.integers(1, 5000))
def test_two_records_foretell_a_third_exactly(steps: list[tuple[int, int, int]], batch: int) -> None:
    trace = curve.linear(record(steps, 2), 2, record(steps, 3), 3)
    assert trace.at(batch).sizes == record(steps, batch).sizes
    assert curve.height(trace.lines(1), batch) == record(steps, batch).peak(1)


def test_records_with_other_operators_are_refused() -> None:
    first, second = Trace(), Trace()
    first.allocate(1)
    second.release(second.allocate(1))
    with pytest.raises(curve.NotLinearError):
        curve.linear(first, 2, second, 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**7)), min_size=1, max_size=20))
def test_the_envelope_keeps_the_peak_at_every_batch(lines: list[tuple[int, int]]) -> None:
    hull = curve.envelope(lines)
    for batch in (1, 2, 3, 7, 20, 100, 1000, 10**6):
        assert curve.height(hull, batch) == curve.height(lines, batch)


def test_simplifying_loses_no_more_than_allowed() -> None:
    lines = [(1000, 1), (990, 2), (500, 40), (0, 100)]
    kept = curve.simplify(lines, [1, 10, 100], 0.02)
    assert len(kept) < len(lines)
    for batch in (1, 10, 100):
        assert curve.height(kept, batch) >= 0.98 * curve.height(lines, batch)
