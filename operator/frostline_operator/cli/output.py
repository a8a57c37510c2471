"""Files that a command writes where a person says: whole or not at all, and with the reason where it cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

Form = Literal["live", "plain", "quiet", "json"]
"""How progress is told: a live picture, lines, not at all, or as JSON lines."""


class OutputError(Exception):
    """A file that cannot be written; the message names it, says why and what to do."""


def write_file(path: Path, content: str) -> None:
    """Write a file in the place of an older one; devices and pipes are written to and never replaced.

    Raises:
        OutputError: it cannot be written.
    """
    path = path.resolve()
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give a file in it")
    new = path.with_name(f".{path.name}.new")
    try:
        if path.exists() and not path.is_file():
            path.write_text(content, encoding="utf-8")
            return
        try:
            new.write_text(content, encoding="utf-8")
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {reason(error)}") from error


def deliver(content: str, output: Path | None) -> None:
    """Write to a file, and say where it is, or to standard output.

    Raises:
        OutputError: the file cannot be written.
    """
    if output is None:
        sys.stdout.write(content)
    else:
        write_file(output, content)
        print(output)


def reason(error: OSError) -> str:
    """Why the system refused, and what to do about it."""
    words = error.strerror or str(error)
    remedy = next((text for kind, text in _REMEDIES if isinstance(error, kind)), _BY_NUMBER.get(error.errno or 0))
    return f"{words}; {remedy}" if remedy else words


_REMEDIES: tuple[tuple[type[OSError], str], ...] = (
    (FileNotFoundError, "make the folder first, or give another path"),
    (PermissionError, "give a path that you may write to"),
    (NotADirectoryError, "a part of the path is a file; give another path"),
)
_BY_NUMBER = {
    28: "make room on the disk, or give a path on another one",
    30: "give a path on a file system that can be written",
    122: "make room in your quota, or give a path elsewhere",
}
"""Remedies by errno: ENOSPC, EROFS, EDQUOT."""
