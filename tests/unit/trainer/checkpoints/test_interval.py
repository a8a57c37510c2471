"""When checkpoints on the way are written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frostline_trainer.checkpoints.interval import LARGEST_SHARE, Interval


@given(interval=st.floats(0.1, 1000), writing=st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_checkpoints_come_no_oftener_than_asked_and_never_take_more_than_their_share(
    interval: float, writing: list[float]
) -> None:
    now = [0.0]
    due = Interval(interval, clock=lambda: now[0])
    spent, last = 0.0, 0.0
    for seconds in writing:
        while not due.due:
            now[0] += interval / 4
        assert now[0] - last >= interval * (1 - 1e-9)
        assert spent <= LARGEST_SHARE * now[0] * (1 + 1e-6)
        with due.writing():
            now[0] += seconds
        spent, last = spent + seconds, now[0]


def test_without_an_interval_none_is_ever_due() -> None:
    assert not Interval(None, clock=lambda: 1e300).due
