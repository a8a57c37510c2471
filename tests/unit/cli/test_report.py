"""Where `frostline report` and `frostline export` write a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline_operator.cli.report import write_record
from frostline_operator.report.export import WRITERS
from tests.unit.report import records


def test_a_page_without_an_output_goes_to_a_file_and_not_into_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report-s.html"
    write_record(records.whole(), "html", None, page)
    assert capsys.readouterr().out == f"{page}\n"
    assert page.read_text(encoding="utf-8") == WRITERS["html"](records.whole())


@pytest.mark.parametrize("form", ["json", "csv", "yaml"])
def test_data_without_an_output_goes_to_standard_output(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(records.whole(), form, None, tmp_path / "page.html")
    assert capsys.readouterr().out == WRITERS[form](records.whole())
    assert list(tmp_path.iterdir()) == []


def test_a_dash_asks_for_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(records.empty(), "html", Path("-"), tmp_path / "page.html")
    assert capsys.readouterr().out == WRITERS["html"](records.empty())
    assert list(tmp_path.iterdir()) == []
