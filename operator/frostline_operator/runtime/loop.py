"""The loop around the engine: observe, book, decide, save, act. It decides nothing itself.

Everything is saved before it is done, and everything done can be done again: wherever the loop is killed, the next one
finds in its store what was decided, and in the place itself what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.actions import Action, FailTrial, Finish, Promote, StopRun, Wait
from frostline_operator.engine.budget import price_per_second, remaining
from frostline_operator.engine.leftovers import leftovers
from frostline_operator.engine.pause import paused_until, words
from frostline_operator.engine.reconcile import Disagreement, Patience, agree, at_rung, decide, disagreements
from frostline_operator.engine.runspec import run_spec
from frostline_operator.engine.state import Finished, Observation, Run, RunState, StudyState, Trial
from frostline_operator.engine.tick import advance
from frostline_operator.engine.transition import RunEnded, apply, book, note_saved, settle
from frostline_operator.runtime.protocol import Cluster, ClusterView, RunView, Store, Trouble
from frostline_trainer.contract import ModelProfile, RunResult


class StudyLoop:
    """One study in one place.

    Args:
        name: of the study.
        uid: tells this study from an earlier one of the same name.
        profile: what the model costs.
        cluster: where runs go.
        store: where the state is kept.
        clock: seconds; it must go on counting while no loop runs.
    """

    def __init__(
        self,
        name: str,
        uid: str,
        profile: ModelProfile,
        cluster: Cluster,
        store: Store,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.uid = uid
        self.profile = profile
        self.cluster = cluster
        self.store = store
        self.clock = clock
        self.state: StudyState = store.load()
        self.waiting_for: str | None = None
        """In words, what nothing but time or other studies can bring."""
        self.troubles: dict[str, Trouble] = {}
        """Runs that do not run, and why."""
        self.swept = False
        """Whether no checkpoint is left that is to be removed now."""
        self._leftovers: Sequence[str] = ()
        self._leftovers_of: tuple[dict[int, Trial], Finished | None] | None = None

    def observe(self, spec: HPOStudySpec) -> Observation:
        """What the engine is shown."""
        classes = self.cluster.classes(spec, self.state)
        return Observation(self.name, spec, self.profile, classes, self.state, self.clock())

    @property
    def done(self) -> bool:
        """Whether the study is over and nothing of it runs, or is awaited, any more."""
        return self.state.finished is not None and not any(run.state.open for run in self.state.runs.values())

    def tick(self, spec: HPOStudySpec) -> list[Action]:
        """One round. Returns what was decided.

        Args:
            spec: of the study, as it is now.
        """
        if self.state.started_at is None:
            self.state.started_at = self.clock()
        self._look(spec)
        observation = self.observe(spec)
        actions = advance(observation)
        for action in actions:
            apply(self.state, action)
            self._record(action)
        waiting_for = next((a.reason for a in actions if isinstance(a, Wait)), None) or self._awaits()
        if waiting_for is not None and waiting_for != self.waiting_for and self._paused_for(waiting_for):
            self.store.add_event(self.clock(), "Paused", waiting_for)
        self.waiting_for = waiting_for
        self.store.save(self.state)
        self._act(observation)
        self.swept = self.cluster.sweep(spec, self._sweepable(), self.done)
        return actions

    @property
    def paused(self) -> bool:
        """Whether it starts nothing now, since there was no space left to write to."""
        until = paused_until(self.state)
        return until is not None and self.clock() < until

    def _paused_for(self, reason: str) -> bool:
        until = paused_until(self.state)
        return until is not None and reason == words(until)

    def interrupt(self, spec: HPOStudySpec) -> None:
        """Stop all runs with checkpoints, without ending the study: it goes on with the next loop."""
        for run in self.state.active_runs:
            self.state.update_run(run.name, state=RunState.STOPPING)
        try:
            self.store.save(self.state)
        finally:  # runs that stop need nothing of what is saved, and a full disk must not keep them
            self._act(self.observe(spec))

    def book_only(self, spec: HPOStudySpec) -> None:
        """Book what has ended and start nothing: for the time after `interrupt`."""
        self._look(spec)
        self.store.save(self.state)
        self._act(self.observe(spec))

    def _sweepable(self) -> Sequence[str]:
        """Checkpoints that nobody needs any more; told again only where trials have changed."""
        now_is = (self.state.trials, self.state.finished)
        if self._leftovers_of != now_is:
            self._leftovers = leftovers(self.state)
            self._leftovers_of = (dict(now_is[0]), now_is[1])
        return self._leftovers

    def _look(self, spec: HPOStudySpec) -> None:
        view = self.cluster.observe(spec, self.state)
        self.troubles = dict(view.troubles)
        for one in view.runs:
            note_saved(self.state, one.run, one.saved)
            run = self.state.runs[one.run]
            self.store.add_samples(run.name, one.samples)
            if not run.state.active:
                continue
            if one.phase == "Ended" or (one.phase == "Absent" and run.state is not RunState.PENDING):
                # Only a pending run is started: one that was told to stop before that, or that left nothing, is over
                self._book(spec, run, one, view.patience)
            elif one.phase == "Running":
                self._watch(run, one)
        self._reconcile(spec, view)

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

    def _book(self, spec: HPOStudySpec, run: Run, view: RunView, patience: Patience | None) -> None:
        samples = self.store.samples(run.name)
        if view.result is not None and patience is None:
            observed = at_rung(samples, run.rung, run.tokens)
            for disagreement in disagreements(observed, view.result, run.rung):
                self._disagree(disagreement)
        price = price_per_second(spec.budget, run.memory_class)
        ended = RunEnded(
            run.name, view.result, view.held_seconds, price, samples, view.message, view.no_space, self.clock()
        )
        settle(self.state, ended, None if patience is None else self.clock())
        self._record_end(self.state.runs[run.name], view.result)

    def _reconcile(self, spec: HPOStudySpec, view: ClusterView) -> None:
        """Book what Prometheus has shown of runs that have ended, or their records once it had its chance."""
        awaiting = self.state.awaiting_runs
        if not awaiting:
            return
        last_call = self.state.finished is not None
        last_call = last_call or remaining(spec.budget, self.state, self.clock()).wall_clock <= 0
        samples = {one.run: one.samples for one in view.runs}
        for run in awaiting:
            by_name = at_rung(samples.get(run.name, ()), run.rung, run.tokens)
            values = {i: by_name[n] for i in run.trials if (n := self.state.trials[i].name) in by_name}
            self._book_awaited(run, values, view.patience, last_call)

    def _awaits(self) -> str | None:
        """What nothing but Prometheus holds up."""
        count = len(self.state.awaiting_runs)
        if not count or self.state.active_runs:
            return None
        return f"{count} {'runs have' if count > 1 else 'run has'} ended, whose values Prometheus has yet to show"

    def _book_awaited(self, run: Run, values: dict[int, float], patience: Patience | None, last_call: bool) -> None:
        assert run.awaited is not None
        decisions = decide(run.awaited, values, self.clock(), patience, last_call)
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

    def _act(self, observation: Observation) -> None:
        spec = observation.spec
        for run in self.state.active_runs:
            if run.state is RunState.PENDING:
                settings = self.cluster.run_settings(spec, run)
                document = run_spec(
                    self.name,
                    self.uid,
                    spec,
                    observation.plan,
                    self.state,
                    run,
                    checkpoint=settings.checkpoint,
                    metrics_port=settings.metrics_port,
                    linger_seconds=settings.linger_seconds,
                    metrics_file=settings.metrics_file,
                    memory_limit=settings.memory_limit,
                )
                trouble = self.cluster.start(spec, run, document)
                if trouble is not None:
                    self.troubles[run.name] = trouble
            elif run.state is RunState.STOPPING:
                self.cluster.stop(run)

    def _record(self, action: Action) -> None:
        text = _words(action, self.state)
        if text is not None:
            self.store.add_event(self.clock(), type(action).__name__, text)

    def _record_end(self, run: Run, result: RunResult | None) -> None:
        if run.state in (RunState.LOST, RunState.FAULT, RunState.OUT_OF_MEMORY):
            kind = f"Run{run.state}" if run.no_space_at is None else "NoSpace"
            device = f" on {result.device}" if result is not None else ""
            self.store.add_event(self.clock(), kind, f"{run.name}{device}: {run.message or 'no record'}")


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
