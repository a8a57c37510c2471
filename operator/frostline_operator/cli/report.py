"""`frostline report`: a study's report, finished or under way."""

from __future__ import annotations

import sys
from pathlib import Path

from frostline_operator.local.session import SessionError
from frostline_operator.report.local import write_html, write_text


def write_report(folder: Path, form: str, output: Path | None) -> int:
    """Write the report. Returns the exit code."""
    if form == "html":
        path = write_html(folder, output or folder / "report.html")
        print(path)
        return 0
    if form not in ("json", "csv"):
        raise SessionError(f"--format {form}: give html, json or csv")
    content = write_text(folder, "json" if form == "json" else "csv")
    if output is None:
        sys.stdout.write(content)
    else:
        output.write_text(content, encoding="utf-8")
        print(output)
    return 0
