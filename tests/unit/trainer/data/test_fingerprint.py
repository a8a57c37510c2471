"""Data that changed since a study began is noticed, whatever kind it is; where it lies does not count."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import DataSpec
from frostline_trainer.data import fingerprint as module
from frostline_trainer.data.fingerprint import check_unchanged, fingerprint
from frostline_trainer.errors import StudyFault
from frostline_trainer.training.pack import build_pack
from tests.unit.trainer.conftest import FAMILIES, evaluate, run_spec, trial

ROWS = "x,target\n" + "".join(f"{i},{i % 2}\n" for i in range(200))


def table(folder: Path) -> dict[str, Any]:
    (folder / "rows.csv").write_text(ROWS)
    return {"kind": "Table", "path": str(folder / "rows.csv")}


def arrays(folder: Path) -> dict[str, Any]:
    np.savez(folder / "rows.npz", x=np.eye(20), y=np.arange(20) % 2)
    return {"kind": "Table", "path": str(folder / "rows.npz")}


def texts(folder: Path) -> dict[str, Any]:
    (folder / "texts" / "inner").mkdir(parents=True)
    for name in ("a.txt", "inner/b.txt"):
        (folder / "texts" / name).write_text(name * 100)
    return {"kind": "Text", "path": str(folder / "texts")}


def images(folder: Path) -> dict[str, Any]:
    for name in ("cat/1.png", "dog/1.png"):
        (folder / "images" / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "images" / name)
    return {"kind": "Images", "path": str(folder / "images")}


KINDS: list[Callable[[Path], dict[str, Any]]] = [table, arrays, texts, images]


def files_of(data: DataSpec) -> list[Path]:
    path = Path(data.path or "")
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_in_any_file_is_the_studys_fault(kind: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    data = DataSpec(**kind(tmp_path))
    before = fingerprint(data)
    check_unchanged(data, before, fingerprint(data))
    for file in files_of(data):
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StudyFault, match=r"data\.path: .* Put it back as it was, or begin a new study"):
            check_unchanged(data, before, fingerprint(data))
        file.write_bytes(content)
    check_unchanged(data, before, fingerprint(data))


@pytest.mark.parametrize("kind", KINDS)
def test_moved_and_touched_data_is_the_same(kind: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    data = DataSpec(**kind(tmp_path / "old"))
    before = fingerprint(data)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    moved = data.model_copy(update={"path": str(data.path).replace("/old/", "/new/")})
    for file in files_of(moved):
        os.utime(file, (0, 0))
    assert fingerprint(moved) == before


def test_of_a_folder_the_file_that_changed_is_named(tmp_path: Path) -> None:
    data = DataSpec(**texts(tmp_path))
    root, before = Path(data.path or ""), fingerprint(data)
    (root / ".swp").write_text("an editor's")
    check_unchanged(data, before, fingerprint(data))
    changes: list[tuple[Callable[[], object], str]] = [
        (lambda: (root / "new.txt").write_text("x"), "new.txt is new"),
        (lambda: (root / "new.txt").unlink() or (root / "inner/b.txt").write_text("y"), "inner/b.txt has changed"),
        (lambda: (root / "inner/b.txt").unlink(), "inner/b.txt is gone"),
    ]
    for change, words in changes:
        change()
        with pytest.raises(StudyFault, match=words):
            check_unchanged(data, before, fingerprint(data))


def test_large_files_and_folders_are_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut, appended to, replaced: all noticed; and the bytes that are read are bounded."""
    monkeypatch.setattr(module, "READ_BYTES", 2**20)
    path = tmp_path / "large.csv"
    dice = random.Random(0)
    content = dice.randbytes(5 * 2**20)
    path.write_bytes(content)
    data = DataSpec(kind="Table", path=str(path))
    before = fingerprint(data)
    changed = [content[:-1], content + b"0", b"0" + content[1:], content[:-1] + b"0", dice.randbytes(len(content))]
    middle = bytearray(content)
    middle[2**21 : 2**22] = bytes(2**21)
    for other in [*changed, bytes(middle)]:
        path.write_bytes(other)
        with pytest.raises(StudyFault):
            check_unchanged(data, before, fingerprint(data))
    path.write_bytes(content)
    check_unchanged(data, before, fingerprint(data))

    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number}.txt").write_text(str(number))
    data = DataSpec(kind="Text", path=str(folder))
    before = fingerprint(data)
    assert len(json.dumps(before)) < 500, "kept in each checkpoint"
    (folder / "7.txt").rename(folder / "8888.txt")
    with pytest.raises(StudyFault):
        check_unchanged(data, before, fingerprint(data))


def test_a_sparse_file_of_a_terabyte_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate(2**40)
    began = time.monotonic()
    assert fingerprint(DataSpec(kind="Table", path=str(path)))["data.path"]["bytes"] == 2**40
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("family", ["CausalLM", "Vision", "MLP"])
def test_built_in_data_has_a_fingerprint_of_its_content(family: str) -> None:
    data = DataSpec(**FAMILIES[family]["data"])
    before = fingerprint(data)
    assert before["data.builtin"]["bytes"] > 10_000
    check_unchanged(data, before, fingerprint(data))
    before["data.builtin"]["sha256"] = "of another release of the package"
    with pytest.raises(StudyFault, match=rf"data\.builtin: {data.builtin} is not the data"):
        check_unchanged(data, before, fingerprint(data))


def test_a_changed_tokenizer_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "tokenizer.json").write_text("{}")
    data = DataSpec(kind="Text", builtin="python-docs", tokenizer=str(tmp_path / "words"))
    before = fingerprint(data)
    (tmp_path / "words" / "tokenizer.json").write_text("[]")
    with pytest.raises(StudyFault, match=r"data\.tokenizer: .* tokenizer\.json has changed"):
        check_unchanged(data, before, fingerprint(data))


def test_an_entrypoints_own_data_has_none() -> None:
    assert fingerprint(DataSpec(kind="None")) == {}


def test_a_trial_does_not_go_on_with_other_data_than_its_parent_had(tmp_path: Path) -> None:
    data = table(tmp_path)
    first = evaluate(run_spec("MLP", [trial("MLP", "a")], 1, 4, tmp_path, data=data))["a"]
    document = [trial("MLP", "a", first, 1)]
    later = run_spec("MLP", document, 2, 6, tmp_path, rung=1, data=data)
    assert evaluate(later)["a"].reason == "Completed"
    (tmp_path / "rows.csv").write_text(ROWS + "7,1\n")
    with pytest.raises(StudyFault, match=r"data\.path: .*rows\.csv is not the data .* it has 1,\d+ bytes now and had"):
        build_pack(later, torch.device("cpu"), Store(str(tmp_path)))


def test_a_checkpoint_of_an_earlier_release_is_gone_on_from(tmp_path: Path) -> None:
    data = table(tmp_path)
    first = evaluate(run_spec("MLP", [trial("MLP", "a")], 1, 4, tmp_path, data=data))["a"]
    state = tmp_path / str(first.checkpoint) / "state.json"
    index = json.loads(state.read_text())
    del index["data"], index["digest"]
    state.write_text(json.dumps(index))
    (tmp_path / "rows.csv").write_text(ROWS + "7,1\n")
    later = run_spec("MLP", [trial("MLP", "a", first, 1)], 2, 6, tmp_path, rung=1, data=data)
    assert evaluate(later)["a"].reason == "Completed"
