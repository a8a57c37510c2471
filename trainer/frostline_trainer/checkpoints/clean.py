"""Removing checkpoints that nobody needs any more: some of a study's, or all of them when it is deleted.

Whoever calls this says whose they are, and nothing else is ever touched: a study's folder is called after it, and each
checkpoint's after its trial, rung and attempt (`contract.checkpoint_folder`).
"""

from __future__ import annotations

import json
import re

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import CHECKPOINT_FOLDER, ExitCode
from frostline_trainer.errors import StudyFault
from frostline_trainer.logs import log


def clean(root: str, uid: str, only: list[str] | None = None) -> int:
    """Remove checkpoints and return how many folders there were.

    Args:
        root: the study's folder or URL, as in `RunSpec.checkpoint`.
        uid: of the study; the folder's name must end with its first eight characters.
        only: checkpoints, relative to the root; None removes the study's whole folder.

    Raises:
        StudyFault: the root is not this study's folder, or a name is not one of a checkpoint; nothing is removed.
    """
    path = root.partition("://")[2] if "://" in root else root
    parts = [part for part in path.rstrip("/").split("/") if part]
    if len(uid) < 8 or len(parts) < 2 or ".." in parts or not parts[-1].endswith(f"-{uid[:8]}"):
        raise StudyFault(f"clean: {root} is not the folder of a study with uid {uid}; nothing is removed")
    wrong = [name for name in only or [] if re.fullmatch(CHECKPOINT_FOLDER, name) is None]
    if wrong:
        raise StudyFault(f"clean: {wrong[0]!r} is not the folder of a checkpoint; nothing is removed")
    store = Store(root.rstrip("/"))
    return sum(store.remove_folder(name) for name in (only if only is not None else [""]))


def main(root: str, uid: str, only: str | None) -> int:
    """The command line; returns the exit code."""
    try:
        removed = clean(root, uid, None if only is None else [str(name) for name in json.loads(only)])
    except (StudyFault, ValueError) as fault:
        log("fault", message=str(fault))
        return int(ExitCode.STUDY_FAULT)
    log("cleaned", root=root, removed=removed)
    return int(ExitCode.DONE)
