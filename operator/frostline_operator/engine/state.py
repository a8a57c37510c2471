"""What the engine knows of a study: trials, runs, and where runs could go.

Loops (the local one, the Kubernetes controller) keep a `StudyState` in their own store, change it only through `apply`
and `settle` in `transition`, and rebuild it from that store after a restart.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.plan import Plan, make_plan
from frostline_operator.engine.space import Assignment
from frostline_trainer.contract import CheckpointRef, MemoryProfile, ModelProfile, checkpoint_folder


class RunState(enum.StrEnum):
    """Where a run is in its life."""

    PENDING = "Pending"
    """Asked for; not yet seen running."""
    RUNNING = "Running"
    STOPPING = "Stopping"
    """Told to stop; it writes its checkpoints."""
    AWAITING = "Awaiting"
    """Ended with a record, its device free; Prometheus has yet to show its values, or to be given up on."""
    SUCCEEDED = "Succeeded"
    STOPPED = "Stopped"
    """Stopped with checkpoints: goes on later and is no failure."""
    OUT_OF_MEMORY = "OutOfMemory"
    FAULT = "Fault"
    """The study's own fault: trying again cannot help."""
    LOST = "Lost"
    """Gone without a result: killed, evicted, node lost."""

    @property
    def active(self) -> bool:
        """Whether it holds a device."""
        return self in _ACTIVE

    @property
    def open(self) -> bool:
        """Whether results of it are still to come."""
        return self.active or self is RunState.AWAITING


_ACTIVE = frozenset((RunState.PENDING, RunState.RUNNING, RunState.STOPPING))

ResultState = Literal["Completed", "Diverged", "Failed"]
Source = Literal["Record", "Prometheus"]
"""Where a value came from: the record that the run left, or a sample in Prometheus."""


@dataclass(frozen=True)
class RungResult:
    """How one trial came out of one rung."""

    rung: int
    state: ResultState
    value: float | None
    """Finite where the state is Completed, else None."""
    layers: int
    """z it was really trained with."""
    tokens: int
    run: str
    message: str = ""
    source: Source = "Record"


TrialOutcome = Literal["Completed", "Dropped", "Failed", "Stopped"]
"""Completed: has a result at the highest rung. Dropped: not promoted. Failed: diverged or could not be run. Stopped:
the study ended (goal, budget) before the trial did."""


@dataclass(frozen=True)
class Trial:
    """One configuration and how far it has come."""

    index: int
    name: str
    bracket: int
    assignment: Assignment
    rung: int
    """The rung it is to be evaluated at, or was evaluated at last."""
    results: tuple[RungResult, ...] = ()
    checkpoint: CheckpointRef | None = None
    checkpoint_rung: int | None = None
    """The rung at which the checkpoint was written."""
    outcome: TrialOutcome | None = None

    def result_at(self, rung: int) -> RungResult | None:
        """Its result at a rung, None where it has none (yet)."""
        return next((r for r in self.results if r.rung == rung), None)

    @property
    def waiting(self) -> bool:
        """Whether it still needs its current rung's result."""
        return self.outcome is None and self.result_at(self.rung) is None


@dataclass(frozen=True)
class Amounts:
    """What is counted against a budget."""

    tokens: int = 0
    gpu_seconds: float = 0.0
    cost: float = 0.0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.tokens + other.tokens, self.gpu_seconds + other.gpu_seconds, self.cost + other.cost)


@dataclass(frozen=True)
class Recorded:
    """What an ended run wrote down of a trial, while Prometheus is to say what counts."""

    trial: int
    value: float | None
    """Finite, or None where the run measured nothing itself."""
    tokens: int


@dataclass(frozen=True)
class Awaited:
    """What is still to come of a run that has ended."""

    since: float
    """Clock at which its end was seen."""
    ends: RunState
    """Its state once nothing more is awaited."""
    records: tuple[Recorded, ...]


@dataclass(frozen=True)
class Run:
    """One trainer process or pod, past or present."""

    name: str
    bracket: int
    rung: int
    layers: int
    tokens: int
    start_tokens: int
    """Tokens its trials had seen when it started: 0, or those of their checkpoints."""
    trials: tuple[int, ...]
    memory_class: str
    state: RunState
    charged: Amounts
    """Reserved while it is active, what it really took once it has ended."""
    deadline_seconds: float | None = None
    """After so long it is stopped, so that a budget in time cannot be overshot."""
    predicted_bytes: int | None = None
    peak_bytes: int = 0
    reserved_bytes: int = 0
    device: str = ""
    seconds: float = 0.0
    train_seconds: float = 0.0
    flops: float = 0.0
    message: str = ""
    awaited: Awaited | None = None
    """Only in the state Awaiting."""
    saved: tuple[tuple[int, int], ...] = ()
    """(trial, tokens) of the last checkpoints that it was seen to write on the way: what is left if it is killed."""
    no_space_at: float | None = None
    """Clock at its end, where it was lost for want of space to write to: no attempt of its trials."""

    @property
    def packed(self) -> bool:
        """Whether it carries several trials over one frozen prefix."""
        return len(self.trials) > 1

    def folder_of(self, trial: Trial) -> str:
        """Where it keeps a trial's checkpoint, below the study's folder."""
        return checkpoint_folder(trial.name, self.rung, self.name)

    @property
    def device_seconds(self) -> float:
        """Time that it held its device, start-up included; where nothing counts that, the trainer's own."""
        return self.charged.gpu_seconds or self.seconds


@dataclass(frozen=True)
class MemoryClass:
    """Devices of equal usable memory."""

    name: str
    usable_bytes: int | None
    """None where memory is no limit (a CPU without a declared class)."""
    slots: int
    """Devices that this study may hold at once, those that it holds now included."""


FinishReason = Literal["Completed", "GoalReached", "BudgetExhausted", "Failed"]


@dataclass(frozen=True)
class Finished:
    """That a study is over, and why."""

    reason: FinishReason
    message: str
    best: int | None
    """Index of the best trial, None where no trial has a usable result."""


@dataclass(frozen=True)
class Changes:
    """What of a state is not as it was before: new values only, None where nothing changed."""

    trials: tuple[Trial, ...] = ()
    runs: tuple[Run, ...] = ()
    started_at: float | None = None
    finished: Finished | None = None
    disagreements: int | None = None

    def __bool__(self) -> bool:
        return self != Changes()


@dataclass
class StudyState:
    """Everything that has happened in a study."""

    trials: dict[int, Trial] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    started_at: float | None = None
    """Clock at the first observation; the wall-clock budget counts from here."""
    finished: Finished | None = None
    disagreements: int = 0
    """Times that the metrics and a run's record had different values for one trial."""

    def copy(self) -> StudyState:
        """An independent copy (the entries are immutable)."""
        return replace(self, trials=dict(self.trials), runs=dict(self.runs))

    def since(self, before: StudyState) -> Changes:
        """What changed since `before`. Entries are immutable, so identity tells; nothing is ever removed."""
        return Changes(
            trials=tuple(trial for trial in self.trials.values() if before.trials.get(trial.index) is not trial),
            runs=tuple(run for run in self.runs.values() if before.runs.get(run.name) is not run),
            started_at=None if self.started_at == before.started_at else self.started_at,
            finished=None if self.finished == before.finished else self.finished,
            disagreements=None if self.disagreements == before.disagreements else self.disagreements,
        )

    @property
    def active_runs(self) -> list[Run]:
        """Runs that hold a device now."""
        return [run for run in self.runs.values() if run.state in _ACTIVE]

    @property
    def awaiting_runs(self) -> list[Run]:
        """Runs that have ended and whose values Prometheus has yet to show."""
        return [run for run in self.runs.values() if run.state is RunState.AWAITING]

    def busy(self) -> set[int]:
        """Trials that are in a run whose results are still to come."""
        return {trial for run in self.runs.values() if run.state.open for trial in run.trials}

    def runs_of(self, trial: int, rung: int) -> Iterator[Run]:
        """All attempts at one trial's rung, oldest first."""
        return (run for run in self.runs.values() if run.rung == rung and trial in run.trials)

    def seconds_of(self, trial: int, rung: int) -> float:
        """A trial's share of the device time that its rung took, attempts that came to nothing included."""
        ended = (run for run in self.runs_of(trial, rung) if not run.state.active)
        return sum(run.device_seconds / len(run.trials) for run in ended)

    def update_trial(self, index: int, **changes: object) -> None:
        """Replace fields of one trial."""
        self.trials[index] = replace(self.trials[index], **changes)  # type: ignore[arg-type]

    def update_run(self, name: str, **changes: object) -> None:
        """Replace fields of one run."""
        self.runs[name] = replace(self.runs[name], **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Observation:
    """All that a decision may depend on."""

    name: str
    spec: HPOStudySpec
    profile: ModelProfile
    classes: tuple[MemoryClass, ...]
    state: StudyState
    now: float
    """Seconds; only differences are used."""

    @functools.cached_property
    def plan(self) -> Plan:
        """What the study is going to do; made once for all who look at this observation."""
        return make_plan(self.spec, self.profile)

    @property
    def memory(self) -> MemoryProfile | None:
        """What the model needs; None where memory is no limit or could not be predicted: then only exit 42 teaches what
        does not fit."""
        return self.profile.memory
