"""What the engine may ask for: small immutable values that loops carry out."""

from __future__ import annotations

from dataclasses import dataclass

from frostline_operator.engine.space import Assignment
from frostline_operator.engine.state import Amounts, Finished, TrialOutcome


@dataclass(frozen=True)
class CreateTrial:
    """Add a configuration to the study."""

    index: int
    name: str
    bracket: int
    rung: int
    assignment: Assignment


@dataclass(frozen=True)
class Promote:
    """Let a trial into the next rung."""

    trial: int
    from_rung: int
    to_rung: int


@dataclass(frozen=True)
class FailTrial:
    """Give up on a trial's rung: no further attempt can help."""

    trial: int
    rung: int
    run: str
    message: str


@dataclass(frozen=True)
class EndTrial:
    """Nothing further will be done for a trial."""

    trial: int
    outcome: TrialOutcome


@dataclass(frozen=True)
class StartRun:
    """Train some trials of one rung in one process or pod."""

    name: str
    bracket: int
    rung: int
    layers: int
    tokens: int
    start_tokens: int
    trials: tuple[int, ...]
    memory_class: str
    reserved: Amounts
    deadline_seconds: float | None
    predicted_bytes: int | None
    flops: float


@dataclass(frozen=True)
class StopRun:
    """Tell a run to write its checkpoints and end."""

    name: str
    reason: str


@dataclass(frozen=True)
class Finish:
    """End the study."""

    finished: Finished


@dataclass(frozen=True)
class Wait:
    """Nothing can be started now, though something is left to do."""

    reason: str


Action = CreateTrial | Promote | FailTrial | EndTrial | StartRun | StopRun | Finish | Wait
