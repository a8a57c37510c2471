"""Everything a report is made from: plain data, which a store fills and the renderers read.

It is also what `frostline report --format json` writes, so names are camelCase there and every field is described.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from frostline_operator.api.study import HPOStudy
from frostline_operator.api.trial import TrialState
from frostline_trainer.contract import Scalar


def _finite_or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Value = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A measured number. None where there is none, or none that is finite (JSON has no NaN)."""


class _Record(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


class CurvePoint(_Record):
    """One validation of one trial."""

    tokens: int
    """Tokens (or samples) the trial has seen."""
    value: Value = None
    """The objective."""
    loss: Value = None


class TrialRung(_Record):
    """What one trial did at one rung."""

    rung: int
    state: Literal["Pending", "Running", "Completed", "Diverged", "Failed"]
    value: Value = None
    """The objective at the rung's end."""
    layers: int
    """z it was really trained with."""
    asked_layers: int
    """z by the schedule."""
    tokens: int
    """Tokens (or samples) at the rung's end."""
    seconds: float = 0.0
    """The trial's share of its runs' time."""
    run: str = ""
    peak_bytes: int | None = None
    """Measured peak of the run's memory."""
    promoted: bool = False
    """Whether it went on to a higher rung from here."""
    message: str = ""
    curve: tuple[CurvePoint, ...] = ()


class TrialRecord(_Record):
    """One configuration and how far it came."""

    index: int
    name: str
    bracket: int = 0
    state: TrialState
    assignment: dict[str, Scalar] = Field(default_factory=dict)
    results: tuple[TrialRung, ...] = ()
    """Lowest rung first."""


class RungRecord(_Record):
    """One row of the rung table."""

    bracket: int = 0
    rung: int
    asked_layers: int
    layers: int
    tokens: int
    size: int = 0
    """Trials that the schedule lets in."""
    entered: int = 0
    running: int = 0
    finished: int = 0
    """With a finite value."""
    promoted: int = 0
    failed: int = 0
    """Diverged, or without a result after every attempt."""
    best: Value = None
    flops: float = 0.0
    seconds: float = 0.0
    """Seconds that runs of this rung held a device."""
    rank_correlation: Value = None
    """Spearman's, with the next rung."""


class RunRecord(_Record):
    """One trainer process or pod."""

    name: str
    bracket: int = 0
    rung: int
    layers: int
    tokens: int
    trials: tuple[str, ...]
    """Names of the trials that it carried over one frozen prefix."""
    state: str
    device: str = ""
    seconds: float = 0.0
    predicted_bytes: int | None = None
    peak_bytes: int | None = None
    memory_ratio: float | None = None
    """Measured over predicted peak; None where one of them is unknown."""
    message: str = ""


class Totals(_Record):
    """What the study has cost, and what one would have paid without it."""

    flops: float = 0.0
    seconds: float = 0.0
    """Seconds that runs held a device, added up."""
    tokens: int = 0
    """Tokens (or samples) trained on, over all trials."""
    cost: float | None = None
    """In the unit of budget.prices, where there are prices."""
    full_flops: float = 0.0
    """The trials that ran, trained at full fidelity; those that diverged or failed, as far as they came."""
    tokens_only_flops: float = 0.0
    """The trials that ran, to the same tokens with every layer trained at each rung: classic halving."""


class Best(_Record):
    """The best trial so far."""

    trial: str
    value: Value
    rung: int
    layers: int
    tokens: int
    assignment: dict[str, Scalar] = Field(default_factory=dict)
    checkpoint: str = ""
    """Folder with its weights, below the study's `checkpoints`; empty where none is kept."""


class Notice(_Record):
    """Something a reader should know, such as that a rung's ranking is not to be trusted."""

    type: str
    message: str


class StudyRecord(_Record):
    """A study, finished or under way."""

    study: HPOStudy
    layers: int
    """L: layers of the whole network."""
    unit: Literal["tokens", "samples"] = "tokens"
    outcome: Literal["Running", "Interrupted", "Completed", "GoalReached", "BudgetExhausted", "Failed"]
    message: str = ""
    """A sentence on why it ended, or what it waits for."""
    started: datetime | None = None
    ended: datetime | None = None
    written: datetime | None = None
    """When this record was made."""
    version: str = ""
    """Of the Frostline that made it."""
    host: str = ""
    """Machine or cluster that the study ran on."""
    checkpoints: str = ""
    """Folder or URL of the study's checkpoints; empty where it is not known."""
    rungs: tuple[RungRecord, ...] = ()
    trials: tuple[TrialRecord, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    totals: Totals = Field(default_factory=Totals)
    best: Best | None = None
    notices: tuple[Notice, ...] = ()

    @property
    def maximize(self) -> bool:
        """Whether a higher objective is better."""
        return self.study.spec.objective.direction == "Maximize"

    @property
    def top_rung(self) -> int:
        """Index of the highest rung; 0 where the schedule is not known yet."""
        return max((row.rung for row in self.rungs), default=0)

    @property
    def checkpoint(self) -> str:
        """Where the best trial's checkpoint lies; empty where none is kept."""
        if self.best is None or not self.best.checkpoint:
            return ""
        return f"{self.checkpoints}/{self.best.checkpoint}" if self.checkpoints else self.best.checkpoint

    @property
    def under_way(self) -> bool:
        """Whether more is to come."""
        return self.outcome in ("Running", "Interrupted")
