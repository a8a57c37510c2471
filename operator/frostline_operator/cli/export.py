"""`frostline export`: what a study has come to, to go on with: its best network, or its best configuration."""

from __future__ import annotations

from pathlib import Path

from frostline_operator.api.loader import rooted
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.cli.report import write_cluster_study
from frostline_operator.cli.winner import Winner, read_cluster_winner, read_winner
from frostline_operator.engine.runspec import winner_spec
from frostline_operator.kubernetes.client.api import Api
from frostline_operator.kubernetes.objects.names import checkpoint_folder
from frostline_operator.kubernetes.settings import OperatorSettings
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


def export_cluster_best(where: str, output: Path, kubeconfig: Path | None, checkpoints: str | None) -> int:
    """Write the network of the best trial of a study on a cluster. Returns the exit code.

    Data and weights are looked for where the study's pods have them; a custom entrypoint in this folder.

    Args:
        where: `namespace/name`, or a name in the default namespace.
        output: folder to write to.
        kubeconfig: None for the person's own.
        checkpoints: the operator's `checkpoints` as this machine has it, see `checkpoint_root`.

    Raises:
        NotReadableError: there is no such study, or it has not begun.
        ApiError: the cluster does not answer, or refuses.
        SessionError: it has no result, or this machine does not have its checkpoints.
        ProfileError: the trainer could not put the network together.
    """
    api = Api.connect(None if kubeconfig is None else str(kubeconfig))
    winner = read_cluster_winner(api, where)
    root = checkpoint_root(winner, checkpoints)
    return _write(winner.study.spec, winner, root, output, where)


def checkpoint_root(winner: Winner, given: str | None) -> str:
    """The folder or URL of a cluster study's checkpoints, as this machine has it.

    Args:
        winner: with its checkpoint's path below the study's folder.
        given: a URL; or a folder, which is the operator's `checkpoints`, or the study's own folder in it. None for the
            path that the operator uses unless it is told otherwise.

    Raises:
        SessionError: there is no such checkpoint.
    """
    name, meta = winner.trial.name, winner.study.metadata
    if winner.trial.checkpoint is None:
        raise SessionError(f"the best trial, {name}, has left no checkpoint; nothing can be exported")
    root = given or OperatorSettings().checkpoints
    own = checkpoint_folder(root, meta.namespace, meta.name, winner.uid)
    if "://" in root:
        return own
    for folder in (own, root):
        if (Path(folder) / winner.trial.checkpoint.path).is_dir():
            return folder
    below = checkpoint_folder("", meta.namespace, meta.name, winner.uid).lstrip("/")
    what = f"{below}/{winner.trial.checkpoint.path}"
    if given is None:
        raise SessionError(
            f"this machine has no {root}/{what}, which pods of the cluster write to a volume; give --checkpoints with "
            "the folder where that volume, or a copy of it, is mounted here, or with the operator's URL"
        )
    raise SessionError(f"--checkpoints {given}: there is no {what} in it; give the folder that has {below}")


def _write(spec: HPOStudySpec, winner: Winner, checkpoints: str, output: Path, where: str) -> int:
    trial = winner.trial
    if trial.checkpoint is None:
        raise SessionError(f"the best trial in {where}, {trial.name}, has left no checkpoint; nothing can be exported")
    document = winner_spec(winner.study.metadata.name, winner.uid, spec, trial, checkpoints)
    for name in export_trial(document.model_dump_json(by_alias=True, exclude_none=True), output, winner.code):
        print(output / name)
    return 0
