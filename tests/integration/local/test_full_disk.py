"""A disk that fills up under a running study: it pauses, says so, and goes on when there is room."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import fill

from .conftest import Study, command, environment, frostline
from .test_run import load, outcome


@pytest.mark.timeout(600)
def test_a_full_disk_pauses_a_study_which_then_comes_to_what_a_calm_one_does(
    study: Study, write: Callable[[Study], Path], tmp_path: Path, small_disk: Path
) -> None:
    study["spec"]["search"] |= {"trials": 4, "parallelism": 1}
    study["spec"]["fidelity"] = {"rungs": [{"layers": 1, "tokens": 640}, {"layers": 2, "tokens": 1280}]}
    manifest, calm, full = write(study), tmp_path / "calm", small_disk / "full"
    assert frostline("run", manifest, "--dir", calm).returncode == 0

    said = tmp_path / "said.txt"
    with said.open("w") as output:
        process = subprocess.Popen(
            command("run", manifest, "--dir", full, "--plain"),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
    try:
        _wait(lambda: any(full.glob("runs/*/pid")), process)
        filler = fill(small_disk)
        _wait(lambda: "is full" in said.read_text(), process)
        time.sleep(20)  # long enough for the trainer to come to its end, and for eight attempts without a pause
        assert process.poll() is None, said.read_text()
        assert len(list(full.glob("runs/*"))) == 1, "a run was started on a full disk"
        filler.unlink()
        assert process.wait(300) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()
    words = said.read_text()
    assert "make room" in words and "The next run starts at" in words, words
    state = load(full)
    assert outcome(state) == outcome(load(calm))
    assert any(run.no_space_at is not None for run in state.runs.values())


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)
