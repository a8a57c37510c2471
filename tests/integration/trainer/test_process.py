"""The trainer as a process: exit codes, signals, /metrics over HTTP, and the result's file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from frostline_trainer.contract import RunResult
from tests.integration.conftest import fill

GPT2 = {"family": "CausalLM", "config": {"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2}}


def document(folder: Path, **changes: Any) -> dict[str, Any]:
    training = {"batchSize": 4, "sequenceLength": 32, "optimizer": {"lr": 0.01}}
    return {
        "study": "study", "studyUid": "uid", "run": "run-0", "rung": 0, "layers": 2, "tokens": 1280, "horizon": 1280,
        "trials": [{"name": "a", "training": training}, {"name": "b", "training": {**training, "labelSmoothing": 0.1}}],
        "model": GPT2, "data": {"kind": "Text", "builtin": "python-docs", "validationLimit": 640},
        "checkpoint": str(folder / "checkpoints"), "metricsPort": 0, "metricsFile": str(folder / "address"), **changes,
    }  # fmt: skip


def start(folder: Path, spec: dict[str, Any], **environment: str) -> subprocess.Popen[str]:
    (folder / "run.json").write_text(json.dumps(spec))
    variables = {
        **os.environ, "FROSTLINE_RUN": f"@{folder}/run.json", "FROSTLINE_RESULT": str(folder / "result.json"),
        "OMP_NUM_THREADS": "1", **environment,
    }  # fmt: skip
    command = [sys.executable, "-m", "frostline_trainer", "run"]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def result(folder: Path) -> RunResult:
    return RunResult.model_validate_json((folder / "result.json").read_text())


def wait_for(condition: Any, seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def scrape(folder: Path) -> str:
    address = (folder / "address").read_text()
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_a_run_ends_with_0_and_lingers_until_it_is_released(tmp_path: Path) -> None:
    process = start(tmp_path, document(tmp_path, lingerSeconds=300, evaluations=4))
    wait_for(lambda: (tmp_path / "result.json").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    text = scrape(tmp_path)
    found = result(tmp_path)
    for trial in found.trials:
        labels = f'{{run="run-0",rung="0",study="study",study_uid="uid",trial="{trial.name}"}}'
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert f"frostline_trial_objective{labels}" in lines
        series = {name: value for name, value in lines.items() if f'trial="{trial.name}"' in name}
        values = {name.split("{")[0]: float(value) for name, value in series.items()}
        assert values["frostline_trial_objective"] == trial.objective
        assert values["frostline_trial_tokens_total"] == 1280 and values["frostline_trial_finished"] == 1
    address = (tmp_path / "address").read_text()
    with urllib.request.urlopen(urllib.request.Request(f"http://{address}/release", method="POST"), timeout=5):
        pass
    output = process.communicate(timeout=10)[0]
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in output.splitlines()]
    assert events[0] == "run" and events.count("evaluation") == 8 and events[-1] == "result"
    assert found.exit_code == 0 and {t.reason for t in found.trials} == {"Completed"}
    assert found.seconds >= found.train_seconds > 0


def test_sigterm_checkpoints_every_trial_and_exits_143_and_the_run_goes_on(tmp_path: Path) -> None:
    long = document(tmp_path, tokens=10**9, horizon=10**9)
    process = start(tmp_path, long)
    wait_for(lambda: (tmp_path / "address").exists())
    wait_for(lambda: "step_seconds{" in scrape(tmp_path))
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 143, output
    assert time.monotonic() - asked < 10
    found = result(tmp_path)
    assert {t.reason for t in found.trials} == {"Stopped"} and found.exit_code == 143
    trials = long["trials"]
    for trial, done in zip(trials, found.trials, strict=True):
        assert done.tokens > 0 and (tmp_path / "checkpoints" / str(done.checkpoint) / "state.json").exists()
        trial["parent"] = {"path": done.checkpoint, "layers": 2, "tokens": done.tokens}
    again = start(tmp_path, {**long, "tokens": found.trials[0].tokens + 256})
    output = again.communicate(timeout=60)[0]
    assert again.returncode == 0, output
    assert {t.tokens for t in result(tmp_path).trials} == {found.trials[0].tokens + 256}


def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint_on_the_way(tmp_path: Path) -> None:
    # On the way: at once, and then as often as writing may take its share of the time
    long = document(tmp_path, tokens=10**6, horizon=10**6, checkpointSeconds=0.001)
    process = start(tmp_path, long)
    states = [tmp_path / "checkpoints" / name / "rung-0-0" / "state.json" for name in ("a", "b")]
    wait_for(lambda: all(state.exists() for state in states))
    wait_for(lambda: scrape(tmp_path).count("frostline_trial_checkpoint_tokens{") == 2)
    process.kill()
    process.communicate()
    assert not (tmp_path / "result.json").exists()
    seen = [json.loads(state.read_text())["tokens"] for state in states]
    for trial in long["trials"]:
        trial["parent"] = {"path": f"{trial['name']}/rung-0-0", "layers": 2, "tokens": min(seen)}

    tokens = max(seen) + 256
    again = start(tmp_path, {**long, "run": "run-1", "tokens": tokens})
    output = again.communicate(timeout=60)[0]
    assert again.returncode == 0, output
    gone_on = result(tmp_path).trials
    assert min(seen) > 0 and {t.tokens for t in gone_on} == {tokens}
    for trial in long["trials"]:
        del trial["parent"]
    calm = start(tmp_path, {**long, "run": "run-2", "tokens": tokens, "checkpointSeconds": None})
    assert calm.communicate(timeout=60) and calm.returncode == 0
    undisturbed = result(tmp_path).trials
    assert [t.objective for t in gone_on] == [t.objective for t in undisturbed]
    for one, other in zip(gone_on, undisturbed, strict=True):
        [mine], [theirs] = [(tmp_path / "checkpoints" / str(t.checkpoint)).glob("weights-*") for t in (one, other)]
        assert mine.read_bytes() == theirs.read_bytes()


def test_too_little_memory_exits_42_and_says_with_how_many_layers(tmp_path: Path) -> None:
    process = start(tmp_path, document(tmp_path, memoryLimit=200_000))
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 42, output
    found = result(tmp_path)
    assert found.exit_code == 42 and {t.reason for t in found.trials} == {"OutOfMemory"}
    assert "2 trainable layers and 2 trials" in found.message


def test_enough_memory_by_the_same_count_is_enough(tmp_path: Path) -> None:
    process = start(tmp_path, document(tmp_path, memoryLimit=100_000_000))
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert 200_000 < result(tmp_path).peak_bytes < 100_000_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"family": "Vision", "name": "resnet18"}}, "data.kind: a Vision model takes Images"),
        ({"layers": 9}, "layers: 9 trainable layers asked for, but this model has 4"),
        ({"metric": "bleu"}, "objective.metric: 'bleu'"),
        ({"data": {"kind": "Text", "path": "/not/there"}}, "data.path: there is no /not/there"),
        ({"tokens": 0}, "tokens: Input should be greater than or equal to 1"),
    ],
)
def test_a_study_at_fault_exits_43_and_says_what_to_change(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    process = start(tmp_path, document(tmp_path, **changes))
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 43, output
    assert message in result(tmp_path).message and "Traceback" not in output


def test_layers_bound_late_are_the_layers_that_train(tmp_path: Path) -> None:
    process = start(tmp_path, document(tmp_path), FROSTLINE_LAYERS="3")
    assert process.communicate(timeout=60) and process.returncode == 0
    assert result(tmp_path).layers == 3


def test_a_termination_log_that_is_a_mount_is_written_in_place(tmp_path: Path) -> None:
    """As in a pod: the file is a mount, so nothing can be renamed over it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs to mount")
    for name in ("outside", "inside"):
        (tmp_path / name).touch()
    (tmp_path / "run.json").write_text(json.dumps(document(tmp_path)))
    script = (
        f"mount --bind {tmp_path}/outside {tmp_path}/inside && "
        f"FROSTLINE_RUN=@{tmp_path}/run.json FROSTLINE_RESULT={tmp_path}/inside "
        f"{sys.executable} -m frostline_trainer run"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    if "mount" in done.stderr:
        pytest.skip(f"cannot mount here: {done.stderr}")
    assert done.returncode == 0, done.stdout
    assert RunResult.model_validate_json((tmp_path / "outside").read_text()).exit_code == 0


def test_profile_is_printed_as_json(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(document(tmp_path)))
    command = [sys.executable, "-m", "frostline_trainer", "profile", f"@{tmp_path}/run.json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["layers"] == 4 and found["unit"] == "tokens" and found["stepTokens"] == 128


def test_help_teaches() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "frostline_trainer", "--help"], capture_output=True, text=True, check=True
    )
    assert "FROSTLINE_RUN" in done.stdout and "143" in done.stdout


def test_the_contract_is_imported_without_torch() -> None:
    script = "import sys, frostline_trainer.contract; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("room_for_the_record", [True, False])
def test_a_full_disk_is_said_by_the_exit_code_and_by_the_record_where_there_is_room_for_it(
    room_for_the_record: bool, tmp_path: Path, small_disk: Path
) -> None:
    spec = document(tmp_path, checkpoint=str(small_disk / "checkpoints"), metricsFile=None)
    fill(small_disk)
    environment = {} if room_for_the_record else {"FROSTLINE_RESULT": str(small_disk / "result.json")}
    process = start(tmp_path, spec, **environment)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 45, output
    if room_for_the_record:
        record = result(tmp_path)
        assert record.no_space and record.exit_code == 44, "operators of earlier versions know no 45"
        assert "no space is left to write to" in record.message
