"""The loop around the engine: look, book, decide, save, act. It decides nothing itself.

Everything is saved before it is done, and everything done can be done again: wherever the loop is killed, the next one
finds in its store what was decided, and in the place itself what came of it.
"""

from __future__ import annotations

from collections.abc import Callable

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.actions import Action, FailTrial, Finish, Promote, StopRun, Wait
from frostline_operator.engine.budget import price_per_second, remaining
from frostline_operator.engine.leftovers import leftovers
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.reconcile import Disagreement, Patience, agree, at_rung, decide, disagreements
from frostline_operator.engine.runspec import run_spec
from frostline_operator.engine.state import Finished, Observation, Run, RunState, StudyState, Trial
from frostline_operator.engine.tick import advance
from frostline_operator.engine.transition import RunEnded, apply, book, note_saved, settle
from frostline_operator.runtime.protocol import Cluster, RunView, Store
from frostline_trainer.contract import ModelProfile, RunResult


class StudyLoop:
    """One study in one place.

    Args:
        name: of the study.
        uid: tells this study from an earlier one of the same name.
        spec: what to search.
        profile: what the model costs.
        cluster: where runs go.
        store: where the state is kept.
        clock: seconds; it must go on counting while no loop runs.
    """

    def __init__(
        self,
        name: str,
        uid: str,
        spec: HPOStudySpec,
        profile: ModelProfile,
        cluster: Cluster,
        store: Store,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.uid = uid
        self.spec = spec
        self.profile = profile
        self.cluster = cluster
        self.store = store
        self.clock = clock
        self.state: StudyState = store.load()
        self.waiting_for: str | None = None
        self._swept: tuple[dict[int, Trial], Finished | None] | None = None
        """What the last sweep was about."""

    def observe(self) -> Observation:
        """What the engine is shown."""
        classes = self.cluster.classes()
        return Observation(self.name, self.spec, self.profile, classes, self.state, self.clock())

    @property
    def done(self) -> bool:
        """Whether the study is over and nothing of it runs, or is awaited, any more."""
        return self.state.finished is not None and not any(run.state.open for run in self.state.runs.values())

    def tick(self) -> list[Action]:
        """One round. Returns what was decided."""
        if self.state.started_at is None:
            self.state.started_at = self.clock()
        self._look()
        actions = advance(self.observe())
        for action in actions:
            apply(self.state, action)
            self._tell(action)
        self.waiting_for = next((a.reason for a in actions if isinstance(a, Wait)), None) or self._awaits()
        self.store.save(self.state)
        self._act()
        if self._swept != (known := (self.state.trials, self.state.finished)):
            self.cluster.sweep(leftovers(self.state))
            self._swept = (dict(known[0]), known[1])
        return actions

    def interrupt(self) -> None:
        """Stop all runs with checkpoints, without ending the study: it goes on with the next loop."""
        for run in self.state.active_runs:
            self.state.update_run(run.name, state=RunState.STOPPING)
        self.store.save(self.state)
        self._act()

    def settle_only(self) -> None:
        """Book what has ended and start nothing: for the time after `interrupt`."""
        self._look()
        self.store.save(self.state)
        self._act()

    def _look(self) -> None:
        for view in self.cluster.look(self.state.active_runs):
            note_saved(self.state, view.run, view.saved)
            run = self.state.runs[view.run]
            self.store.add_samples(run.name, view.samples)
            if view.phase == "Ended":
                self._book(run, view)
            elif view.phase == "Running":
                self._watch(run, view)
        self._reconcile()

    def _watch(self, run: Run, view: RunView) -> None:
        if run.state is RunState.PENDING:
            self.state.update_run(run.name, state=RunState.RUNNING)
        if view.result is not None:
            self.cluster.release(run)
        elif run.deadline_seconds is not None and view.held_seconds > run.deadline_seconds:
            self._stop_at_deadline(run)

    def _stop_at_deadline(self, run: Run) -> None:
        if run.state is not RunState.STOPPING:
            self.store.add_event(self.clock(), "Deadline", f"{run.name} reached its {run.deadline_seconds:.0f} s")
            self.state.update_run(run.name, state=RunState.STOPPING)

    def _book(self, run: Run, view: RunView) -> None:
        samples = self.store.samples(run.name)
        patience = self.cluster.patience()
        if view.result is not None and patience is None:
            seen = at_rung(samples, run.rung, run.tokens)
            for disagreement in disagreements(seen, view.result, run.rung):
                self._disagree(disagreement)
        newest: dict[str, int] = {}
        for sample in samples:
            newest[sample.trial] = max(newest.get(sample.trial, 0), sample.tokens - run.start_tokens)
        for index, tokens in run.saved:
            name = self.state.trials[index].name
            newest[name] = max(newest.get(name, 0), tokens - run.start_tokens)
        price = price_per_second(self.spec.budget, run.memory_class)
        ended = RunEnded(
            run.name, view.result, view.held_seconds, price, sum(max(0, t) for t in newest.values()), view.message
        )
        settle(self.state, ended, None if patience is None else self.clock())
        self._tell_ended(self.state.runs[run.name], view.result)

    def _reconcile(self) -> None:
        """Book what Prometheus has shown of runs that have ended, or their records once it had its chance."""
        awaiting = self.state.awaiting_runs
        if not awaiting:
            return
        patience, now = self.cluster.patience(), self.clock()
        out_of_time = remaining(self.spec.budget, self.state, now).wall_clock <= 0
        late = self.cluster.late_samples(awaiting)
        for run in awaiting:
            shown = late.get(run.name, ())
            self.store.add_samples(run.name, shown)
            by_name = at_rung(shown, run.rung, run.tokens)
            seen = {i: by_name[n] for i in run.trials if (n := self.state.trials[i].name) in by_name}
            self._book_awaited(run, seen, patience, self.state.finished is not None or out_of_time)

    def _awaits(self) -> str | None:
        """What nothing but Prometheus holds up."""
        count = len(self.state.awaiting_runs)
        if not count or self.state.active_runs:
            return None
        return f"{count} {'runs have' if count > 1 else 'run has'} ended, whose values Prometheus has yet to show"

    def _book_awaited(self, run: Run, seen: dict[int, float], patience: Patience | None, last_call: bool) -> None:
        assert run.awaited is not None
        decisions = decide(run.awaited, seen, self.clock(), patience, last_call)
        recorded = {record.trial: record.value for record in run.awaited.records}
        for decision in decisions:
            own, value = recorded[decision.trial], decision.value
            compared = decision.source == "Prometheus" and patience is not None and patience.comparable
            if compared and own is not None and value is not None and not agree(value, own):
                self._disagree(Disagreement(self.state.trials[decision.trial].name, run.rung, value, own, "Prometheus"))
        if decisions:
            book(self.state, run.name, decisions)

    def _disagree(self, disagreement: Disagreement) -> None:
        self.state.disagreements += 1
        self.store.add_event(self.clock(), "SourceDisagreement", str(disagreement))

    def _act(self) -> None:
        plan = make_plan(self.spec, self.profile)
        for run in self.state.active_runs:
            if run.state is RunState.PENDING:
                settings = self.cluster.run_settings(run)
                document = run_spec(
                    self.name,
                    self.uid,
                    self.spec,
                    plan,
                    self.state,
                    run,
                    checkpoint=settings.checkpoint,
                    metrics_port=settings.metrics_port,
                    linger_seconds=settings.linger_seconds,
                    metrics_file=settings.metrics_file,
                    memory_limit=settings.memory_limit,
                )
                self.cluster.start(run, document)
            elif run.state is RunState.STOPPING:
                self.cluster.stop(run)

    def _tell(self, action: Action) -> None:
        text = _words(action, self.state)
        if text is not None:
            self.store.add_event(self.clock(), type(action).__name__, text)

    def _tell_ended(self, run: Run, result: RunResult | None) -> None:
        if run.state in (RunState.LOST, RunState.FAULT, RunState.OUT_OF_MEMORY):
            device = f" on {result.device}" if result is not None else ""
            self.store.add_event(self.clock(), f"Run{run.state}", f"{run.name}{device}: {run.message or 'no record'}")


def _words(action: Action, state: StudyState) -> str | None:
    match action:
        case Promote(trial, from_rung, to_rung):
            return f"{state.trials[trial].name} goes from rung {from_rung} to rung {to_rung}"
        case FailTrial(trial, rung, _, message):
            return f"{state.trials[trial].name} failed at rung {rung}: {message}"
        case StopRun(name, reason):
            return f"{name} is stopped: {reason}"
        case Finish(finished):
            return f"{finished.reason}: {finished.message}"
        case _:
            return None
