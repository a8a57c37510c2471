"""The record of a study in a folder."""

from __future__ import annotations

import platform
from pathlib import Path

from frostline_operator import __version__
from frostline_operator.report.export import WRITERS
from frostline_operator.report.local import read_record
from tests.unit.cli.test_refusals import done


def test_a_folder_s_record_says_who_made_it_and_where_the_best_checkpoint_lies(tmp_path: Path) -> None:
    done(tmp_path)
    record = read_record(tmp_path)
    assert (record.version, record.host) == (__version__, platform.node())
    assert record.best is not None
    assert record.checkpoint == f"{tmp_path}/checkpoints/{record.best.checkpoint}"
    assert f"/{record.best.trial}/" in f"/{record.best.checkpoint}"
    for form in ("html", "json", "csv", "yaml"):
        assert record.best.checkpoint in WRITERS[form](record)
