"""How long a study will still take, from how long its runs took so far.

What the schedule still asks for is cut into runs as wide as those so far, and no fewer than devices. Each run pays its
start-up and its training, at the pace of runs of its rung or the nearest one. Devices share the runs, but a bracket is
no faster than its own order allows: a rung's runs side by side, and a rung after the one below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from frostline_operator.engine import budget
from frostline_operator.engine.cost import increment, run_flops
from frostline_operator.engine.schedule import goes_on
from frostline_operator.engine.state import Observation, Run, RunState
from frostline_operator.engine.summary import RungRow, Summary
from frostline_trainer.contract import ModelProfile

_BETWEEN_VALIDATIONS = 0.25
"""Share of a run's training: there are four validations in a run, some more where it is short or its code says so."""


@dataclass(frozen=True)
class Progress:
    """How far an active run is."""

    share: float
    """Of its training, at its last validation."""
    seconds: float | None = None
    """Since it was started; None where nobody knows."""


def seconds_left(
    observation: Observation, summary: Summary, progress: Mapping[str, Progress] | None = None
) -> float | None:
    """Expected seconds until the study ends; 0 once it has.

    Never more than budgets in time leave. None before the first run has ended, and where the search has no planned end
    and no budget in time.

    Args:
        observation: the study.
        summary: of it.
        progress: of active runs, by name, as far as anybody knows.
    """
    if observation.state.finished is not None:
        return 0.0
    devices = max(1, min(observation.spec.search.parallelism, sum(c.slots for c in observation.classes)))
    left = budget.remaining(observation.spec.budget, observation.state, observation.now)
    by_work = _by_work(observation, summary, progress or {}, devices)
    bounds = [left.wall_clock, left.gpu_seconds / devices, math.inf if by_work is None else by_work]
    least = max(0.0, min(bounds))
    # A budget is a bound on the work, not a forecast of it: without the work, only a search without an end reaches it.
    known = by_work is not None or observation.plan.open_ended
    return least if known and math.isfinite(least) else None


@dataclass(frozen=True)
class Work:
    """What a rung of a bracket still asks for."""

    row: RungRow
    tokens: int
    """Of each trial."""
    trials: int
    """Without a result yet, those that are being trained included."""


def work_left(observation: Observation, summary: Summary) -> Iterator[Work]:
    """What each rung of each bracket still asks for."""
    below: RungRow | None = None
    for row in summary.rungs:
        start = 0
        if below is not None and below.bracket == row.bracket:
            start = below.tokens if goes_on(observation.spec.promotion, layers_of(below), layers_of(row)) else 0
        below = row
        missing = max(row.planned, row.entered) - row.finished - row.failed
        if missing > 0:
            yield Work(row, increment(row.tokens, start, observation.profile.step_tokens), missing)


def layers_of(row: RungRow) -> int:
    """The layers that a rung trains: as many as the cluster can, and as asked where that is not known."""
    return row.layers or row.asked_layers


def _by_work(
    observation: Observation, summary: Summary, progress: Mapping[str, Progress], devices: int
) -> float | None:
    """Seconds that the schedule's work takes on so many devices."""
    ended = [
        run
        for run in observation.state.runs.values()
        if run.state is RunState.SUCCEEDED and run.train_seconds > 0 and run.flops
    ]
    if observation.plan.open_ended or not ended:
        return None
    pace = _Pace(
        observation.profile,
        ended,
        [(run, progress[run.name]) for run in observation.state.active_runs if run.name in progress],
    )
    total, in_turn = 0.0, dict.fromkeys((row.bracket for row in summary.rungs), 0.0)
    waits = observation.spec.search.algorithm != "ASHA"
    for work in work_left(observation, summary):
        runs = _runs_left(observation, work, pace, progress, devices)
        total += sum(runs)
        if runs:  # ASHA's rungs overlap, but the last trial to climb still goes through one run of each
            in_turn[work.row.bracket] += sum(runs) / min(devices, len(runs)) if waits else max(runs)
    return max(total / devices, *in_turn.values())


def _runs_left(
    observation: Observation, work: Work, pace: _Pace, progress: Mapping[str, Progress], devices: int
) -> list[float]:
    """Seconds of each run that a rung still needs, those under way included with what they have left."""
    row, profile = work.row, observation.profile
    here = [r for r in observation.state.runs.values() if (r.bracket, r.rung) == (row.bracket, row.rung)]
    runs = [pace.left(run, progress.get(run.name, Progress(0.0))) for run in here if run.state.active]
    missing = work.trials - sum(len(run.trials) for run in here if run.state.open)
    if missing > 0:
        width = pace.width(row.bracket, row.rung)
        count = max(math.ceil(missing / width), min(devices, missing))
        prefixes = run_flops(profile, layers_of(row), work.tokens, 0) * count
        flops = prefixes + missing * (run_flops(profile, layers_of(row), work.tokens, 1) - prefixes / count)
        runs += [pace.startup + pace.training(flops / count, row.rung)] * count
    return runs


class _Pace:
    """How fast and how wide runs have been. Means, since what is foretold is a sum."""

    def __init__(self, profile: ModelProfile, ended: Sequence[Run], active: Sequence[tuple[Run, Progress]]) -> None:
        self._profile = profile
        self._ended = ended
        self.startup = sum(max(0.0, run.device_seconds - run.train_seconds) for run in ended) / len(ended)
        self._done = [(run.rung, run.train_seconds, run.flops) for run in ended]
        self._late = {run.name: self._lateness(run, done) for run, done in active}
        # The machine may be faster or slower by now than it was for any run before.
        self._trained = self._done + [
            (run.rung, done.share * self._late[run.name] * self._expected(run), done.share * self._flops(run))
            for run, done in active
            if done.seconds is not None and done.share > 0
        ]

    def _flops(self, run: Run) -> float:
        return run_flops(self._profile, run.layers, run.tokens - run.start_tokens, len(run.trials))

    def training(self, flops: float, rung: int) -> float:
        """Seconds that training takes at a rung, by the nearest rung that any run has trained at."""
        return self._by(self._trained, flops, rung)

    @staticmethod
    def _by(trained: Sequence[tuple[int, float, float]], flops: float, rung: int) -> float:
        nearest = min((at for at, _, _ in trained), key=lambda at: (abs(at - rung), -at))
        alike = [work for work in trained if work[0] == nearest]
        return flops * sum(seconds for _, seconds, _ in alike) / sum(done for _, _, done in alike)

    def _expected(self, run: Run) -> float:
        return self._by(self._done, self._flops(run), run.rung)

    def _lateness(self, run: Run, done: Progress) -> float:
        """By how much longer than expected an active run takes: 1 unless its validations say otherwise.

        By now it has trained at least up to its last validation, and not up to the next one. A run that is sooner than
        expected is taken to be in the middle between the two; one that is later just before the next one, since
        validations are told with some delay.
        """
        if done.seconds is None:
            return 1.0

        def at(share: float) -> float:
            assert done.seconds is not None
            return done.seconds / (self.startup + share * self._expected(run))

        after = min(1.0, done.share + _BETWEEN_VALIDATIONS)
        most = at(done.share) if done.share > 0 else math.inf
        return at((done.share + after) / 2) if most < 1 else max(1.0, at(after))

    def left(self, run: Run, done: Progress) -> float:
        """Seconds that an active run still takes."""
        expected = self._expected(run)
        if done.seconds is None:
            return (1 - done.share) * expected + (self.startup if done.share == 0 else 0.0)
        return max(0.0, self._late[run.name] * (self.startup + expected) - done.seconds)

    def width(self, bracket: int, rung: int) -> float:
        """Trials in a run of a rung: as in its earlier runs, else as in all."""
        alike = [run for run in self._ended if (run.bracket, run.rung) == (bracket, rung)] or self._ended
        return sum(len(run.trials) for run in alike) / len(alike)
