"""What training costs in seconds, by what earlier runs took."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable

from frostline_operator.engine.state import Run, RunState


class Speed:
    """Seconds that a run will take, learnt from those that have ended.

    Runs of the same rung are the best guide; else all runs of the same memory class, scaled by their FLOPs.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._ended = [run for run in runs if run.state is RunState.SUCCEEDED and run.train_seconds > 0 and run.flops]
        self._rates: dict[tuple[str, int], float] = {}

    def startup(self) -> float | None:
        """Median seconds of a run that are not training: imports, data, model; None before any run has ended."""
        return self._startup

    @functools.cached_property
    def _startup(self) -> float | None:
        if not self._ended:
            return None
        return statistics.median(max(0.0, run.seconds - run.train_seconds) for run in self._ended)

    def seconds(self, flops: float, memory_class: str, rung: int) -> float | None:
        """Expected seconds of a run, None before any run has ended."""
        startup = self.startup()
        if startup is None:
            return None
        fidelity = (memory_class, rung)
        if fidelity not in self._rates:
            same_class = [run for run in self._ended if run.memory_class == memory_class] or self._ended
            alike = [run for run in same_class if run.rung == rung] or same_class
            self._rates[fidelity] = statistics.median(run.train_seconds / run.flops for run in alike)
        return startup + flops * self._rates[fidelity]
