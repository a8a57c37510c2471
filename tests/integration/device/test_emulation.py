"""Trainer processes under a declared memory limit: what is said to fit runs, what is not ends with exit 42."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from frostline_operator.engine import placement
from frostline_operator.engine.placement import Correction
from frostline_trainer.contract import ExitCode, ModelProfile, RunResult

MODEL = {"family": "CausalLM", "config": {"model_type": "gpt2", "n_layer": 4, "n_embd": 96, "n_head": 4}}
DATA = {"kind": "Text", "builtin": "python-docs", "validationLimit": 1024}
TRAINING = {"batchSize": 8, "sequenceLength": 64}


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> ModelProfile:
    """As the operator asks for it: in a process of its own, for a CPU."""
    document = json.dumps({"model": MODEL, "data": DATA, "training": TRAINING})
    environment = {**os.environ, "FROSTLINE_CACHE": str(tmp_path_factory.mktemp("cache"))}
    command = [sys.executable, "-m", "frostline_trainer", "profile", document, "--memory", "cpu"]
    answers = {
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout for _ in range(2)
    }
    assert len(answers) == 1  # the second one came from the cache
    found = ModelProfile.model_validate_json(answers.pop())
    assert found.memory is not None
    assert found.memory.device == "cpu"
    return found


def run(folder: Path, layers: int, limit: int, trials: int = 1) -> RunResult:
    spec: dict[str, Any] = {
        "study": "limits",
        "studyUid": "limits",
        "run": f"run-{layers}-{limit}",
        "rung": 0,
        "layers": layers,
        "tokens": 8 * 64 * 3,
        "horizon": 8 * 64 * 3,
        "evaluations": 2,
        "trials": [{"name": f"trial-{i}", "training": TRAINING} for i in range(trials)],
        "model": MODEL,
        "data": DATA,
        "checkpoint": str(folder / "checkpoints"),
        "metricsPort": 0,
        "memoryLimit": limit,
    }
    result = folder / f"{spec['run']}-{trials}.json"
    environment = {**os.environ, "FROSTLINE_RUN": json.dumps(spec), "FROSTLINE_RESULT": str(result)}
    done = subprocess.run(
        [sys.executable, "-m", "frostline_trainer", "run"], capture_output=True, text=True, check=False, env=environment
    )
    found = RunResult.model_validate_json(result.read_text())
    assert done.returncode == found.exit_code
    return found


@pytest.mark.slow
def test_a_run_that_is_said_to_fit_fits_and_measures_what_was_foretold(tmp_path: Path, profile: ModelProfile) -> None:
    assert profile.memory is not None
    need = profile.memory.required(2, trials=2)
    result = run(tmp_path, layers=2, limit=need, trials=2)
    assert result.exit_code == ExitCode.DONE
    assert result.peak_bytes == pytest.approx(profile.memory.peak_allocated(2, trials=2), rel=0.01)


@pytest.mark.slow
def test_a_run_beyond_its_limit_ends_with_42_and_its_retry_with_fewer_layers_ends_well(
    tmp_path: Path, profile: ModelProfile
) -> None:
    memory = profile.memory
    assert memory is not None
    limit = (memory.required(3) + memory.required(4)) // 2
    failed = run(tmp_path, layers=4, limit=limit)
    assert failed.exit_code == ExitCode.OUT_OF_MEMORY
    assert [trial.reason for trial in failed.trials] == ["OutOfMemory"]
    learnt = placement.after_exhaustion(Correction(), required=memory.required(4), limit=limit)
    again = memory.largest_layers(limit, correction=learnt.factor)
    assert 1 <= again < 4
    assert run(tmp_path, layers=again, limit=limit).exit_code == ExitCode.DONE


@pytest.mark.slow
def test_a_profile_that_is_too_low_is_corrected_by_the_run_that_ran_out(tmp_path: Path, profile: ModelProfile) -> None:
    assert profile.memory is not None
    rosy = profile.memory.model_copy(
        update={"lines": [[number * 0.7 for number in line] for line in profile.memory.lines]}
    )
    limit = int(profile.memory.peak_allocated(2) * 0.97)
    z = rosy.largest_layers(limit)
    assert z > 1
    result = run(tmp_path, layers=z, limit=limit)
    assert result.exit_code == ExitCode.OUT_OF_MEMORY
    learnt = placement.after_exhaustion(Correction(), required=rosy.required(z), limit=limit)
    assert rosy.largest_layers(limit, correction=learnt.factor) < z
