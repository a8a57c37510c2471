"""`frostline run`: a study on this machine, whatever happens to its processes."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frostline_operator.engine.state import RunState, StudyState
from frostline_operator.local.store import SqliteStore

from .conftest import Study, command, environment, frostline


def load(folder: Path) -> StudyState:
    store = SqliteStore(folder / "study.sqlite3")
    try:
        return store.load()
    finally:
        store.close()


def outcome(state: StudyState) -> dict[str, Any]:
    """What a study came to, without how it got there."""
    assert state.finished is not None
    return {
        "best": state.finished.best,
        "trials": {
            t.name: (t.assignment, t.outcome, [(r.rung, r.state, r.value, r.layers, r.tokens) for r in t.results])
            for t in state.trials.values()
        },
    }


def test_a_study_runs_to_its_end_and_says_what_it_found(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    study["spec"]["metrics"] = {"source": "Prometheus"}  # as for a cluster: one manifest serves in both places
    done = frostline("run", write(study), "--dir", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the trainers are read directly, without Prometheus" in done.stdout
    state = load(folder)
    assert state.finished is not None and state.finished.reason == "Completed"
    best = state.trials[state.finished.best or 0]
    assert best.name in done.stdout and "report:" in done.stdout
    assert {t.outcome for t in state.trials.values()} <= {"Completed", "Dropped", "Failed"}
    for run in state.runs.values():
        samples = _samples(folder, run.name)
        final = {trial: value for trial, tokens, value in samples if tokens >= run.tokens}
        for index in run.trials:
            result = state.trials[index].result_at(run.rung)
            assert result is not None
            if result.value is not None:
                assert final[state.trials[index].name] == pytest.approx(result.value), "the scores were read over HTTP"

    again = frostline("run", write(study), "--dir", folder)
    assert again.returncode == 0
    assert outcome(load(folder)) == outcome(state)
    assert len(load(folder).runs) == len(state.runs), "a finished study must not run again"


def _samples(folder: Path, run: str) -> list[tuple[str, int, float]]:
    with sqlite3.connect(folder / "study.sqlite3") as connection:
        rows = connection.execute("SELECT trial, tokens, objective FROM samples WHERE run = ?", (run,)).fetchall()
    return [(str(trial), int(tokens), float(value)) for trial, tokens, value in rows]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_of_the_command_and_of_trainers_at_random_moments_changes_nothing(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    study["spec"]["checkpointInterval"] = "1s"
    manifest = write(study)
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    assert frostline("run", manifest, "--dir", calm).returncode == 0

    dice = random.Random(7)
    kills: Counter[str] = Counter()
    for _ in range(60):
        process = subprocess.Popen(
            command("run", manifest, "--dir", rough, "--plain"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        try:
            wait = dice.uniform(0.5, 4.0) if sum(kills.values()) < 12 else 120
            process.wait(wait)
            break
        except subprocess.TimeoutExpired:
            if dice.random() < 0.3 and _kill_a_trainer(rough):
                kills["trainer"] += 1
            else:
                kills["command"] += 1
            process.kill()
            process.wait()
    assert process.returncode == 0
    assert sum(kills.values()) >= 10, kills

    state = load(rough)
    assert outcome(state) == outcome(load(calm))
    succeeded = Counter(
        (trial, run.rung) for run in state.runs.values() if run.state is RunState.SUCCEEDED for trial in run.trials
    )
    assert set(succeeded.values()) == {1}, "nothing is run twice to its end"


def _kill_a_trainer(folder: Path) -> bool:
    for pid in sorted(folder.glob("runs/*/pid"), key=lambda path: -path.stat().st_mtime):
        if (pid.parent / "result.json").exists():
            continue
        with_pid = subprocess.run(["kill", "-9", pid.read_text().strip()], capture_output=True, check=False)
        return with_pid.returncode == 0
    return False


def test_ctrl_c_stops_with_checkpoints_and_the_same_command_continues(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    study["spec"]["fidelity"] = {"rungs": [{"layers": "All", "tokens": 60_000}]}
    study["spec"]["search"]["trials"] = 2
    manifest, folder = write(study), tmp_path / "out"
    process = subprocess.Popen(
        command("run", manifest, "--dir", folder, "--plain"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    try:
        _wait_for_training(folder)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.terminate()
    assert process.returncode == 130, output
    assert "The same command continues" in output
    stopped = load(folder)
    assert not stopped.active_runs
    assert {run.state for run in stopped.runs.values()} == {RunState.STOPPED}
    seen = [stopped.trials[t].checkpoint for run in stopped.runs.values() for t in run.trials]
    assert all(checkpoint is not None and checkpoint.tokens > 0 for checkpoint in seen)

    study["spec"]["budget"] = {"tokens": 1_000_000}
    done = frostline("run", write(study), "--dir", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    state = load(folder)
    [interrupted] = stopped.runs.values()
    continued = next(r for r in state.runs.values() if r.state is RunState.SUCCEEDED and r.trials == interrupted.trials)
    assert continued.start_tokens == seen[0].tokens  # type: ignore[union-attr]


def _wait_for_training(folder: Path) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until:
        logs = [log.read_text() for log in folder.glob("runs/*/log.jsonl")]
        if any('"evaluation"' in text for text in logs):
            return
        time.sleep(0.1)
    raise AssertionError("no trainer got as far as training")


def test_another_command_on_the_same_folder_is_refused(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    manifest, folder = write(study), tmp_path / "out"
    first = subprocess.Popen(
        command("run", manifest, "--dir", folder, "--plain"), stdout=subprocess.DEVNULL, env=environment()
    )
    try:
        until = time.monotonic() + 30
        while not (folder / "study.sqlite3").exists() and time.monotonic() < until:
            time.sleep(0.1)
        second = frostline("run", manifest, "--dir", folder)
        assert second.returncode == 2
        assert "in use by another frostline command" in second.stderr and str(first.pid) in second.stderr
    finally:
        first.send_signal(signal.SIGTERM)
        first.wait(60)


def test_a_folder_is_not_mixed_up_with_another_study(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    study["spec"]["search"]["trials"] = 1
    assert frostline("run", write(study), "--dir", folder).returncode == 0
    study["spec"] |= {"priority": 5, "checkpointInterval": "1m"}
    study["spec"]["search"]["parallelism"] = 1
    assert frostline("run", write(study), "--dir", folder).returncode == 0
    study["spec"]["training"]["batchSize"] = 64
    study["spec"]["search"]["trials"] = 2
    refused = frostline("run", write(study), "--dir", folder)
    assert refused.returncode == 2
    assert "differs in spec.training, spec.search.trials;" in refused.stderr


def test_a_study_at_fault_fails_with_the_trainers_own_words(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    study["spec"]["data"] = {"kind": "Table", "path": str(tmp_path / "nothing.csv")}
    refused = frostline("run", write(study), "--dir", tmp_path / "out")
    assert refused.returncode == 2
    assert "nothing.csv" in refused.stderr


def test_a_wrong_manifest_prints_every_problem_and_leaves_nothing_behind(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    study["spec"]["search"]["trails"] = 4
    study["spec"]["parameters"][0]["min"] = 5.0
    refused = frostline("run", write(study), "--dir", tmp_path / "out")
    assert refused.returncode == 2
    assert "trials" in refused.stderr and "min" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_the_report_command_gives_the_data(study: Study, write: Callable[[Study], Path], tmp_path: Path) -> None:
    study["spec"]["search"]["trials"] = 2
    folder = tmp_path / "out"
    assert frostline("run", write(study), "--dir", folder).returncode == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<html" in page and "http-equiv" not in page
    document = json.loads(frostline("report", folder, "--format", "json").stdout)
    assert document
    table = frostline("report", folder, "--format", "csv").stdout.splitlines()
    assert "lr" in table[0] and len(table) > 2
