"""Files under one root, whole or not at all, and none outside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from frostline_trainer.checkpoints.checkpoint import load_checkpoint
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.errors import StudyFault
from tests.unit.trainer.conftest import evaluate, run_spec, trial

OUTSIDE = ["../other/x", "a/../../other/x", "/other/x", "..", "a/..", "memory://other/x", "a\\..\\x", "a\0b"]
OPERATIONS: list[Callable[[Store, str], object]] = [
    lambda store, name: store.read(name),
    lambda store, name: store.write(name, b"mine"),
    lambda store, name: store.remove(name),
    lambda store, name: store.remove_folder(name),
    lambda store, name: store.list(name),
]


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


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", ["folder", "url"])
def test_a_name_that_leads_out_of_the_root_is_refused_by_every_operation(
    tmp_path: Path, name: str, operation: Callable[[Store, str], object], kind: str
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x").write_text("theirs")
    store = Store(str(tmp_path / "study") if kind == "folder" else f"file://{tmp_path}/study")
    with pytest.raises(StudyFault, match="leads out of the study's folder"):
        operation(store, name)
    assert (tmp_path / "other/x").read_text() == "theirs"


def test_what_is_written_is_read_listed_and_removed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a/rung-0-0/state..json", b"{}")
    assert store.read("a/rung-0-0/state..json") == b"{}" and store.list("a/rung-0-0") == ["state..json"]
    store.remove("a/rung-0-0/state..json")
    assert store.list("a/rung-0-0") == [] and store.remove_folder("a") and not store.remove_folder("a")


def test_a_checkpoint_whose_state_names_files_elsewhere_is_not_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "study"))
    (tmp_path / "theirs.safetensors").write_bytes(b"theirs")
    store.write(
        "a/rung-0-0/state.json",
        b'{"format": 1, "layers": 1, "step": 1, "tokens": 1, "weights": "../../../theirs.safetensors", '
        b'"optimizer": "o", "extra": {}}',
    )
    with pytest.raises(StudyFault, match="leads out"):
        load_checkpoint(store, "a/rung-0-0")
