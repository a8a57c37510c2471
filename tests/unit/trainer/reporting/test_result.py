"""The durable record of a run."""

from __future__ import annotations

from pathlib import Path

from frostline_trainer.contract import (
    ExitCode,
    RunResult,
)
from frostline_trainer.reporting.result import write_result


def test_a_result_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "result.json"
    for number in range(2):
        write_result(RunResult(run=f"run{number}", layers=1, exit_code=ExitCode.DONE, trials=[]), path)
        assert RunResult.model_validate_json(path.read_text()).run == f"run{number}"
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]
