"""The status of an `HPOStudy`, and the conditions that every object reports.

Totals only, because what belongs to one trial is in its `HPOTrial`. The size depends on the number of rungs, brackets
and budget limits, never on the number of trials: etcd refuses objects above 1.5 MB.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer

from frostline_operator.api.parameters import Assignment
from frostline_trainer.contract import Section


def _in_seconds(time: datetime) -> datetime:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)


Time = Annotated[
    datetime,
    Field(strict=False),
    AfterValidator(_in_seconds),
    PlainSerializer(lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ"), return_type=str, when_used="json"),
]
"""A moment in UTC, in whole seconds, as Kubernetes writes them: 2030-01-31T12:00:00Z."""


class StatusCondition(Section):
    """One statement about an object, in the form that `kubectl wait --for=condition=...` understands."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """Studies: Accepted, Profiled, Progressing, Complete, Failed, FidelityUntrusted, FidelityReduced, RunsBlocked,
    RunsLost, MetricsAvailable."""
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)]
    """One word for programs."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """A sentence for people."""
    last_transition_time: Time
    """When `status` last changed."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The metadata.generation that the statement is about."""


Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


class RungStatus(Section):
    """One row of the rung table."""

    bracket: Count = 0
    rung: Count
    asked_layers: Annotated[int, Field(ge=1)]
    """z by the schedule."""
    layers: Annotated[int, Field(ge=1)]
    """z that is really trained: less than asked for where no GPU of the cluster holds more."""
    tokens: Annotated[int, Field(ge=1)]
    """Tokens (or samples) that a trial has seen at this rung's end."""
    size: Count = 0
    """Trials that the schedule lets in."""
    entered: Count = 0
    running: Count = 0
    finished: Count = 0
    """With a value that ranks."""
    promoted: Count = 0
    failed: Count = 0
    """Diverged, or without a result after every attempt."""
    flops: Amount = 0.0
    seconds: Amount = 0.0
    """Seconds that runs of this rung held a device."""
    rank_correlation: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Spearman's, with the next rung; None while too few trials have reached both."""
    correlated_trials: Count = 0
    """Trials it is computed from."""


class BestTrial(Section):
    """The best trial so far: of the highest rung that any trial has finished."""

    trial: Annotated[str, Field(min_length=1, max_length=63)]
    value: float
    rung: Count
    layers: Annotated[int, Field(ge=1)]
    tokens: Annotated[int, Field(ge=1)]
    assignment: Assignment = Field(default_factory=list)
    checkpoint: Annotated[str, Field(max_length=4096)] | None = None


class BudgetLine(Section):
    """One thing that is counted, whether it is limited or not."""

    name: Literal["trials", "tokens", "gpuSeconds", "wallClock", "cost"]
    """Its name under spec.budget; wallClock is in seconds here."""
    limit: Amount | None = None
    """None where the study sets no limit."""
    spent: Amount = 0.0
    """By runs that have ended."""
    reserved: Amount = 0.0
    """By runs that are going: what they may take at most."""


class TrialCounts(Section):
    """How many trials are in which state."""

    total: Count = 0
    pending: Count = 0
    running: Count = 0
    waiting: Count = 0
    completed: Count = 0
    dropped: Count = 0
    failed: Count = 0
    stopped: Count = 0


class HPOStudyStatus(Section):
    """How far the study has come."""

    observed_generation: Count = 0
    """The metadata.generation that this status is about."""
    phase: Literal["Pending", "Invalid", "Profiling", "Running", "Blocked", "Suspended", "Complete", "Failed"] = (
        "Pending"
    )
    """For printing; programs read the conditions. Invalid: a person has to correct the study. Blocked: nothing of it
    can run."""
    reason: Annotated[str, Field(max_length=1024)] = ""
    """In one word, why it ended (Completed, GoalReached, BudgetExhausted, Failed), or why it is Invalid or Blocked."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """A sentence for people on what goes on, or what is wrong."""
    start_time: Time | None = None
    completion_time: Time | None = None
    layers: Annotated[int, Field(ge=1)] | None = None
    """L, the number of layers of the whole network, once the model is profiled."""
    rung: Annotated[str, Field(max_length=32)] = ""
    """For printing: the highest rung that a trial has entered, and the last one, counted from 0, such as 2/3."""
    progress: Annotated[str, Field(max_length=32)] = ""
    """For printing: trials decided, of how many there are, such as 12/16."""
    best_value: Annotated[str, Field(max_length=32)] = ""
    """For printing: the best value so far, to four digits; `best` has all of them."""
    budget_used: Annotated[str, Field(max_length=32)] = ""
    """For printing: the share of the budget's limit that is closest to being spent, such as 37%."""
    trials: TrialCounts = Field(default_factory=TrialCounts)
    rungs: Annotated[list[RungStatus], Field(max_length=1024)] = Field(default_factory=list)
    best: BestTrial | None = None
    budget: Annotated[list[BudgetLine], Field(max_length=5)] = Field(default_factory=list)
    conditions: Annotated[list[StatusCondition], Field(max_length=32)] = Field(default_factory=list)
    """Accepted, Profiled, Progressing, Complete, Failed, RunsBlocked, RunsLost, MetricsAvailable, FidelityUntrusted,
    FidelityReduced."""
