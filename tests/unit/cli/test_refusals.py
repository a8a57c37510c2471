"""What a person gets wrong at the command line: a message that says what to do and exit code 2, never a traceback."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frostline_operator.api.yaml import to_yaml
from frostline_operator.cli import main
from frostline_operator.local.profile import _message
from frostline_operator.local.store import SqliteStore
from tests.unit.api.manifests import GOOD
from tests.unit.engine.world import PROFILE, World, study

Frostline = Callable[..., tuple[int, str]]


@pytest.fixture
def frostline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Frostline:
    """The command line in this process, in a folder with a manifest and a study that has run: exit code, and output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(GOOD, encoding="utf-8")
    done(tmp_path / "done")

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["frostline", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        return int(left.value.code or 0), shown.out + shown.err

    return run


def done(folder: Path) -> None:
    """A study's folder as `frostline run` leaves it."""
    world = World(study())
    world.play()
    store = SqliteStore(folder / "study.sqlite3")
    store.set_fact("manifest", json.dumps(manifest()))
    store.set_fact("profile", PROFILE.model_dump_json(by_alias=True))
    store.save(world.state)
    store.close()


def manifest() -> dict[str, Any]:
    """Of the study that has run."""
    return {
        "apiVersion": "hpo.frostline.dev/v1alpha1",
        "kind": "HPOStudy",
        "metadata": {"name": "s"},
        "spec": study().model_dump(mode="json", by_alias=True, exclude_unset=True),
    }


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("plan study.yaml --gpu 8", "did you mean 8Gi?"),
        ("plan study.yaml --gpu 0.001Gi", "give more, such as 24Gi"),
        ("plan study.yaml --gpu 8Gi*99999999", "more than 10,000 devices"),
        ("plan study.yaml --gpu 8Gi*9000 --gpu 24Gi*9000", "more than 10,000 devices"),
        ("plan study.yaml --class a=8Gi*99999999", "more than 10,000 devices"),
        ("plan study.yaml --class a=8", "did you mean 8Gi?"),
        (f"plan study.yaml --gpu {'9' * 400}Gi", "more memory than there is"),
        ("plan study.yaml --gpu 24Gi --tflops 24Gi=nan", "write CLASS=NUMBER"),
        ("plan study.yaml --gpu 24Gi --tflops 24Gi=inf", "write CLASS=NUMBER"),
        ("plan study.yaml --gpu 24Gi --tflops foo=40", "no device here is of class foo; give 24Gi"),
        ("run study.yaml --dir study.yaml", "is a file, not a folder; give another --dir"),
        ("run study.yaml --dir study.yaml/below", "is a file, not a folder; give another --dir"),
        ("report done -o nosuch/report.html", "make the folder first"),
        ("report done -o /dev/full", "No space left on device; make room"),
        ("report done -o done", "is a folder; give a file in it"),
        ("report done --format csv -o /dev/full", "No space left on device; make room"),
        ("report done --format json -o nosuch/data.json", "make the folder first"),
        ("report done --format pdf", "give html, json or csv"),
        ("report nosuch", "there is no study in nosuch"),
        ("crds -o study.yaml", "File exists"),
    ],
)
def test_a_wrong_option_is_refused_with_its_remedy(frostline: Frostline, command: str, said: str) -> None:
    code, output = frostline(*command.split())
    assert code == 2, output
    assert said in output and "Traceback" not in output


def test_a_device_that_a_report_is_written_to_stays_a_device(frostline: Frostline) -> None:
    code, _ = frostline("report", "done", "-o", "/dev/null")
    assert code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116 - Path.stat would do the same


@pytest.mark.parametrize("command", ["run study.yaml --dir done", "report done"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: b"not a database at all" * 300, "is damaged"),
        (lambda whole: whole[:100] + bytes(255 for _ in whole[100:]), "is damaged"),
        (lambda whole: whole.replace(b'"rung":', b'"rank":'), "is damaged"),
    ],
    ids=["other", "overwritten", "edited"],
)
def test_a_damaged_state_is_named_and_never_taken_for_a_study_that_was_not_begun(
    frostline: Frostline, command: str, damage: Callable[[bytes], bytes], said: str
) -> None:
    database = Path("done/study.sqlite3")
    for beside in Path("done").glob("study.sqlite3-*"):
        beside.unlink()
    database.write_bytes(damage(database.read_bytes()))
    Path("study.yaml").write_text(to_yaml(manifest()), encoding="utf-8")
    code, output = frostline(*command.split())
    assert code == 2 and said in output and "Traceback" not in output, output


@pytest.mark.parametrize("command", ["run study.yaml --dir done", "report done"])
def test_an_emptied_state_beside_runs_is_not_begun_anew(frostline: Frostline, command: str) -> None:
    for beside in Path("done").glob("study.sqlite3*"):
        beside.unlink()
    Path("done/study.sqlite3").touch()
    Path("done/runs/s-0").mkdir(parents=True)
    code, output = frostline(*command.split())
    assert code == 2 and "was emptied or replaced" in output, output


def test_a_full_disk_at_the_start_is_named(frostline: Frostline, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", small], check=False).returncode != 0:
        pytest.skip("needs a file system of its own, which only root can mount")
    try:
        with (small / "fill").open("wb", buffering=0) as file, pytest.raises(OSError):
            file.write(bytes(4096))
            file.write(bytes(16384))
            file.write(bytes(16384))
        code, output = frostline("run", "study.yaml", "--dir", small / "out")
        assert code == 2 and "make room on its disk" in output, output
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("model_type: gpt2", "model_type: [gpt2]", "spec.model.config.model_type: must be text, such as gpt2"),
        ("n_layer: 8", "x: " + "[" * 300 + "]" * 300, "spec.model.config.x: nested more than 64 levels deep"),
        ("n_layer: 8", "x: " + "{a: " * 300 + "1" + "}" * 300, "spec.model.config.x: nested more than 64 levels deep"),
        ("{trials: 16}", "{trials: 1, initial: [{lr: 1e-3}, {lr: 1e-2}]}", "2 configurations, but search.trials is 1"),
    ],
)
def test_a_manifest_that_cannot_work_is_refused_before_a_process_starts(
    frostline: Frostline, old: str, new: str, said: str
) -> None:
    Path("study.yaml").write_text(GOOD.replace(old, new), encoding="utf-8")
    code, output = frostline("plan", "study.yaml", "--gpu", "8Gi")
    assert code == 2 and said in output, output


@pytest.mark.parametrize(
    ("output", "code", "said"),
    [
        ("ModuleNotFoundError: No module named 'torch'", 1, "the trainer is not installed here"),
        ("python: No module named frostline_trainer", 1, "the trainer is not installed here"),
        ("ModuleNotFoundError: No module named 'mine'", 1, "No module named 'mine'"),
        ("", -11, "was killed by SIGSEGV"),
        ("", -9, "was killed by SIGKILL; did it run out of memory?"),
        ('{"event": "fault", "message": "model: no"}', 43, "model: no"),
    ],
)
def test_how_a_trainer_ended_is_told_from_what_it_said(output: str, code: int, said: str) -> None:
    message = _message(output, code)
    assert said in message
    assert ("not installed" in message) == ("not installed" in said)
