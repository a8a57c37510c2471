"""Budgets: reserved when a run starts, settled when it ends, never overshot.

A run's reservation in GPU-seconds is its deadline, so that a run which takes longer than thought is stopped (with a
checkpoint) rather than paid for by money that is not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from frostline_operator.api.quantity import parse_duration
from frostline_operator.api.search import BudgetSpec
from frostline_operator.engine.state import Amounts, StudyState

DEADLINE_FACTOR = 3.0
"""A deadline is so many times the expected seconds: rarely reached, yet it bounds what a stuck run can cost."""
STOP_GRACE_SECONDS = 30.0
"""Between SIGTERM at the deadline and the end; part of the reservation."""
MINIMUM_SECONDS = 60.0
"""No run is started with less than this: it could not even start up."""


@dataclass(frozen=True)
class Remaining:
    """What is left of each limit; infinity where there is none."""

    trials: float
    tokens: float
    gpu_seconds: float
    wall_clock: float
    cost: float

    @property
    def limits_time(self) -> bool:
        """Whether runs need a deadline."""
        return not all(math.isinf(left) for left in (self.gpu_seconds, self.wall_clock, self.cost))

    def exhausted(self) -> str | None:
        """Name of a limit that allows no further run, None while all do."""
        for name in ("tokens", "gpu_seconds", "wall_clock", "cost"):
            if getattr(self, name) <= 0:
                return name
        return None


def charged(state: StudyState, reserved: bool = True) -> Amounts:
    """All that is settled so far, and what active runs have reserved unless `reserved` is false."""
    charges = [run.charged for run in state.runs.values() if reserved or not run.state.active]
    return Amounts(sum(c.tokens for c in charges), sum(c.gpu_seconds for c in charges), sum(c.cost for c in charges))


def remaining(budget: BudgetSpec, state: StudyState, now: float, reserved: bool = True) -> Remaining:
    """What is left, reservations of active runs counted as spent unless `reserved` is false."""
    spent = charged(state, reserved)
    elapsed = 0.0 if state.started_at is None else max(0.0, now - state.started_at)
    wall = math.inf if budget.wall_clock is None else parse_duration(budget.wall_clock) - elapsed
    return Remaining(
        trials=_left(budget.trials, len(state.trials)),
        tokens=_left(budget.tokens, spent.tokens),
        gpu_seconds=_left(budget.gpu_seconds, spent.gpu_seconds),
        wall_clock=wall,
        cost=_left(budget.cost, spent.cost),
    )


def _left(limit: float | None, used: float) -> float:
    return math.inf if limit is None else limit - used


def price_per_second(budget: BudgetSpec, memory_class: str) -> float:
    """Cost of one second on a device of the class; 0 where no price is given."""
    hourly = next((price.per_hour for price in budget.prices if price.memory_class == memory_class), 0.0)
    return hourly / 3600


@dataclass(frozen=True)
class Reservation:
    """What a run may take at most."""

    amounts: Amounts
    deadline_seconds: float | None


def reserve(
    left: Remaining, tokens: int, expected_seconds: float | None, price: float, share: int
) -> Reservation | str:
    """The reservation for a run, or the name of the limit that forbids it.

    Args:
        left: what remains.
        tokens: that the run will train on, all its trials together.
        expected_seconds: of the run, None where nothing is known yet.
        price: per second.
        share: so many runs may be started now; before anything is known of their speed, each gets an equal part of the
            time that is left.
    """
    if tokens > left.tokens:
        return "tokens"
    if not left.limits_time:
        return Reservation(Amounts(tokens, 0.0, 0.0), None)
    by_cost = left.cost / price if price > 0 else math.inf
    device_seconds = min(left.gpu_seconds, by_cost)
    available = min(device_seconds, left.wall_clock)
    if expected_seconds is None:
        wanted = min(device_seconds / share, left.wall_clock)
        needed = min(MINIMUM_SECONDS, available)
    else:
        wanted = max(MINIMUM_SECONDS, expected_seconds * DEADLINE_FACTOR) + STOP_GRACE_SECONDS
        needed = expected_seconds
    if available <= 0 or needed > available:
        names = {"gpu_seconds": left.gpu_seconds, "wall_clock": left.wall_clock, "cost": by_cost}
        return min(names, key=lambda name: names[name])
    held = min(max(wanted, needed), available)
    if math.isinf(held):  # only a cost budget, and a class without a price
        return Reservation(Amounts(tokens, 0.0, 0.0), None)
    grace = min(STOP_GRACE_SECONDS, held / 4)
    return Reservation(Amounts(tokens, held, held * price), held - grace)
