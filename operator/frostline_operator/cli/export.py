"""`frostline export`: what a study has come to, to go on with: its best network, or its best configuration."""

from __future__ import annotations

from pathlib import Path

from frostline_operator.api.loader import rooted
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.cli.report import write_cluster_study
from frostline_operator.cli.winner import Winner, read_winner
from frostline_operator.engine.runspec import winner_spec
from frostline_operator.local.files import StudyFiles
from frostline_operator.local.profile import export_trial
from frostline_operator.local.session import SessionError

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
    winner = read_winner(folder)
    spec = rooted(winner.study, winner.code / "study.yaml").spec
    checkpoints = str(StudyFiles(folder.resolve()).checkpoints)
    return _write(spec, winner, checkpoints, output, str(folder))


def _write(spec: HPOStudySpec, winner: Winner, checkpoints: str, output: Path, where: str) -> int:
    trial = winner.trial
    if trial.checkpoint is None:
        raise SessionError(f"the best trial in {where}, {trial.name}, has left no checkpoint; nothing can be exported")
    document = winner_spec(winner.study.metadata.name, winner.uid, spec, trial, checkpoints)
    for name in export_trial(document.model_dump_json(by_alias=True, exclude_none=True), output, winner.code):
        print(output / name)
    return 0
