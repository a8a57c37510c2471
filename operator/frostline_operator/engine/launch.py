"""Turning waiting trials into runs: who shares one, where it goes, what it may take, and whether it is tried again.

Trials of one rung share a run when they agree on everything that the frozen prefix and the batches depend on and when
the cost model says that sharing pays; never so many that devices stand idle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

from frostline_operator.api.parameters import Parameter
from frostline_operator.api.quantity import format_bytes
from frostline_operator.api.targets import target_of
from frostline_operator.engine import cost
from frostline_operator.engine.actions import StartRun
from frostline_operator.engine.budget import Reservation, price_per_second, remaining, reserve
from frostline_operator.engine.placement import Fit, NothingFits, placement, predicted_peak
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.schedule import goes_on, resumes
from frostline_operator.engine.speed import Speed
from frostline_operator.engine.state import Observation, Run, RunState, StudyState, Trial
from frostline_trainer.contract import MAX_TRIALS_PER_RUN

MOST_LOST = 8
"""A run may be lost (killed, evicted, node gone) so often without being the trial's fault."""
LOST_BEFORE_SOLO = 2
"""After so many losses in company a trial runs alone, in case it is what brings its runs down."""


@dataclass(frozen=True)
class Verdict:
    """How, or whether, to try again."""

    solo: bool = False
    """Run it without company."""
    give_up: str | None = None
    """Why no further attempt is made."""
    run: str = ""
    """The attempt that decided."""


def judge(state: StudyState, trial: Trial) -> Verdict:
    """The verdict on a trial that waits for its current rung.

    Out of memory says nothing here: placement finds a larger device, fewer companions or fewer layers. Stopped runs are
    continued without limit: they are bounded by what stopped them. So is a run that was lost but had saved something.
    """
    ended = [run for run in state.runs_of(trial.index, trial.rung) if not run.state.active]
    faults = [run for run in ended if run.state is RunState.FAULT]
    alone = next((run for run in faults if not run.packed), None)
    if alone is not None:
        return Verdict(give_up=alone.message or "the trainer found the study itself at fault", run=alone.name)
    lost = _lost(trial, ended)
    if len(lost) >= MOST_LOST:
        reason = lost[-1].message or "its run ended without a result"
        return Verdict(give_up=f"{len(lost)} attempts came to nothing; the last one: {reason}", run=lost[-1].name)
    return Verdict(solo=bool(faults) or len(lost) >= LOST_BEFORE_SOLO)


def _lost(trial: Trial, ended: list[Run]) -> list[Run]:
    """Losses since the trial has got further than ever before at this rung."""
    lost: list[Run] = []
    furthest = 0
    for run in ended:
        saved = dict(run.saved).get(trial.index, 0)
        if saved > furthest:
            furthest, lost = saved, []
        elif _came_to_nothing(run):
            lost.append(run)
    return lost


def _came_to_nothing(run: Run) -> bool:
    """Lost other than to a full disk, or succeeded without a result that counts (or the trial would not be waiting)."""
    return run.no_space_at is None and run.state in (RunState.LOST, RunState.SUCCEEDED)


_SUFFIX_ONLY = ("optimizer", "schedule", "gradient_clipping", "label_smoothing", "dropout", "depth_transfer")
"""Training fields that concern the trainable part only, so that trials may share a run whatever these are."""


@dataclass(frozen=True)
class Held:
    """Trials that could not be started, and why."""

    trials: tuple[int, ...]
    limit: str | None = None
    """The budget's limit that forbids it now."""
    for_good: str | None = None
    """Why no later attempt can help either."""


@dataclass(frozen=True)
class _Group:
    """Waiting trials that could share a run."""

    bracket: int
    rung: int
    start_tokens: int
    start_layers: int
    """z of the checkpoints that they would start from."""
    trials: tuple[int, ...]
    solo: bool


class Launcher:
    """Looks at a state that its caller changes between decisions."""

    def __init__(self, seen: Observation, state: StudyState, plan: Plan) -> None:
        self._seen = seen
        self._spec = seen.spec
        self._state = state
        self._plan = plan
        self._rules = placement(seen, state)  # made of ended runs, which no decision of a tick changes
        self._trainable = [self._rules.trainable(rung).layers for rung in plan.rungs]
        """Layers that each rung comes to in this cluster: asked once, not for each waiting trial."""
        self._speed = Speed(state.runs.values())
        self._separating = [p.name for p in seen.spec.parameters if _separates(p)]

    def decisions(self) -> Iterator[StartRun | Held]:
        """The runs to start now, highest rung first; the caller applies each before it asks for the next."""
        if not self._seen.classes:
            return  # no device at all is a state of the cluster, and passes; it says nothing about what fits
        for group in self._groups():
            left = list(group.trials)
            share = self._together(group, len(left))
            while left and self._free_runs() > 0:
                asked = self._plan.rungs[group.rung].layers
                wanted = min(share, len(left))
                try:
                    fit = self._place(asked, wanted)
                except NothingFits:
                    yield Held(tuple(left), for_good=self._no_fit_message())
                    break
                if fit is None:
                    break
                decision = self._run(group, tuple(left[: fit.trials]), fit)
                yield decision
                if isinstance(decision, Held):
                    break
                left = left[len(decision.trials) :]

    def wanted_trials(self) -> int:
        """How many new configurations would fill the devices that no waiting trial takes (for ASHA)."""
        spare = min(self._free_runs(), sum(self._free().values()))
        for group in self._groups():
            spare -= math.ceil(len(group.trials) / self._together(group, len(group.trials)))
        if spare <= 0:
            return 0
        if self._plan.open_ended:
            each = int(self._spec.search.eta**self._plan.top)
        else:
            each = math.ceil((self._plan.trials - len(self._state.trials)) / self._width(0))
        each = min(each, self._most_together())
        return spare * (each if self._pays(self._plan.rungs[0].layers, 0, 0, each) else 1)

    def _groups(self) -> list[_Group]:
        busy = self._state.busy()
        groups: dict[tuple[int, int, tuple[int, int], bool, str], list[int]] = {}
        for trial in self._state.trials.values():
            if trial.waiting and trial.index not in busy:
                solo = judge(self._state, trial).solo
                start = self._start(trial)
                key = (trial.bracket, trial.rung, start, solo, self._batch_key(trial))
                groups.setdefault(key, []).append(trial.index)
        made = [
            _Group(bracket, rung, tokens, layers, tuple(members), solo)
            for (bracket, rung, (tokens, layers), solo, _), members in groups.items()
        ]
        # What has come furthest takes least, so that a limit that holds up one group holds up all after it
        return sorted(made, key=lambda group: (-group.rung, group.bracket, -group.start_tokens, group.trials[0]))

    def _start(self, trial: Trial) -> tuple[int, int]:
        """Tokens and layers of the checkpoint that a run of it would start from, if one is of use at its rung."""
        if trial.checkpoint is None:
            return 0, 0
        may = resumes if trial.checkpoint_rung in (None, trial.rung) else goes_on
        layers = trial.checkpoint.layers
        # With `degrade` the small card that trained so few may be the one that is free again.
        again = self._rules.degrade and trial.checkpoint.tokens < self._plan.rungs[trial.rung].tokens
        ahead = (self._trainable[trial.rung], *([layers] if again else []))
        if not any(may(self._spec.promotion, layers, now) for now in ahead):
            return 0, 0
        return trial.checkpoint.tokens, layers

    def _batch_key(self, trial: Trial) -> str:
        return json.dumps({name: trial.assignment.get(name) for name in self._separating})

    def _width(self, rung: int) -> int:
        """How many runs of a rung there can be at a time."""
        rules = self._rules
        home = rules.home(self._plan.rungs[rung].layers)
        alone = home is not None and not rules.overflow and not rules.degrade
        slots = home.slots if home is not None and alone else sum(c.slots for c in self._seen.classes)
        return max(1, min(self._spec.search.parallelism, slots))

    def _free_runs(self) -> int:
        return self._spec.search.parallelism - len(self._state.active_runs)

    def _free(self) -> dict[str, int]:
        free = {memory_class.name: memory_class.slots for memory_class in self._seen.classes}
        for run in self._state.active_runs:
            if run.memory_class in free:
                free[run.memory_class] -= 1
        return {name: max(0, count) for name, count in free.items()}

    def _most_together(self) -> int:
        return min(self._spec.search.max_trials_per_run, MAX_TRIALS_PER_RUN)

    def _pays(self, layers: int, rung: int, start_tokens: int, trials: int) -> bool:
        """Whether sharing a run pays at this fidelity, start-up time included as far as it is known."""
        startup = self._speed.startup()
        share = 0.0
        if startup is not None:
            tokens = self._plan.rungs[rung].tokens - start_tokens
            flops = cost.run_flops(self._seen.profile, layers, tokens, 1)
            alone = self._speed.seconds(flops, self._seen.classes[0].name if self._seen.classes else "", rung)
            share = startup / max(1e-9, (alone or 0.0) - startup)
        return cost.packing_pays(self._seen.profile, layers, trials, share)

    def _together(self, group: _Group, count: int) -> int:
        """How many of the group's `count` waiting trials to put into the next run."""
        layers = self._plan.rungs[group.rung].layers
        wanted = min(math.ceil(count / self._width(group.rung)), self._most_together())
        if group.solo or not self._pays(layers, group.rung, group.start_tokens, wanted):
            return 1
        return wanted

    def _place(self, asked: int, trials: int) -> Fit | None:
        return self._rules.place(asked, trials, self._free())

    def _run(self, group: _Group, trials: tuple[int, ...], fit: Fit) -> StartRun | Held:
        """The run for these trials, or for fewer of them where the budget in tokens asks for it."""
        rung = self._plan.rungs[group.rung]
        left = remaining(self._spec.budget, self._state, self._seen.now)
        # It may come to fewer layers than the rung could have, where only a small card is free.
        start_tokens = group.start_tokens if resumes(self._spec.promotion, group.start_layers, fit.layers) else 0
        each = cost.increment(rung.tokens, start_tokens, self._seen.profile.step_tokens)
        while True:
            flops = cost.run_flops(self._seen.profile, fit.layers, each, len(trials))
            expected = self._speed.seconds(flops, fit.memory_class, group.rung)
            price = price_per_second(self._spec.budget, fit.memory_class)
            share = max(1, min(self._free_runs(), sum(self._free().values())))
            reservation = reserve(left, each * len(trials), expected, price, share)
            if isinstance(reservation, Reservation):
                break
            if len(trials) == 1:
                return Held(trials, limit=reservation)
            trials = trials[: len(trials) // 2]
        return StartRun(
            name=self._run_name(group),
            bracket=group.bracket,
            rung=group.rung,
            layers=fit.layers,
            tokens=rung.tokens,
            start_tokens=start_tokens,
            trials=trials,
            memory_class=fit.memory_class,
            reserved=reservation.amounts,
            deadline_seconds=reservation.deadline_seconds,
            predicted_bytes=predicted_peak(self._seen, fit.layers, len(trials)),
            flops=flops,
        )

    def _run_name(self, group: _Group) -> str:
        """Deterministic (study, bracket, rung, position), so that making it twice is harmless."""
        earlier = sum(1 for r in self._state.runs.values() if (r.bracket, r.rung) == (group.bracket, group.rung))
        return f"{self._seen.name}-b{group.bracket}-r{group.rung}-{earlier:03d}"

    def _no_fit_message(self) -> str:
        largest = max((c.usable_bytes or 0 for c in self._seen.classes), default=0)
        return (
            f"not even one trainable layer fits the largest memory class ({format_bytes(largest)} usable); lower "
            "training.batchSize or training.sequenceLength, or add a larger GPU"
        )


def _separates(parameter: Parameter) -> bool:
    """Whether trials that differ in this parameter cannot share a run.

    Trials of a run share its frozen prefix and its batches, so they must agree on model and data, on what makes a
    batch, on precision and on activation checkpointing: on everything but what concerns the trainable part only. A
    parameter that is bound to no field reaches a Custom entrypoint, which builds each trial's model itself.
    """
    target = target_of(parameter)
    if target is None:
        return False
    return target.section != "training" or target.path[1] not in _SUFFIX_ONLY
