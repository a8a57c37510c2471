"""The report of a study that ran on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from frostline_operator.local.session import read_folder
from frostline_operator.report.collect import collect
from frostline_operator.report.export import to_csv, to_json
from frostline_operator.report.page import to_html
from frostline_operator.report.record import StudyRecord


def read_record(folder: Path) -> StudyRecord:
    """The record of the study in a folder; a command may be running it meanwhile.

    Raises:
        SessionError: there is no study in the folder.
    """
    study, store, seen = read_folder(folder)
    try:
        ended = [at for at, reason, _ in store.events() if reason == "Finish"]
        return collect(study, seen, store.samples, ended[-1] if ended else None)
    finally:
        store.close()


def write_html(folder: Path, output: Path) -> Path:
    """Write the page; it replaces an older one whole.

    Raises:
        SessionError: there is no study in the folder.
    """
    page = to_html(read_record(folder))
    new = output.with_suffix(".new")
    new.write_text(page, encoding="utf-8")
    new.replace(output)
    return output


def write_text(folder: Path, form: Literal["json", "csv"]) -> str:
    """The report's data.

    Raises:
        SessionError: there is no study in the folder.
    """
    record = read_record(folder)
    return to_json(record) if form == "json" else to_csv(record)
