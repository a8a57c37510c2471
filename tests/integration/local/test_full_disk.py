"""A disk that fills up under a running study: it pauses, says so, and goes on when there is room."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Study, command, environment, frostline
from .test_run import load, outcome


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 32 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        why = f"a file system cannot be mounted here, which needs root: {mounted.stderr.strip()}"
        if os.environ.get("FROSTLINE_REQUIRE_E2E", "") not in ("", "0"):
            pytest.fail(why)
        pytest.skip(why)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Write until nothing more can be written."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return filler


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
