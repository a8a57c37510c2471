"""What a place that runs trainers and a store of state must be able to do. Small on purpose: neither decides anything.

Nobody here keeps a study's spec, which may be edited while it runs: whoever drives the loop holds it and hands it in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.reconcile import Patience, Sample
from frostline_operator.engine.state import MemoryClass, Run, StudyState
from frostline_trainer.contract import RunResult, RunSpec


@dataclass(frozen=True)
class Trouble:
    """Why a run does not run, and what would help."""

    reason: str
    message: str
    waits: bool = False
    """Nothing is wrong: it is a queue's turn to let it go."""


@dataclass(frozen=True)
class RunView:
    """What can be seen of one run."""

    run: str
    phase: Literal["Absent", "Starting", "Running", "Ended"]
    """Absent: never started, or no trace is left of it. Starting: asked for, and its trainer does not run yet. Ended:
    it holds no device any more."""
    samples: tuple[Sample, ...] = ()
    """Of a run that runs, the values since the last look. Of one that has ended, all that its source has shown of it,
    so that what is awaited can be told from what has come."""
    saved: Mapping[str, int] = field(default_factory=dict)
    """Tokens of checkpoints on the way, by trial, as far as anything new was seen."""
    result: RunResult | None = None
    """The durable record; it may be there while the trainer still lingers."""
    held_seconds: float = 0.0
    """Since it was started."""
    message: str = ""
    """For people, where it ended without a record."""
    no_space: bool = False
    """It ended without a record because there was no space to write it to."""


@dataclass(frozen=True)
class ClusterView:
    """What can be seen of a study's runs at one moment."""

    runs: tuple[RunView, ...] = ()
    """Of every run that is open: active, or awaiting its values."""
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    """What keeps runs from running, by run."""
    patience: Patience | None = None
    """How long a run's values are waited for after its end; None where the run's record counts at once."""


@dataclass(frozen=True)
class RunSettings:
    """Where a run keeps its checkpoints and how it is watched."""

    checkpoint: str
    metrics_port: int
    linger_seconds: float
    metrics_file: str | None = None
    memory_limit: int | None = None


class Cluster(Protocol):
    """A place where the runs of one study go. Every call may be repeated without harm."""

    def classes(self, spec: HPOStudySpec, state: StudyState) -> tuple[MemoryClass, ...]:
        """The memory classes that the study may use now."""

    def observe(self, spec: HPOStudySpec, state: StudyState) -> ClusterView:
        """What can be seen of the study's open runs now."""

    def run_settings(self, spec: HPOStudySpec, run: Run) -> RunSettings:
        """The parts of a run's document that only the place knows."""

    def start(self, spec: HPOStudySpec, run: Run, document: RunSpec) -> Trouble | None:
        """Start a run unless it was started before. Returns what was in the way, None where nothing was."""

    def stop(self, run: Run) -> None:
        """Tell a run to write its checkpoints and end."""

    def release(self, run: Run) -> None:
        """Tell a run that its last values have been read: it need not linger."""

    def sweep(self, spec: HPOStudySpec, folders: Sequence[str], over: bool) -> bool:
        """Remove checkpoints that nobody needs any more, at once or in batches. Asked at every tick.

        Args:
            spec: of the study.
            folders: all that may go, those that are gone already included.
            over: nothing of the study runs any more, so that even a few are worth the effort.

        Returns:
            Whether nothing is left to do for now.
        """


class Store(Protocol):
    """Where a study's state survives its operator."""

    def load(self) -> StudyState:
        """The state as it was last saved."""

    def save(self, state: StudyState) -> None:
        """Save everything that changed, all or nothing."""

    def add_samples(self, run: str, samples: Sequence[Sample]) -> None:
        """Keep observed values; the same value again changes nothing."""

    def samples(self, run: str) -> list[Sample]:
        """The values observed of a run."""

    def add_event(self, at: float, reason: str, message: str) -> None:
        """Keep a line for people."""
