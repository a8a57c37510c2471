"""How a run ended: its exit code and the record that it leaves behind."""

from __future__ import annotations

import enum
import math
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_serializer, field_validator

from frostline_trainer.contract.base import Section

RESULT_ENV = "FROSTLINE_RESULT"
"""Where the `RunResult` goes; by default the Kubernetes termination log."""
TERMINATION_LOG = "/dev/termination-log"
RESULT_LIMIT_BYTES = 4096
"""Kubernetes truncates a termination message at 4096 bytes; a truncated JSON document is no document."""


class ExitCode(enum.IntEnum):
    """How a run ended, for the operator (podFailurePolicy acts on these)."""

    DONE = 0
    OUT_OF_MEMORY = 42
    """The device's memory did not suffice: retry with fewer layers or in a larger class, and tighten the profile."""
    STUDY_FAULT = 43
    """The study itself is at fault (bad model, bad data, bad entrypoint): never retried."""
    INFRASTRUCTURE = 44
    """Device, driver, storage or the trainer itself failed: tried again, elsewhere if there is a choice."""
    NO_SPACE = 45
    """No space was left to write to: tried again after a pause, without limit. A process's exit code only; the record,
    where there is room for one, has 44 and `no_space`, which operators of earlier versions can read."""
    STOPPED = 143
    """Stopped by SIGTERM or SIGINT with a checkpoint: resumed, not charged as a failure."""


Reason = Literal["Completed", "Diverged", "Stopped", "OutOfMemory", "Fault", "Deadline"]


class Record(Section):
    """What a trainer leaves behind; one of a later version, under way while the operator is replaced, may say more."""

    model_config = ConfigDict(extra="ignore")


class TrialResult(Record):
    """What became of one trial in one run."""

    name: str
    reason: Reason
    """Completed: trained to the rung's tokens. Diverged: the loss was not finite; the trial ended early and ranks last.
    Stopped: by SIGTERM, continue from the checkpoint. OutOfMemory, Fault: of the whole run."""
    objective: float | None = None
    """Last value of the study's metric; None where there is none. NaN and infinities travel as strings."""
    tokens: Annotated[int, Field(ge=0)] = 0
    checkpoint: str | None = None
    """Relative to `RunSpec.checkpoint`; None where nothing was written."""
    checkpoint_lost: bool = False
    """The checkpoint that it was to go on from is missing or damaged: it must begin again without."""

    @field_validator("objective", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return float(value) if value in ("NaN", "Infinity", "-Infinity") else value

    @field_serializer("objective", when_used="json")
    def _to_text(self, value: float | None) -> float | str | None:
        if value is None or math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


class RunResult(Record):
    """The durable record of a run, written atomically at its end (termination log), at most `RESULT_LIMIT_BYTES`."""

    run: str
    layers: Annotated[int, Field(ge=1)]
    exit_code: ExitCode
    trials: list[TrialResult]
    peak_bytes: Annotated[int, Field(ge=0)] = 0
    """Peak of the bytes allocated on the device (torch.cuda.max_memory_allocated; on a CPU the tracker's)."""
    reserved_bytes: Annotated[int, Field(ge=0)] = 0
    """Peak of the bytes the caching allocator held."""
    device_bytes: Annotated[int, Field(ge=0)] = 0
    """Total memory of the device, 0 where there is no accelerator."""
    device: str = "cpu"
    """Product name of the accelerator, or cpu."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """From the process's start to its result, lingering excluded: what the run is charged."""
    train_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Of these, in training and validation: what the cost model learns its speed from."""
    no_space: bool = False
    """It failed because no space was left to write to (ENOSPC, EDQUOT): no fault of trial, device or trainer."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """For people: what went wrong and what would help."""

    def to_json(self) -> str:
        """One line of JSON within `RESULT_LIMIT_BYTES`; the message is shortened first where it does not fit."""
        text = self.model_dump_json(by_alias=True, exclude_defaults=True)
        excess = len(text.encode()) - RESULT_LIMIT_BYTES
        if excess <= 0:
            return text
        kept = self.message.encode()[: max(0, len(self.message.encode()) - excess - 16)].decode(errors="ignore")
        return self.model_copy(update={"message": kept}).model_dump_json(by_alias=True, exclude_defaults=True)
