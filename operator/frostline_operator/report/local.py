"""The report of a study that ran on this machine."""

from __future__ import annotations

import platform
from pathlib import Path

from frostline_operator.local.files import StudyFiles
from frostline_operator.local.session import read_folder
from frostline_operator.report.collect import collect
from frostline_operator.report.record import StudyRecord


def read_record(folder: Path) -> StudyRecord:
    """The record of the study in a folder; a command may be running it meanwhile.

    Raises:
        SessionError: there is no study in the folder.
    """
    study, store, observation = read_folder(folder)
    try:
        ended = [at for at, reason, _ in store.events() if reason == "Finish"]
        checkpoints = str(StudyFiles(folder).checkpoints.resolve())
        return collect(study, observation, store.samples, ended[-1] if ended else None, platform.node(), checkpoints)
    finally:
        store.close()
