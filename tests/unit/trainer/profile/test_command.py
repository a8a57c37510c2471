"""The command `profile`: what cannot be profiled is refused in one line that names the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from frostline_trainer.profile.command import main

MLP = {"family": "MLP", "hidden": [8]}
TEXT = {"kind": "Text", "builtin": "python-docs"}
CUSTOM = {"family": "Custom", "entrypoint": "mine:train"}


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ({"family": "CausalLM", "config": {"model_type": "llama", "hidden_size": 0}}, TEXT, ["model", "ZeroDivision"]),
        ({"family": "CausalLM", "config": {"model_type": ["gpt2"]}}, TEXT, ["model", "TypeError"]),
        ({"family": "CausalLM", "pretrained": "/nosuch"}, TEXT, ["model.pretrained: no folder /nosuch"]),
        (MLP, {"kind": "Table", "path": "latin.csv", "targetColumn": "y"}, ["data.path: latin.csv", "iconv"]),
        (MLP, {"kind": "Table", "path": "empty.csv", "targetColumn": "y"}, ["data.path: empty.csv is empty"]),
        (CUSTOM | {"entrypoint": "raises:train"}, {"kind": "None"}, ["ValueError: no (raises.py, line 2)"]),
        (CUSTOM | {"entrypoint": "leaves:train"}, {"kind": "None"}, ["left with sys.exit(0); return instead"]),
        (CUSTOM | {"entrypoint": "broken:train"}, {"kind": "None"}, ["importing broken", "(broken.py, line 1)"]),
        (CUSTOM | {"entrypoint": "lacks:train"}, {"kind": "None"}, ["No module named 'not_installed'"]),
    ],
)
def test_what_cannot_be_profiled_is_named(
    model: dict[str, Any],
    data: dict[str, Any],
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "latin.csv").write_bytes("a,y\ncafé,0\nx,1\nz,0\n".encode("latin-1"))
    (tmp_path / "empty.csv").touch()
    (tmp_path / "raises.py").write_text("def train(trial):\n    raise ValueError('no')\n")
    (tmp_path / "leaves.py").write_text("import sys\ndef train(trial):\n    sys.exit(0)\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "lacks.py").write_text("import not_installed\n")
    assert main(json.dumps({"model": model, "data": data, "training": {"sequenceLength": 16}}), "json") == 43
    message = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["message"]
    assert all(part in message for part in said), message
