"""`frostline train --best`: a study's winner once more, alone, with all layers and the highest rung's tokens."""

from __future__ import annotations

from pathlib import Path

from frostline_operator.api.loader import rooted
from frostline_operator.cli.output import Form
from frostline_operator.cli.run import Reference, conduct
from frostline_operator.cli.winner import read_winner
from frostline_operator.engine.winner import winner_study


def train_best(folder: Path, output: Path | None, declared: list[str], form: Form) -> int:
    """Train the best configuration of the study in a folder as a study of one trial. Returns the exit code.

    Args:
        folder: of the study.
        output: folder of the new study; None for `folder` with `-best` after its name.
        declared: memory classes, as for `frostline run`.
        form: how progress is told.

    Raises:
        SessionError: there is no study in the folder or no result, or `output` holds another study.
        StudyError: data or weights of the study are where they were no more.
    """
    winner = read_winner(folder)
    study = winner_study(winner.study, winner.plan, winner.trial.assignment)
    if output is None:
        named = folder.resolve() if folder.name in ("", "..") else folder
        output = named.with_name(f"{named.name}-best")
    result = winner.result
    assert result.value is not None
    reference = Reference(
        winner.trial.name, winner.study.spec.objective.metric, result.value, result.layers, result.tokens
    )
    manifest = winner.code / "study.yaml"  # relative paths are relative to its folder; it need not be there
    return conduct(study, rooted(study, manifest), manifest, output, declared, form, reference=reference)
