"""Learning rate as a function of the tokens (or samples) seen, so that it does not depend on where a rung ends."""

from __future__ import annotations

import math

from frostline_trainer.contract import ScheduleSpec


def learning_rate_share(schedule: ScheduleSpec, seen: int, horizon: int) -> float:
    """Share of the peak learning rate, 0 to 1, for the step after which `seen` tokens will have been seen.

    It rises linearly over `warmup * horizon`, then falls to `final` at the horizon and stays there.
    """
    progress = min(1.0, seen / horizon)
    if progress < schedule.warmup:
        return progress / schedule.warmup
    if schedule.name == "Constant":
        return 1.0
    rest = (progress - schedule.warmup) / (1.0 - schedule.warmup) if schedule.warmup < 1 else 1.0
    shape = 1.0 - rest if schedule.name == "Linear" else 0.5 * (1.0 + math.cos(math.pi * rest))
    return schedule.final + (1.0 - schedule.final) * shape
