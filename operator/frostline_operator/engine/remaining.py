"""How long a study will still take, from how long its runs took so far."""

from __future__ import annotations

import math

from frostline_operator.engine import budget
from frostline_operator.engine.cost import Speed, run_flops
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.schedule import goes_on
from frostline_operator.engine.state import Observation
from frostline_operator.engine.summary import Summary


def seconds_left(seen: Observation, found: Summary) -> float | None:
    """Expected seconds until the study ends; 0 once it has.

    The work that the schedule still asks for at the speed of the runs that have ended, over the devices it may use at
    once, and never more than budgets in time leave. None before the first run has ended, and where the search has no
    planned end and no budget in time.

    Args:
        seen: the study.
        found: the summary of it.
    """
    if seen.state.finished is not None:
        return 0.0
    devices = max(1, min(seen.spec.search.parallelism, sum(c.slots for c in seen.classes)))
    left = budget.remaining(seen.spec.budget, seen.state, seen.now)
    by_work = _work(seen, found)
    bounds = [left.wall_clock, left.gpu_seconds / devices, math.inf if by_work is None else by_work / devices]
    least = max(0.0, min(bounds))
    # A budget is a bound on the work, not a forecast of it: without the work, only a search without an end reaches it.
    known = by_work is not None or make_plan(seen.spec, seen.profile).open_ended
    return least if known and math.isfinite(least) else None


def _work(seen: Observation, found: Summary) -> float | None:
    """Device-seconds of what the schedule still asks for."""
    plan = make_plan(seen.spec, seen.profile)
    if plan.open_ended:
        return None
    speed = Speed(seen.state.runs.values())
    total = 0.0
    for row in found.rungs:
        missing = row.planned - row.finished - row.failed
        if missing <= 0:
            continue
        below = plan.rungs[row.rung - 1] if row.rung else None
        same = below is not None and goes_on(seen.spec.promotion, below.layers, plan.rungs[row.rung].layers)
        tokens = row.tokens - (below.tokens if below is not None and same else 0)
        seconds = speed.seconds(run_flops(seen.profile, row.asked_layers, tokens, missing), "", row.rung)
        if seconds is None:
            return None
        total += seconds
    return total
