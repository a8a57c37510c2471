"""Reservations: what a run may take, so that no limit is ever passed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline_operator.api.search import BudgetSpec, Price
from frostline_operator.engine.budget import Remaining, Reservation, price_per_second, remaining, reserve
from frostline_operator.engine.state import StudyState

FREE = Remaining(math.inf, math.inf, math.inf, math.inf, math.inf)
limits = st.one_of(st.just(math.inf), st.floats(-10, 0), st.floats(1e-6, 1e6))  # no share of less is a time


def left(**changes: float) -> Remaining:
    return Remaining(**{**FREE.__dict__, **changes})


def test_without_limits_in_time_a_run_has_no_deadline() -> None:
    reserved = reserve(FREE, 100, 50.0, 0.0, 1)
    assert isinstance(reserved, Reservation)
    assert reserved.deadline_seconds is None and reserved.amounts.tokens == 100


def test_a_run_is_refused_by_the_limit_it_would_pass() -> None:
    assert reserve(left(tokens=99), 100, None, 0.0, 1) == "tokens"
    assert reserve(left(gpu_seconds=40), 100, 50.0, 0.0, 1) == "gpu_seconds"
    assert reserve(left(wall_clock=40), 100, 50.0, 0.0, 1) == "wall_clock"
    assert reserve(left(cost=4.0), 100, 50.0, 0.1, 1) == "cost"


def test_before_the_speed_is_known_the_time_left_is_shared_by_the_runs_that_start() -> None:
    first = reserve(left(gpu_seconds=1000), 1, None, 0.0, 4)
    assert isinstance(first, Reservation) and first.amounts.gpu_seconds == 250


@given(
    gpu=limits,
    wall=limits,
    cost=limits.filter(lambda left: left >= 0),  # no run takes more than is left, so less than none never is
    expected=st.one_of(st.none(), st.floats(0, 1e5)),
    price=st.sampled_from([0.0, 0.01, 2.0]),
    share=st.integers(1, 8),
)
def test_a_reservation_is_within_every_limit_and_its_deadline_leaves_time_to_stop(
    gpu: float, wall: float, cost: float, expected: float | None, price: float, share: int
) -> None:
    reserved = reserve(left(gpu_seconds=gpu, wall_clock=wall, cost=cost), 1, expected, price, share)
    if isinstance(reserved, str):
        return
    amounts = reserved.amounts
    assert amounts.gpu_seconds <= gpu and amounts.cost <= cost * (1 + 1e-9) + 1e-9
    if not all(math.isinf(limit) for limit in (gpu, wall, cost if price else math.inf)):
        assert reserved.deadline_seconds is not None
        assert 0 < reserved.deadline_seconds < amounts.gpu_seconds <= wall
        assert expected is None or expected <= amounts.gpu_seconds


def test_the_wall_clock_runs_while_nothing_else_does() -> None:
    state = StudyState(started_at=100.0)
    assert remaining(BudgetSpec(wall_clock="1m"), state, 130.0).wall_clock == pytest.approx(30)
    assert remaining(BudgetSpec(wall_clock="1m"), state, 161.0).exhausted() == "wall_clock"


def test_prices_are_per_hour_and_class() -> None:
    budget = BudgetSpec(cost=1.0, prices=[Price(memory_class="8Gi", per_hour=3.6)])
    assert price_per_second(budget, "8Gi") == pytest.approx(0.001)
    assert price_per_second(budget, "80Gi") == 0.0
