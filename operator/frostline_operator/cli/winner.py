"""The best trial of a study, on this machine or a cluster, and what it takes to build it once more."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from frostline_operator.api.study import HPOStudy
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.promotion import best_trial
from frostline_operator.engine.state import Observation, RungResult, Trial
from frostline_operator.kubernetes.client.api import Api
from frostline_operator.kubernetes.snapshot import read_study
from frostline_operator.local.session import SessionError, read_folder


@dataclass(frozen=True)
class Winner:
    """The best trial so far."""

    study: HPOStudy
    """As its manifest says it: relative paths are relative to `code`."""
    uid: str
    code: Path
    """Folder that a custom entrypoint is looked for in: the manifest's, or for a cluster's study the current one."""
    plan: Plan
    trial: Trial
    result: RungResult
    """At the highest rung where a trial has a usable one."""


def read_winner(folder: Path) -> Winner:
    """The winner of the study in a folder; a command may be running it meanwhile.

    Raises:
        SessionError: there is no study in the folder, or it has no result.
    """
    study, store, observation = read_folder(folder)
    try:
        uid, code = store.fact("uid") or "", Path(store.fact("code") or ".")
    finally:
        store.close()
    best = best_of(observation)
    if best is None:
        raise SessionError(f"the study in {folder} has no result yet; run it first")
    return Winner(study, uid, code, observation.plan, *best)


def read_cluster_winner(api: Api, where: str) -> Winner:
    """The winner of a study on a cluster, `namespace/name`.

    Raises:
        NotReadableError: there is no such study, or it has not begun.
        ApiError: the cluster does not answer, or refuses.
        SessionError: it has no result.
    """
    snapshot = read_study(api, where, time.time())
    best = best_of(snapshot.observation)
    if best is None:
        raise SessionError(f"the study {where} has no result yet")
    return Winner(snapshot.study, snapshot.study.metadata.uid or "", Path(), snapshot.observation.plan, *best)


def best_of(observation: Observation) -> tuple[Trial, RungResult] | None:
    """The best trial of a study and the result that makes it so; None where no trial has a usable one."""
    best = best_trial(observation.state, observation.plan, observation.spec.objective.direction == "Maximize")
    if best is None:
        return None
    trial = observation.state.trials[best.trial]
    result = next(r for r in reversed(trial.results) if r.value == best.value and r.layers == best.layers)
    return trial, result
