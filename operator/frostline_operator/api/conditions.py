"""Conditions, as every Kubernetes object reports them, and the times in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer

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
