"""Checkpoints that nobody needs any more, so that the disk does not grow with the number of trials."""

from __future__ import annotations

from frostline_operator.engine.state import StudyState, Trial


def keeps_checkpoint(state: StudyState, trial: Trial) -> bool:
    """Whether a trial's checkpoint may still be of use: to go on from, or because it is the best's.

    A dropped trial is never taken up again. Those that reached the highest rung keep theirs until the study is over and
    says which of them was the best.
    """
    if state.finished is not None:
        return trial.index == state.finished.best
    return trial.outcome in (None, "Completed")


def leftovers(state: StudyState) -> list[str]:
    """Folders of ended runs' checkpoints that can be removed, below the study's own; those removed before included.

    A run that left no record may have left a checkpoint, so its folders are among them too.
    """
    kept = {t.checkpoint.path for t in state.trials.values() if t.checkpoint and keeps_checkpoint(state, t)}
    made = (
        run.folder_of(state.trials[index]) for run in state.runs.values() if not run.state.open for index in run.trials
    )
    return [folder for folder in made if folder not in kept]
