"""How a run can fail: whose fault it is, which decides what the operator does next."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path


class StudyFault(Exception):  # noqa: N818 - it is the study that is at fault; the name says whose
    """The study's own fault: a bad model, bad data, a bad setting. Exit 43, never retried.

    The message names the field at fault and what would put it right, because it is what the person who wrote the
    study reads in its status.
    """


class InfrastructureFault(Exception):  # noqa: N818
    """The machine failed: device, driver or storage. Exit 44: tried again, elsewhere if there is a choice."""


class CheckpointsLost(InfrastructureFault):
    """Checkpoints that trials were to go on from are missing or damaged: these trials begin again without.

    Args:
        lost: what is wrong with each, by trial.
    """

    def __init__(self, lost: Mapping[str, str]):
        self.trials = tuple(lost)
        super().__init__("; ".join(lost.values()) + "; the trials concerned begin again without")


def located(error: BaseException) -> str:
    """An exception in a line: kind, words, and the file and line that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
