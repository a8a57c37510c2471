"""What earlier attempts at a trial's rung say about the next one."""

from __future__ import annotations

from dataclasses import dataclass

from frostline_operator.engine.state import Run, RunState, StudyState, Trial
from frostline_trainer.contract import checkpoint_folder

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
    continued without limit: they are bounded by what stopped them.
    """
    ended = [run for run in state.runs_of(trial.index, trial.rung) if not run.state.active]
    faults = [run for run in ended if run.state is RunState.FAULT]
    alone = next((run for run in faults if not run.packed), None)
    if alone is not None:
        return Verdict(give_up=alone.message or "the trainer found the study itself at fault", run=alone.name)
    lost = [run for run in ended if _came_to_nothing(run)]
    if len(lost) >= MOST_LOST:
        reason = lost[-1].message or "its run ended without a result"
        return Verdict(give_up=f"{len(lost)} attempts came to nothing; the last one: {reason}", run=lost[-1].name)
    return Verdict(solo=bool(faults) or len(lost) >= LOST_BEFORE_SOLO)


def unrecorded(state: StudyState, trial: Trial) -> list[Run]:
    """Attempts at a waiting trial's rung that may have left checkpoints on the way beyond its known one, oldest first.

    Whether they did is known only to whoever looks into the store (`folder_of`); killed runs tell nothing. The attempt
    that left the known checkpoint went on from the furthest of those before it that trained as many layers.
    """
    if trial.outcome is not None or trial.result_at(trial.rung) is not None:
        return []
    known = None if trial.checkpoint is None else trial.checkpoint.path
    found: list[Run] = []
    for run in state.runs_of(trial.index, trial.rung):
        if folder_of(trial, run) == known:
            found = [earlier for earlier in found if earlier.layers != run.layers]
        elif not run.state.open:
            found.append(run)
    return found


def folder_of(trial: Trial, run: Run) -> str:
    """Where a run keeps a trial's checkpoint."""
    return checkpoint_folder(trial.name, run.rung, run.name)


def _came_to_nothing(run: Run) -> bool:
    """Lost, or succeeded without a result that counts (else the trial would not be waiting)."""
    return run.state in (RunState.LOST, RunState.SUCCEEDED)
