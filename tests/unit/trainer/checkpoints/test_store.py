"""Files of a store are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline_trainer.checkpoints.store import Store
from tests.unit.trainer.conftest import evaluate, run_spec, trial


def test_checkpoints_go_through_fsspec_too(tmp_path: Path) -> None:
    local = evaluate(run_spec("MLP", [trial("MLP", "a")], 1, 2, tmp_path))["a"]
    memory = evaluate(run_spec("MLP", [trial("MLP", "a")], 1, 2, tmp_path, checkpoint="memory://frostline/x"))["a"]
    assert memory == local
    spec = run_spec("MLP", [trial("MLP", "a", memory, 1)], 2, 4, tmp_path, rung=1, checkpoint="memory://frostline/x")
    assert evaluate(spec)["a"].reason == "Completed"


def test_a_file_that_could_not_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        Store(str(tmp_path)).write("a/rung-0-0/weights-1.safetensors", b"x" * 1000)
    assert list((tmp_path / "a/rung-0-0").iterdir()) == []
