"""`HPOTrial`: one hyperparameter configuration and how far it has come. Written by the operator, read by people."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator

from frostline_operator.api.parameters import Assignment
from frostline_operator.api.status import StatusCondition
from frostline_operator.api.study import API_VERSION, ObjectMeta
from frostline_trainer.contract import CheckpointRef, Section


class HPOTrialSpec(Section):
    """Which configuration of which study; never changes."""

    study: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the HPOStudy in the same namespace."""
    index: Annotated[int, Field(ge=0)]
    """Its place in the order in which configurations are drawn."""
    bracket: Annotated[int, Field(ge=0)] = 0
    """Hyperband: the bracket it climbs; 0 for the other algorithms."""
    assignment: Assignment = Field(default_factory=list)


class TrialRungResult(Section):
    """What became of the trial at one rung."""

    rung: Annotated[int, Field(ge=0)]
    state: Literal["Pending", "Running", "Completed", "Diverged", "Failed"]
    """Diverged: the loss was not finite; it ranks last. Failed: no attempt came to a result."""
    value: float | None = None
    """The objective; None where there is none, or none that is finite."""
    layers: Annotated[int, Field(ge=1)]
    """z it was really trained with."""
    asked_layers: Annotated[int, Field(ge=1)] | None = None
    """z that the rung asks for."""
    tokens: Annotated[int, Field(ge=0)]
    """Tokens (or samples) seen at this rung's end."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """The trial's share of its runs' time."""
    peak_bytes: Annotated[int, Field(ge=0)] | None = None
    """Measured peak of GPU memory of the run."""
    predicted_bytes: Annotated[int, Field(ge=0)] | None = None
    """What the memory profile said."""
    memory_ratio: Annotated[float, Field(ge=0)] | None = None
    """Measured over predicted peak; None where one of them is unknown."""
    run: Annotated[str, Field(max_length=63)] = ""
    """Name of the run (the Job) that gave the result."""
    source: Literal["Record", "Prometheus"] = "Record"
    """Where the value was taken from: the record that the run left, or Prometheus."""
    message: Annotated[str, Field(max_length=1024)] = ""

    @field_validator("value")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        """JSON has no NaN; `state` says Diverged."""
        return value if value is not None and math.isfinite(value) else None


TrialState = Literal["Pending", "Running", "Waiting", "Completed", "Dropped", "Failed", "Stopped"]


class HPOTrialStatus(Section):
    """How far the trial has come."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    state: TrialState = "Pending"
    """Pending: no run yet. Running: in a run. Waiting: has its rung's result, and is not promoted yet. Completed: has a
    result at the highest rung. Dropped: not promoted. Failed: diverged or could not be run. Stopped: the study ended
    before the trial did."""
    rung: Annotated[int, Field(ge=0)] = 0
    """The rung it is at."""
    value: float | None = None
    """For printing: the objective at the highest rung with a result, to five digits; `rungResults` has all of them."""
    rung_results: Annotated[list[TrialRungResult], Field(max_length=32)] = Field(default_factory=list)
    """Lowest rung first."""
    checkpoint: CheckpointRef | None = None
    """Where it goes on from."""
    conditions: Annotated[list[StatusCondition], Field(max_length=16)] = Field(default_factory=list)
    """Complete: the trial is over, promoted or not, and has not failed. Failed: it has."""


class HPOTrial(Section):
    """One hyperparameter configuration of a study. Made by the operator; only read it."""

    api_version: Literal["hpo.frostline.dev/v1alpha1"] = API_VERSION
    kind: Literal["HPOTrial"] = "HPOTrial"
    metadata: ObjectMeta
    spec: HPOTrialSpec
    status: HPOTrialStatus = Field(default_factory=HPOTrialStatus)
