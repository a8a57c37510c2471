"""A world for the engine to act in: runs end in any order, some are lost, run out of memory, diverge or are at fault.

Nothing in it is the engine's: it only carries out actions, checks that they were allowed, and lets runs end.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.actions import Action, CreateTrial, EndTrial, Finish, StartRun, Wait
from frostline_operator.engine.budget import charged
from frostline_operator.engine.reconcile import Patience, decide
from frostline_operator.engine.state import Amounts, MemoryClass, Observation, Run, RunState, StudyState
from frostline_operator.engine.tick import advance
from frostline_operator.engine.transition import RunEnded, apply, book, note_saved, settle
from frostline_trainer.contract import ExitCode, ModelProfile, RunResult, TrialResult, checkpoint_folder

LAYERS = 10
PROFILE = ModelProfile(
    hash="test",
    layers=LAYERS,
    unit="tokens",
    parameters=[z + 1 for z in range(LAYERS)],
    prefix_flops=[10.0 * (LAYERS - 1 - z) for z in range(LAYERS)],
    suffix_flops=[30.0 * (z + 1) for z in range(LAYERS)],
    step_tokens=10,
)


def study(**changes: Any) -> HPOStudySpec:
    """A small study; keyword arguments replace whole sections of the spec, in YAML names."""
    document: dict[str, Any] = {
        "parameters": [{"name": "lr", "type": "Float", "min": 1e-4, "max": 1e-1, "scale": "Log"}],
        "search": {"algorithm": "SuccessiveHalving", "trials": 8, "parallelism": 2},
        "fidelity": {"layers": {"min": 1}, "tokens": {"max": 800}},
        "model": {"family": "CausalLM", "config": {"model_type": "gpt2"}},
        "data": {"kind": "Text", "builtin": "python-docs"},
        "training": {"batchSize": 5, "sequenceLength": 2},
    }
    document.update(changes)
    return HPOStudySpec.model_validate(document)


@dataclass
class Trouble:
    """What may go wrong, as probabilities per ended run, and what always goes wrong."""

    lost: float = 0.0
    stopped: float = 0.0
    slow: float = 0.0
    diverging: frozenset[int] = frozenset()
    faulty: frozenset[int] = frozenset()
    capacity: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Class -> (layers, trials) that really fit it; anything larger ends with exit 42."""
    interrupted: float = 0.0
    """How often, between two ticks, somebody stops all runs (Ctrl-C), those included that were not started yet."""
    unseen: float | None = None
    """Values come through Prometheus, and this share of them never shows in it; None where records count at once."""


PATIENCE = Patience(10.0)


class World:
    """One study's surroundings, driven by a seed of its own that the engine never sees."""

    def __init__(
        self,
        spec: HPOStudySpec,
        seed: int = 0,
        trouble: Trouble | None = None,
        classes: tuple[MemoryClass, ...] = (MemoryClass("cpu", None, 4),),
        **observed: Any,
    ) -> None:
        self.spec = spec
        self.random = random.Random(seed)
        self.trouble = trouble or Trouble()
        self.classes = classes
        self.observed = observed
        self.state = StudyState()
        self.now = 1000.0
        self.log: list[Action] = []
        self.started_at: dict[str, float] = {}
        self.started: set[str] = set()
        """Runs that were still to be started when a tick was over; others were told to stop within it."""
        self.trained: Counter[str] = Counter()
        """Tokens that each run has trained for all its trials, as far as anybody could see."""
        self._saving = random.Random(seed)

    def observe(self) -> Observation:
        return Observation("s", self.spec, PROFILE, self.classes, self.state, self.now, **self.observed)

    def tick(self) -> list[Action]:
        """One decision, carried out and checked; asking again must bring nothing new."""
        actions = advance(self.observe())
        assert actions == advance(self.observe()), "the same observation gave two answers"
        for action in actions:
            apply(self.state, action)
            if isinstance(action, StartRun):
                self.started_at[action.name] = self.now
        if self.state.started_at is None:
            self.state.started_at = self.now
        self.started |= {run.name for run in self.state.active_runs if run.state is RunState.PENDING}
        self.log += actions
        again = [a for a in advance(self.observe()) if not isinstance(a, Wait)]
        assert again == [], f"asked again for {again}"
        self.check()
        return actions

    def check(self) -> None:
        """What must hold at every moment."""
        active = self.state.active_runs
        assert len(active) <= self.spec.search.parallelism
        held = Counter(run.memory_class for run in active)
        for memory_class in self.classes:
            assert held[memory_class.name] <= memory_class.slots
        busy = [trial for run in self.state.runs.values() if run.state.open for trial in run.trials]
        assert len(busy) == len(set(busy)), "a trial is in two runs at once"
        spent, budget = charged(self.state), self.spec.budget
        assert spent.tokens <= (budget.tokens or math.inf)
        assert spent.gpu_seconds <= (budget.gpu_seconds or math.inf) + 1e-6
        assert spent.cost <= (budget.cost or math.inf) + 1e-9
        assert len(self.state.trials) <= (budget.trials or math.inf)

    def value(self, trial: int, layers: int, tokens: int) -> float:
        """The truth: better with more of everything, and trials rank alike at all fidelities."""
        if trial in self.trouble.diverging:
            return math.nan
        quality = random.Random(trial * 7919 + 1).random()
        return quality + 1.0 / layers + 100.0 / tokens

    def end_one(self) -> None:
        """Let some active run end, any of them first."""
        run = self.random.choice(sorted(self.state.active_runs, key=lambda run: run.name))
        if run.name not in self.started:
            settle(self.state, RunEnded(run.name, None, 0.0))
            ended = self.state.runs[run.name]
            assert (ended.state, ended.charged) == (RunState.STOPPED, Amounts()), "nothing of it may stay reserved"
            return
        limit = run.charged.gpu_seconds or 100.0
        seconds = min(limit, self.random.uniform(1, 60) * (20 if self.random.random() < self.trouble.slow else 1))
        self.now = max(self.now, self.started_at[run.name] + seconds)
        settle(self.state, self._ending(run, seconds), None if self.trouble.unseen is None else self.now)

    def interrupt(self) -> None:
        """Stop all runs; of those that were to be started just now, some are not any more."""
        for run in self.state.active_runs:
            if run.state is RunState.PENDING and self.random.random() < 0.5:
                self.started.discard(run.name)
            self.state.update_run(run.name, state=RunState.STOPPING)
        self.check()

    def show_some(self) -> None:
        """Let Prometheus show some of the values that are awaited, or be given up on."""
        for run in self.state.awaiting_runs:
            assert run.awaited is not None
            seen = {}
            for record in run.awaited.records:
                if self.random.random() >= (self.trouble.unseen or 0.0):
                    assert record.value is not None
                    seen[record.trial] = record.value
            if self.random.random() < 0.5:
                self.now += PATIENCE.seconds
            decisions = decide(run.awaited, seen, self.now, PATIENCE, last_call=self.state.finished is not None)
            book(self.state, run.name, decisions)

    def _ending(self, run: Run, seconds: float) -> RunEnded:
        price = run.charged.cost / run.charged.gpu_seconds if run.charged.gpu_seconds else 0.0
        if self.random.random() < self.trouble.lost:
            self._save(run)
            return RunEnded(run.name, None, seconds, price)
        capacity = self.trouble.capacity.get(run.memory_class)
        if (
            capacity is not None
            and (run.layers, len(run.trials)) > capacity
            and (run.layers > capacity[0] or len(run.trials) > capacity[1])
        ):
            return self._whole_run(run, ExitCode.OUT_OF_MEMORY, "OutOfMemory", seconds, price)
        if self.trouble.faulty & set(run.trials):
            return self._whole_run(run, ExitCode.STUDY_FAULT, "Fault", seconds, price)
        deadline = run.deadline_seconds is not None and seconds >= run.deadline_seconds
        if run.state is RunState.STOPPING or deadline or self.random.random() < self.trouble.stopped:
            share = self.random.random()
            tokens = run.start_tokens + int((run.tokens - run.start_tokens) * share) // 10 * 10
            return self._result(run, ExitCode.STOPPED, "Stopped", tokens, seconds, price)
        return self._result(run, ExitCode.DONE, "Completed", run.tokens, seconds, price)

    def _save(self, run: Run) -> None:
        """Checkpoints on the way of some of its trials."""
        saved = {}
        for index in run.trials:
            share = self._saving.uniform(-0.3, 0.99)
            tokens = run.start_tokens + int((run.tokens - run.start_tokens) * share) // 10 * 10
            if tokens > run.start_tokens:
                saved[self.state.trials[index].name] = tokens
                self.trained[run.name] += tokens - run.start_tokens
        note_saved(self.state, run.name, saved)

    def _whole_run(self, run: Run, code: ExitCode, reason: Any, seconds: float, price: float) -> RunEnded:
        trials = [TrialResult(name=self.state.trials[t].name, reason=reason) for t in run.trials]
        result = RunResult(run=run.name, layers=run.layers, exit_code=code, trials=trials, seconds=seconds)
        return RunEnded(run.name, result, seconds, price)

    def _result(self, run: Run, code: ExitCode, reason: Any, tokens: int, seconds: float, price: float) -> RunEnded:
        trials = []
        for index in run.trials:
            self.trained[run.name] += tokens - run.start_tokens
            value = self.value(index, run.layers, tokens) if tokens else None
            diverged = reason == "Completed" and value is not None and math.isnan(value)
            trials.append(
                TrialResult(
                    name=self.state.trials[index].name,
                    reason="Diverged" if diverged else reason,
                    objective=value,
                    tokens=tokens,
                    checkpoint=checkpoint_folder(self.state.trials[index].name, run.rung, run.name) if tokens else None,
                )
            )
        result = RunResult(
            run=run.name,
            layers=run.layers,
            exit_code=code,
            trials=trials,
            seconds=seconds,
            train_seconds=seconds * 0.8,
            peak_bytes=self.observed.get("peak", 0),
        )
        return RunEnded(run.name, result, seconds, price)

    def play(self, most: int = 3000) -> StudyState:
        """Until the study is over and nothing runs any more."""
        for _ in range(most):
            self.tick()
            if self.trouble.interrupted and self.random.random() < self.trouble.interrupted:
                self.interrupt()
            if self.state.awaiting_runs and (not self.state.active_runs or self.random.random() < 0.5):
                self.show_some()
            elif self.state.active_runs:
                self.end_one()
            elif self.state.finished is not None:
                self.check_end()
                return self.state
            else:
                self.now += 10.0
        raise AssertionError(f"no end in sight: {self.log[-5:]}")

    def check_end(self) -> None:
        """What must hold of every ended study."""
        created = [a.index for a in self.log if isinstance(a, CreateTrial)]
        ended = [a.trial for a in self.log if isinstance(a, EndTrial)]
        assert sorted(created) == sorted(ended) == sorted(self.state.trials), "a trial must end exactly once"
        assert sum(isinstance(a, Finish) for a in self.log) == 1
        assert not any(run.state.open for run in self.state.runs.values()), "a run has no end"
        for trial in self.state.trials.values():
            rungs = [r.rung for r in trial.results]
            assert len(rungs) == len(set(rungs)), "two results at one rung"
            for result in trial.results:
                if result.state == "Completed":
                    run = self.state.runs[result.run]
                    assert (result.layers, run.rung) == (run.layers, result.rung)
                    assert result.tokens >= run.tokens
