"""What earlier attempts at a trial's rung say about the next one."""

from __future__ import annotations

from dataclasses import dataclass

from frostline_operator.engine.state import Run, RunState, StudyState, Trial

MOST_LOST = 8
"""A run may be lost (killed, evicted, node gone) so often without being the trial's fault."""
LOST_BEFORE_SOLO = 2
"""After so many losses in company a trial runs alone, in case it is what brings its runs down."""


@dataclass(frozen=True)
class Verdict:
    """How, or whether, to try again."""

    solo: bool = False
    """Run it without company."""
    give_up: str | None = None
    """Why no further attempt is made."""
    run: str = ""
    """The attempt that decided."""


def judge(state: StudyState, trial: Trial) -> Verdict:
    """The verdict on a trial that waits for its current rung.

    Out of memory says nothing here: placement finds a larger device, fewer companions or fewer layers. Stopped runs are
    continued without limit: they are bounded by what stopped them. So is a run that was lost but had saved something.
    """
    ended = [run for run in state.runs_of(trial.index, trial.rung) if not run.state.active]
    faults = [run for run in ended if run.state is RunState.FAULT]
    alone = next((run for run in faults if not run.packed), None)
    if alone is not None:
        return Verdict(give_up=alone.message or "the trainer found the study itself at fault", run=alone.name)
    lost = _lost(trial, ended)
    if len(lost) >= MOST_LOST:
        reason = lost[-1].message or "its run ended without a result"
        return Verdict(give_up=f"{len(lost)} attempts came to nothing; the last one: {reason}", run=lost[-1].name)
    return Verdict(solo=bool(faults) or len(lost) >= LOST_BEFORE_SOLO)


def _lost(trial: Trial, ended: list[Run]) -> list[Run]:
    """Losses since the trial has got further than ever before at this rung."""
    lost: list[Run] = []
    furthest = 0
    for run in ended:
        saved = dict(run.saved).get(trial.index, 0)
        if saved > furthest:
            furthest, lost = saved, []
        elif _came_to_nothing(run):
            lost.append(run)
    return lost


def _came_to_nothing(run: Run) -> bool:
    """Lost, or succeeded without a result that counts (else the trial would not be waiting)."""
    return run.state in (RunState.LOST, RunState.SUCCEEDED)
