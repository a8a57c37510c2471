"""`frostline export`: what a study has come to, to go on with: its best network, or its best configuration."""

from __future__ import annotations

from pathlib import Path

from frostline_operator.api.loader import rooted
from frostline_operator.cli.report import write_cluster_study
from frostline_operator.engine.promotion import best_trial
from frostline_operator.engine.runspec import winner_spec
from frostline_operator.local.files import StudyFiles
from frostline_operator.local.profile import export_trial
from frostline_operator.local.session import SessionError, read_folder

EXPORT_FORMS = ("yaml", "csv", "json", "html")


def export_study(where: str, form: str, kubeconfig: Path | None, output: Path | None) -> int:
    """Write a study in some form. Returns the exit code."""
    return write_cluster_study(where, form, kubeconfig, output, EXPORT_FORMS)


def export_best(folder: Path, output: Path) -> int:
    """Write the network of the best trial of a study that ran on this machine. Returns the exit code.

    Raises:
        SessionError: there is no study in the folder, or none of its trials has left a checkpoint.
        ProfileError: the trainer could not put the network together.
    """
    study, store, seen = read_folder(folder)
    try:
        uid, code = store.fact("uid") or "", Path(store.fact("code") or ".")
    finally:
        store.close()
    best = best_trial(seen.state, seen.plan, seen.spec.objective.direction == "Maximize")
    if best is None:
        raise SessionError(f"the study in {folder} has no result yet; run it first")
    trial = seen.state.trials[best.trial]
    if trial.checkpoint is None:
        raise SessionError(f"the best trial in {folder}, {trial.name}, has left no checkpoint; nothing can be exported")
    spec = rooted(study, code / "study.yaml").spec
    checkpoints = str(StudyFiles(folder.resolve()).checkpoints)
    document = winner_spec(study.metadata.name, uid, spec, trial, checkpoints)
    for name in export_trial(document.model_dump_json(by_alias=True, exclude_none=True), output, code):
        print(output / name)
    return 0
