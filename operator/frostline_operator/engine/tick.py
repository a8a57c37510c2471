"""One decision: `advance` looks at what is true and says what to do. The heart of both front doors.

It reads top to bottom: book what has ended, decide who climbs, fill the free devices, see whether the study is over.
Each action is applied to a private copy of the state at once, so that later steps see it; applying the returned actions
to the observed state and asking again brings nothing new.
"""

from __future__ import annotations

import math

from pydantic.alias_generators import to_camel

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine import launch, outcome, pause, promotion, proposals, space
from frostline_operator.engine.actions import Action, CreateTrial, EndTrial, FailTrial, Finish, StopRun, Wait
from frostline_operator.engine.budget import remaining
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.promotion import best_trial
from frostline_operator.engine.state import Finished, FinishReason, Observation, StudyState
from frostline_operator.engine.transition import apply

FAULTY_STUDY = 3
"""So many trials at fault with none that worked, and it is the study that is at fault."""


def advance(observation: Observation) -> list[Action]:
    """What to do now. Pure: the same observation always gives the same actions."""
    return _Tick(observation).decide()


class _Tick:
    """One pass over a private copy of the state."""

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.spec: HPOStudySpec = observation.spec
        self.state: StudyState = observation.state.copy()
        if self.state.started_at is None:
            self.state.started_at = observation.now
        self.plan: Plan = observation.plan
        self.maximize = observation.spec.objective.direction == "Maximize"
        self.actions: list[Action] = []
        self.entry_closed = False
        until = pause.paused_until(self.state)
        self.paused = until if until is not None and observation.now < until else None
        """Until when no run is started, None where runs may be."""

    def do(self, action: Action) -> None:
        apply(self.state, action)
        self.actions.append(action)

    def decide(self) -> list[Action]:
        if self.state.finished is not None:
            self._stop_all("the study is over")
            return self.actions
        self._give_up()
        self._end_by_result()
        if self._goal_reached():
            self._finish("GoalReached", f"the goal of {self.spec.objective.goal:g} is reached")
            return self.actions
        self._climb()
        if self.spec.suspend:
            self._stop_all("the study is suspended")
            self.do(Wait("the study is suspended"))
            return self.actions
        if self._all_at_fault():
            self._fail()
            return self.actions
        blocked = self._start()
        self._conclude(blocked)
        if self.paused is not None and self.state.finished is None:
            self.do(Wait(pause.words(self.paused)))
        return self.actions

    # --- what has ended ---

    def _give_up(self) -> None:
        busy = self.state.busy()
        for trial in list(self.state.trials.values()):
            if trial.waiting and trial.index not in busy:
                verdict = launch.judge(self.state, trial)
                if verdict.give_up is not None:
                    self.do(FailTrial(trial.index, trial.rung, verdict.run, verdict.give_up))

    def _end_by_result(self) -> None:
        for end in promotion.ended_by_result(self.state, self.plan):
            self.do(end)

    def _goal_reached(self) -> bool:
        goal = self.spec.objective.goal
        if goal is None:
            return False
        at_top = [s for s in promotion.scores(self.state.trials.values(), self.plan.top) if s.usable]
        values = [s.value for s in at_top if s.value is not None]
        return any(value >= goal if self.maximize else value <= goal for value in values)

    # --- who climbs ---

    def _climb(self) -> None:
        if self.spec.search.algorithm == "ASHA":
            self._climb_asynchronously()
            return
        for bracket in self.plan.brackets:
            self._create_bracket(bracket.index)
            for move in promotion.synchronous_moves(self.state, self.plan, bracket, self.maximize):
                self.do(move)

    def _create_bracket(self, index: int) -> None:
        offset = sum(bracket.sizes[0] for bracket in self.plan.brackets[:index])
        bracket = self.plan.brackets[index]
        if offset + bracket.sizes[0] - 1 in self.state.trials:
            return
        drawn = space.assignments(self.spec.parameters, self.spec.search, offset + bracket.sizes[0], offset)
        for position, assignment in enumerate(drawn, offset):
            if position not in self.state.trials:
                self._create(position, index, bracket.first_rung, assignment)

    def _climb_asynchronously(self) -> None:
        self._promote_asynchronously()
        self._draw()
        if self.entry_closed:
            self._promote_asynchronously()

    def _promote_asynchronously(self) -> None:
        for move in promotion.asynchronous_promotions(
            self.state, self.plan, self.spec.search.eta, self.maximize, self.entry_closed
        ):
            self.do(move)

    def _draw(self) -> None:
        """Draw configurations for the devices that nothing else waits for."""
        launcher = launch.Launcher(self.observation, self.state, self.plan)
        left = math.inf if self.plan.open_ended else self.plan.trials - len(self.state.trials)
        left = min(left, remaining(self.spec.budget, self.state, self.observation.now).trials)
        if not self.spec.suspend and self.paused is None:
            wanted = int(min(left, self._at_a_time(launcher.wanted_trials())))
            configurations = self._next_configurations(wanted)
            for assignment in configurations:
                self._create(len(self.state.trials), 0, self._entry_rung(), assignment)
            left = left - wanted if len(configurations) == wanted else 0
        self.entry_closed = left <= 0

    def _at_a_time(self, wanted: int) -> int:
        if self.spec.search.sampler != "Model" or wanted == 0:
            return wanted
        return max(wanted, proposals.BATCH)

    def _next_configurations(self, count: int) -> list[space.Assignment]:
        """So many configurations after those that the study has, fewer where the space holds no more."""
        if count <= 0:
            return []
        if self.spec.search.sampler == "Model":
            return proposals.propose(self.spec, self.state, self.plan.top, count)
        known = len(self.state.trials)
        return space.assignments(self.spec.parameters, self.spec.search, known + count, known)

    def _entry_rung(self) -> int:
        if self.spec.trust.on_untrusted != "RaiseLowestRung":
            return 0
        return promotion.lowest_trusted_rung(self.state, self.plan, self.spec.trust)

    def _create(self, index: int, bracket: int, rung: int, assignment: space.Assignment) -> None:
        self.do(CreateTrial(index, trial_name(self.observation.name, index), bracket, rung, assignment))

    # --- what runs ---

    def _start(self) -> str | None:
        """Fill the free devices. Returns why something that waits could not be started, None if nothing is held up."""
        if self.paused is not None:
            return None
        launcher = launch.Launcher(self.observation, self.state, self.plan)
        for decision in launcher.decisions():
            if isinstance(decision, launch.Held):
                if decision.for_good is not None:
                    self._fail_unplaceable(decision)
                    continue
                return decision.limit
            self.do(decision)
        return None

    def _fail_unplaceable(self, held: launch.Held) -> None:
        for index in held.trials:
            trial = self.state.trials[index]
            last = max((run.name for run in self.state.runs_of(index, trial.rung)), default="")
            self.do(FailTrial(index, trial.rung, last, held.for_good or ""))

    # --- whether it is over ---

    def _conclude(self, blocked: str | None) -> None:
        if self._all_at_fault():
            self._fail()
            return
        if self.state.active_runs:
            # What runs have reserved is theirs: to stop them for it would give it back and start them again
            spent = remaining(self.spec.budget, self.state, self.observation.now, reserved=False).exhausted()
            if spent is not None and self.spec.budget.on_exhausted == "Stop":
                self._stop_all(f"budget.{to_camel(spent)} is spent")
            return
        limit = remaining(self.spec.budget, self.state, self.observation.now).exhausted()
        if self.state.awaiting_runs:
            return
        open_work = [t for t in self.state.trials.values() if t.waiting]
        if blocked is not None or (limit is not None and (open_work or not self._nothing_left())):
            self._finish(*outcome.exhausted(self.state, self.plan, blocked or limit or ""))
        elif self._nothing_left():
            self._finish(*outcome.decided(self.state, self.plan))
        elif open_work and not any(memory_class.slots for memory_class in self.observation.classes):
            self.do(Wait("no device is there to run on"))

    def _nothing_left(self) -> bool:
        if any(trial.waiting for trial in self.state.trials.values()):
            return False
        if self.spec.search.algorithm == "ASHA":
            return self.entry_closed
        return all(trial.outcome is not None for trial in self.state.trials.values())

    def _all_at_fault(self) -> bool:
        results = [result for trial in self.state.trials.values() for result in trial.results]
        failed = sum(1 for result in results if result.state == "Failed")
        all_trials_failed = failed > 0 and failed == self.plan.trials
        return failed == len(results) and (failed >= FAULTY_STUDY or all_trials_failed)

    def _fail(self) -> None:
        faulty = next(r for t in self.state.trials.values() for r in t.results if r.state == "Failed")
        self._stop_all("the study is at fault")
        self._finish("Failed", faulty.message)

    def _stop_all(self, reason: str) -> None:
        for run in self.state.active_runs:
            if run.state != "Stopping":
                self.do(StopRun(run.name, reason))

    def _finish(self, reason: FinishReason, message: str) -> None:
        for trial in list(self.state.trials.values()):
            if trial.outcome is None:
                self.do(EndTrial(trial.index, "Stopped" if trial.waiting else "Dropped"))
        self._stop_all("the study is over")
        best = best_trial(self.state, self.plan, self.maximize)
        self.do(Finish(Finished(reason, message, None if best is None else best.trial)))


def trial_name(study: str, index: int) -> str:
    """Deterministic, so that making it twice is harmless."""
    return f"{study}-{index:04d}"
