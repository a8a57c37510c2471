"""A run's document, from the environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import ExitCode, RunResult
from frostline_trainer.errors import StudyFault
from frostline_trainer.reporting.metrics import MetricsServer
from frostline_trainer.run import StopFlag, main, read_spec
from tests.unit.trainer.conftest import run_spec, trial


def document(tmp_path: Path) -> dict[str, Any]:
    spec = run_spec("MLP", [trial("MLP", "a"), trial("MLP", "b")], 2, 4, tmp_path)
    return json.loads(spec.model_dump_json(by_alias=True, exclude_defaults=True))  # type: ignore[no-any-return]


def test_the_run_is_read_from_the_environment_or_a_file(tmp_path: Path) -> None:
    text = json.dumps(document(tmp_path))
    (tmp_path / "run.json").write_text(text)
    assert read_spec({"FROSTLINE_RUN": text}) == read_spec({"FROSTLINE_RUN": f"@{tmp_path}/run.json"})


def test_layers_may_be_bound_late(tmp_path: Path) -> None:
    text = json.dumps(document(tmp_path))
    assert read_spec({"FROSTLINE_RUN": text, "FROSTLINE_LAYERS": "1"}).layers == 1
    assert read_spec({"FROSTLINE_RUN": text, "FROSTLINE_LAYERS": ""}).layers == 2
    for wrong in ("0", "many"):
        with pytest.raises(StudyFault):
            read_spec({"FROSTLINE_RUN": text, "FROSTLINE_LAYERS": wrong})


def test_all_errors_of_a_document_are_named_at_once(tmp_path: Path) -> None:
    wrong = document(tmp_path)
    wrong["tokens"], wrong["colour"] = 0, "red"
    wrong["trials"][0]["training"]["optimizer"] = {"lr": "fast"}
    with pytest.raises(StudyFault) as caught:
        read_spec({"FROSTLINE_RUN": json.dumps(wrong)})
    assert all(name in str(caught.value) for name in ("tokens", "colour", "trials.0.training.optimizer.lr"))


@pytest.mark.parametrize("text", ["", "@/not/there", "{", "[]"])
def test_no_document_is_the_studys_fault(text: str) -> None:
    with pytest.raises(StudyFault, match="FROSTLINE_RUN"):
        read_spec({"FROSTLINE_RUN": text})


def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> RunResult:
    """The record that a run leaves, in this process."""
    text = json.dumps({**document(tmp_path), "metricsPort": 0, **changes})
    monkeypatch.setenv("FROSTLINE_RUN", text)
    monkeypatch.setenv("FROSTLINE_RESULT", str(tmp_path / "result.json"))
    monkeypatch.setattr(StopFlag, "install", lambda flag: None)
    code = main()
    result = RunResult.model_validate_json((tmp_path / "result.json").read_text())
    assert result.exit_code == code
    return result


def test_a_run_that_was_promised_a_gpu_and_has_none_ends_at_once_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = ended(tmp_path, monkeypatch, device="cuda")
    assert result.exit_code == ExitCode.INFRASTRUCTURE
    assert "a GPU was promised to this run" in result.message and "driver" in result.message
    assert ended(tmp_path, monkeypatch, device="cpu").exit_code == ExitCode.DONE


@pytest.mark.parametrize("damaged", [False, True])
def test_only_trials_whose_checkpoint_is_damaged_must_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    before = ended(tmp_path, monkeypatch)
    trials = document(tmp_path)["trials"]
    for one, result in zip(trials, before.trials, strict=True):
        one["parent"] = {"path": result.checkpoint, "layers": 2, "tokens": result.tokens}
    if damaged:
        path = next((tmp_path / str(before.trials[1].checkpoint)).glob("weights-*"))
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    result = ended(tmp_path, monkeypatch, trials=trials, tokens=2 * before.trials[0].tokens, rung=1)
    assert result.exit_code == (ExitCode.INFRASTRUCTURE if damaged else ExitCode.DONE)
    assert [one.checkpoint_lost for one in result.trials] == [False, damaged]
    assert ("does not match its digest; the trials concerned begin again" in result.message) == damaged


@pytest.mark.parametrize(
    ("where", "error", "code", "said"),
    [
        (MetricsServer, RuntimeError("can't start new thread"), ExitCode.INFRASTRUCTURE, "the trainer failed: Runtime"),
        (Store, OSError(5, "Input/output error"), ExitCode.INFRASTRUCTURE, "Input/output error (test_run.py, line"),
        (Store, RuntimeError("CUDA error: uncorrectable ECC error"), ExitCode.INFRASTRUCTURE, "the device failed"),
        (Store, RuntimeError("std::bad_alloc"), ExitCode.OUT_OF_MEMORY, "out of memory with 2 trainable layers"),
    ],
)
def test_whatever_fails_leaves_a_record_of_its_kind(
    where: type, error: Exception, code: ExitCode, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(where, "__init__", fail)
    result = ended(tmp_path, monkeypatch)
    assert result.exit_code == code and said in result.message
