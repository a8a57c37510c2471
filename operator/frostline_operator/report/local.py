"""The report of a study that ran on this machine."""

from __future__ import annotations

from pathlib import Path


def write_html(folder: Path, output: Path) -> Path:
    """Write the page."""
    return output


def write_text(folder: Path, form: str) -> str:
    """The data."""
    return ""
