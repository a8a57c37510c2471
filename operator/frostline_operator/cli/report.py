"""`frostline report`: a study's report, finished or under way."""

from __future__ import annotations

from pathlib import Path

from frostline_operator.cli.output import deliver
from frostline_operator.local.session import SessionError
from frostline_operator.report.export import to_csv, to_json
from frostline_operator.report.local import read_record


def write_report(folder: Path, form: str, output: Path | None) -> int:
    """Write the report. Returns the exit code.

    Raises:
        SessionError: there is no such form, or no study in the folder.
        OutputError: the file cannot be written.
    """
    if form == "html":
        from frostline_operator.report.page import to_html  # its charts take a second to import

        deliver(to_html(read_record(folder)), output or folder / "report.html")
        return 0
    if form not in ("json", "csv"):
        raise SessionError(f"--format {form}: give html, json or csv")
    record = read_record(folder)
    deliver(to_json(record) if form == "json" else to_csv(record), output)
    return 0
