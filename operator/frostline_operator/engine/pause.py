"""How long a study waits after runs that ended because there was no space left to write to.

Such a run says nothing about its trials, so it is no attempt of theirs; the next one waits with back-off. All of it
follows from the runs' ends, so that a restarted loop comes to the same answer.
"""

from __future__ import annotations

import datetime

from frostline_operator.engine.state import RunState, StudyState

FIRST_SECONDS = 30.0
LONGEST_SECONDS = 600.0


def paused_until(state: StudyState) -> float | None:
    """The clock before which no run is to be started; None where no run has lacked space since one succeeded.

    The pause doubles with each failure after it; failures within one pause, such as of runs side by side, are one.
    """
    failures: list[float] = []
    for run in state.runs.values():
        if run.no_space_at is not None:
            failures.append(run.no_space_at)
        elif run.state in (RunState.SUCCEEDED, RunState.AWAITING):
            failures.clear()
    until: float | None = None
    pause = FIRST_SECONDS
    for at in sorted(failures):
        if until is None:
            until = at + pause
        elif at >= until:
            pause = min(LONGEST_SECONDS, pause * 2)
            until = at + pause
    return until


def words(until: float) -> str:
    """For people, the same throughout the pause."""
    when = datetime.datetime.fromtimestamp(until, datetime.UTC).strftime("%H:%M:%S")
    return f"no space is left to write checkpoints and results to; make room. The next run starts at {when} UTC"
