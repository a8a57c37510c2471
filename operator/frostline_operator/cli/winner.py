"""The best trial of a study that ran on this machine, and what it takes to build it once more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frostline_operator.api.study import HPOStudy
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.promotion import best_trial
from frostline_operator.engine.state import Observation, RungResult, Trial
from frostline_operator.local.session import SessionError, read_folder


@dataclass(frozen=True)
class Winner:
    """The best trial so far."""

    study: HPOStudy
    """As its manifest says it: relative paths are relative to `code`."""
    uid: str
    code: Path
    """Folder of the manifest."""
    plan: Plan
    trial: Trial
    result: RungResult
    """At the highest rung where a trial has a usable one."""


def read_winner(folder: Path) -> Winner:
    """The winner of the study in a folder; a command may be running it meanwhile.

    Raises:
        SessionError: there is no study in the folder, or it has no result.
    """
    study, store, seen = read_folder(folder)
    try:
        uid, code = store.fact("uid") or "", Path(store.fact("code") or ".")
    finally:
        store.close()
    best = best_of(seen)
    if best is None:
        raise SessionError(f"the study in {folder} has no result yet; run it first")
    return Winner(study, uid, code, seen.plan, *best)


def best_of(seen: Observation) -> tuple[Trial, RungResult] | None:
    """The best trial of a study and the result that makes it so; None where no trial has a usable one."""
    best = best_trial(seen.state, seen.plan, seen.spec.objective.direction == "Maximize")
    if best is None:
        return None
    trial = seen.state.trials[best.trial]
    result = next(r for r in reversed(trial.results) if r.value == best.value and r.layers == best.layers)
    return trial, result
