"""A study and its folder: what may be changed, and what begins anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from frostline_operator.api.study import HPOStudy
from frostline_operator.engine.state import Amounts, Finished, Run, RungResult, RunState, StudyState, Trial
from frostline_operator.local.session import Session, SessionError, open_session

RUN = "s-b0-r0-000"


def manifest(seed: int = 0) -> HPOStudy:
    return HPOStudy.model_validate(
        {
            "metadata": {"name": "s"},
            "spec": {
                "parameters": [{"name": "lr", "type": "Float", "min": 1e-4, "max": 1e-1, "scale": "Log"}],
                "search": {"algorithm": "SuccessiveHalving", "trials": 4, "seed": seed},
                "fidelity": {"samples": {"max": 2000}},
                "model": {"family": "MLP", "hidden": [8, 8]},
                "data": {"kind": "Table", "builtin": "breast-cancer"},
            },
        }
    )


@contextmanager
def opened(folder: Path, study: HPOStudy) -> Iterator[Session]:
    with open_session(study, folder, ["small=1Gi"], folder) as session:
        yield session


def ended(failed: bool) -> StudyState:
    """A study that is over, its one run ended with a result or at fault."""
    kind = ("Failed", None) if failed else ("Completed", 1.0)
    trial = Trial(0, "s-0000", 0, {"lr": 0.1}, 0, (RungResult(0, kind[0], kind[1], 1, 100, RUN),))  # type: ignore[arg-type]
    how = RunState.FAULT if failed else RunState.SUCCEEDED
    run = Run(RUN, 0, 0, 1, 100, 0, (0,), "small", how, Amounts(100))
    over = Finished("Failed", "data.path: there is no /typo.csv", None) if failed else Finished("Completed", "", 0)
    return StudyState({0: trial}, {RUN: run}, 1000.0, over)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose study's model is profiled, which takes seconds."""
    folder = tmp_path_factory.mktemp("profiled")
    with opened(folder, manifest()):
        return folder


@pytest.fixture
def folder(profiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(profiled, tmp_path / "study"))


def leave(folder: Path, state: StudyState) -> None:
    with opened(folder, manifest()) as session:
        session.store.save(state)
        left = session.files.run(RUN)
        left.folder.mkdir(parents=True)
        left.pid.write_text("1")
        (session.files.checkpoints / "s-0000").mkdir(parents=True)


def test_a_study_that_failed_without_a_result_may_be_changed_and_begins_anew(folder: Path) -> None:
    leave(folder, ended(failed=True))
    with opened(folder, manifest(seed=1)) as session:
        assert not session.resumed and not session.loop.done
        assert session.loop.state == StudyState()
        assert not session.files.run(RUN).folder.exists(), "a run of this name would be taken to have ended"
        assert not session.files.checkpoints.exists()


def test_a_study_that_failed_without_a_result_is_tried_again_by_the_same_command(folder: Path) -> None:
    """What it lacked, such as a file, may be there by now."""
    leave(folder, ended(failed=True))
    with opened(folder, manifest()) as session:
        assert session.loop.state == StudyState()


def test_a_study_with_a_result_may_not_be_changed(folder: Path) -> None:
    leave(folder, ended(failed=False))
    with pytest.raises(SessionError, match=r"differs in spec\.search\.seed"), opened(folder, manifest(seed=1)):
        pass
    with opened(folder, manifest()) as session:
        assert session.resumed and session.loop.done
