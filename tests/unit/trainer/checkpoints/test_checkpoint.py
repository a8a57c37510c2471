"""What a checkpoint holds, what it replaces, and what cannot be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from frostline_trainer.checkpoints.checkpoint import load_checkpoint, load_parents
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.errors import CheckpointsLost, StudyFault
from tests.unit.trainer.conftest import evaluate, run_spec, trial


def test_a_checkpoint_holds_the_trainable_part_only(tmp_path: Path) -> None:
    sizes = {}
    for z in (1, 5):
        evaluate(run_spec("CausalLM", [trial("CausalLM", "a")], z, 2, tmp_path / str(z)))
        files = list((tmp_path / str(z) / "a/rung-0-run").iterdir())
        assert {f.suffix for f in files} == {".safetensors", ".json"}
        sizes[z] = sum(f.stat().st_size for f in files)
    names = load_checkpoint(Store(str(tmp_path / "1")), "a/rung-0-run").weights
    assert set(names) == {"transformer.ln_f.weight", "transformer.ln_f.bias", "lm_head.weight"}
    assert sizes[1] < sizes[5] / 4


def test_a_checkpoint_of_more_layers_or_of_nothing_is_refused(tmp_path: Path) -> None:
    first = evaluate(run_spec("MLP", [trial("MLP", "a")], 3, 2, tmp_path))["a"]
    with pytest.raises(StudyFault, match=r"of more layers than this run trains"):
        evaluate(run_spec("MLP", [trial("MLP", "a", first, 3)], 1, 4, tmp_path, rung=1))
    (tmp_path / "a/rung-0-run/state.json").unlink()
    with pytest.raises(CheckpointsLost, match="no whole checkpoint in a/rung-0-run"):
        evaluate(run_spec("MLP", [trial("MLP", "a", first, 3)], 3, 4, tmp_path, rung=1))


def test_a_checkpoint_that_replaces_another_leaves_no_stale_files(tmp_path: Path) -> None:
    for steps in (2, 4):
        evaluate(run_spec("MLP", [trial("MLP", "a")], 1, steps, tmp_path))
    names = sorted(p.name for p in (tmp_path / "a/rung-0-run").iterdir())
    assert names == ["optimizer-4.safetensors", "state.json", "weights-4.safetensors"]


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 2, tmp_path, run="x-0"))
    read = Store.read

    def replaced_meanwhile(self: Store, name: str) -> bytes:
        content = read(self, name)
        if name.endswith("state.json") and json.loads(content)["step"] == 2:
            evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 4, tmp_path, run="x-0"))
        return content

    monkeypatch.setattr(Store, "read", replaced_meanwhile)
    assert load_checkpoint(Store(str(tmp_path)), "a/rung-0-0").step == 4


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("gone", "no whole checkpoint in a/rung-0-0"),
        ("no tensors", "no whole checkpoint in a/rung-0-0"),
        ("no document", "a/rung-0-0"),
        ("half a document", "a/rung-0-0"),
        ("cut weights", "weights-2.safetensors does not match its digest"),
        ("one bit of the optimizer", "optimizer-2.safetensors does not match its digest"),
        ("one step more", "state.json does not match its digest"),
        ("other format", "format 99"),
    ],
)
def test_a_checkpoint_that_is_not_as_it_was_written_is_lost_and_says_where(
    tmp_path: Path, damage: str, said: str
) -> None:
    trials = [trial("MLP", "a"), trial("MLP", "b")]
    evaluate(run_spec("MLP", trials, 2, 2, tmp_path, run="x-0"))
    folder = tmp_path / "a/rung-0-0"
    document = folder / "state.json"
    match damage:
        case "gone":
            shutil.rmtree(tmp_path / "a")
        case "no tensors":
            (folder / "optimizer-2.safetensors").unlink()
        case "no document":
            document.write_text("{")
        case "half a document":
            document.write_text('{"format": 1}')
        case "cut weights":
            path = folder / "weights-2.safetensors"
            path.write_bytes(path.read_bytes()[:-4])
        case "one bit of the optimizer":
            path = folder / "optimizer-2.safetensors"
            content = bytearray(path.read_bytes())
            content[-3] ^= 1
            path.write_bytes(content)
        case "one step more":
            document.write_text(document.read_text().replace('"step": 2', '"step": 3'))
        case "other format":
            document.write_text('{"format": 99}')
    with pytest.raises(CheckpointsLost, match=said) as caught:
        load_parents(Store(str(tmp_path)), {"a": "a/rung-0-0", "b": "b/rung-0-0"})
    assert caught.value.trials == ("a",)


def test_a_checkpoint_of_an_earlier_version_has_no_digests_and_is_read(tmp_path: Path) -> None:
    evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 2, tmp_path, run="x-0"))
    document = tmp_path / "a/rung-0-0/state.json"
    index = json.loads(document.read_text())
    del index["sha256"], index["digest"]
    document.write_text(json.dumps(index))
    assert load_checkpoint(Store(str(tmp_path)), "a/rung-0-0").step == 2
