"""How long a study will still take, from how long its runs took so far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from frostline_operator.engine import budget
from frostline_operator.engine.cost import increment, run_flops
from frostline_operator.engine.schedule import goes_on
from frostline_operator.engine.speed import Speed
from frostline_operator.engine.state import Observation
from frostline_operator.engine.summary import RungRow, Summary


def seconds_left(seen: Observation, found: Summary, progress: Mapping[str, float] | None = None) -> float | None:
    """Expected seconds until the study ends; 0 once it has.

    The work that the schedule still asks for at the speed of the runs that have ended, over the devices it may use at
    once, and never more than budgets in time leave. None before the first run has ended, and where the search has no
    planned end and no budget in time.

    Args:
        seen: the study.
        found: the summary of it.
        progress: share of its training that each active run has done, by its name; none where nobody knows.
    """
    if seen.state.finished is not None:
        return 0.0
    devices = max(1, min(seen.spec.search.parallelism, sum(c.slots for c in seen.classes)))
    left = budget.remaining(seen.spec.budget, seen.state, seen.now)
    by_work = _work(seen, found, progress or {})
    bounds = [left.wall_clock, left.gpu_seconds / devices, math.inf if by_work is None else by_work / devices]
    least = max(0.0, min(bounds))
    # A budget is a bound on the work, not a forecast of it: without the work, only a search without an end reaches it.
    known = by_work is not None or seen.plan.open_ended
    return least if known and math.isfinite(least) else None


def _work(seen: Observation, found: Summary, progress: Mapping[str, float]) -> float | None:
    """Device-seconds of what the schedule still asks for, less what active runs have done of it."""
    if seen.plan.open_ended:
        return None
    speed = Speed(seen.state.runs.values())
    total = 0.0
    for rung, flops in flops_left(seen, found):
        seconds = speed.seconds(flops, "", rung)
        if seconds is None:
            return None
        total += seconds
    for run in seen.state.active_runs:
        share = progress.get(run.name, 0.0)
        flops = run_flops(seen.profile, run.layers, run.tokens - run.start_tokens, len(run.trials))
        seconds = speed.seconds(flops, run.memory_class, run.rung)
        if share > 0 and seconds is not None:  # it has started, too
            startup = speed.startup() or 0.0
            total -= startup + share * (seconds - startup)
    return max(0.0, total)


def flops_left(seen: Observation, found: Summary) -> Iterator[tuple[int, float]]:
    """(rung, FLOPs) of what each rung of each bracket still asks for, with the layers that the cluster can train."""
    below: RungRow | None = None
    for row in found.rungs:
        start = 0
        if below is not None and below.bracket == row.bracket and goes_on(seen.spec.promotion, _z(below), _z(row)):
            start = below.tokens
        below = row
        missing = row.planned - row.finished - row.failed
        if missing > 0:
            tokens = increment(row.tokens, start, seen.profile.step_tokens)
            yield row.rung, run_flops(seen.profile, _z(row), tokens, missing)


def _z(row: RungRow) -> int:
    return row.layers or row.asked_layers
