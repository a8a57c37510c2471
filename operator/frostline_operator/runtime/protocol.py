"""What a place that runs trainers must be able to do. Small on purpose: it decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from frostline_operator.engine.reconcile import Patience, Sample
from frostline_operator.engine.state import MemoryClass, Run, StudyState
from frostline_trainer.contract import RunResult, RunSpec


@dataclass(frozen=True)
class RunView:
    """What can be seen of one run."""

    run: str
    phase: Literal["Absent", "Starting", "Running", "Ended"]
    """Absent: never started. Starting: asked for, and its trainer does not run yet. Ended: it holds no device any
    more."""
    samples: tuple[Sample, ...] = ()
    """Values seen since the last look."""
    saved: Mapping[str, int] = field(default_factory=dict)
    """Tokens of checkpoints on the way, by trial, as far as anything new was seen."""
    result: RunResult | None = None
    """The durable record; it may be there while the trainer still lingers."""
    held_seconds: float = 0.0
    """Since it was started."""
    message: str = ""
    """For people, where it ended without a record."""


class Cluster(Protocol):
    """A place where runs go. Every call may be repeated without harm."""

    def classes(self) -> tuple[MemoryClass, ...]:
        """The memory classes there are."""

    def look(self, runs: Sequence[Run]) -> list[RunView]:
        """What can be seen of these runs now."""

    def start(self, run: Run, spec: RunSpec) -> None:
        """Start a run unless it was started before."""

    def stop(self, run: Run) -> None:
        """Tell a run to write its checkpoints and end."""

    def release(self, run: Run) -> None:
        """Tell a run that its last values have been seen: it need not linger."""

    def patience(self) -> Patience | None:
        """How long a run's values are waited for after its end; None where the run's record counts at once."""

    def late_samples(self, runs: Sequence[Run]) -> Mapping[str, Sequence[Sample]]:
        """What Prometheus has shown of runs that have ended, by run: all of it, and nothing from elsewhere."""

    def sweep(self, folders: Sequence[str]) -> None:
        """Remove checkpoints that nobody needs any more, those that are gone already included; it may take a while."""

    def run_settings(self, run: Run) -> RunSettings:
        """The parts of a run's document that only the place knows."""


@dataclass(frozen=True)
class RunSettings:
    """Where a run keeps its checkpoints and how it is watched."""

    checkpoint: str
    metrics_port: int
    linger_seconds: float
    metrics_file: str | None = None
    memory_limit: int | None = None


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
