"""Declared memory classes on a CPU: trainers really run out of memory, and studies end well all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frostline_operator.api.loader import validate_study
from frostline_operator.engine.profiling import MOST_CORNERS, profile_document
from frostline_operator.engine.state import RunState
from frostline_operator.local.profile import profile_model
from frostline_trainer.contract import MemoryProfile

from .conftest import Study, frostline
from .test_run import load

WIDEST = 4096


@pytest.fixture
def wide(study: Study) -> Study:
    """A network whose first layer is tuned, with more choices than are tried beforehand: the widest is not foretold."""
    study["spec"]["model"]["hidden"] = [512, 512, 512]
    study["spec"]["search"].update(trials=2, maxTrialsPerRun=1)
    study["spec"]["fidelity"] = {"layers": {"min": 2}, "samples": {"max": 2048, "min": 1024}}
    widths = [*range(500, 500 + MOST_CORNERS), WIDEST, 512]
    study["spec"]["parameters"].append(
        {"name": "width", "type": "Categorical", "values": widths, "bind": "model.hidden.0"}
    )
    study["spec"]["search"]["initial"] = [{"width": 512}, {"width": WIDEST}]
    return study


def foretold(study: Study, width: int) -> MemoryProfile:
    changed: dict[str, Any] = {**study, "spec": {**study["spec"], "parameters": study["spec"]["parameters"][:-1]}}
    changed["spec"]["search"] = {**study["spec"]["search"], "initial": []}
    changed["spec"]["model"] = {**study["spec"]["model"], "hidden": [width, 512, 512]}
    memory = profile_model(profile_document(validate_study(changed).spec), "cpu", Path()).memory
    assert memory is not None
    return memory


@pytest.mark.slow
def test_a_run_that_exceeds_its_class_is_tried_again_on_the_larger_one_and_the_study_ends_well(
    wide: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    modest, hungry = foretold(wide, 512), foretold(wide, WIDEST)
    small = int(modest.required(4) * 1.1)  # headroom takes 5 %, and what the first run measures a little more
    assert modest.required(4) < small < hungry.peak_allocated(2), "the test needs the widest not to fit"
    folder = tmp_path / "out"
    done = frostline("run", write(wide), "--dir", folder, "--class", f"small={small}", "--class", "large=1Gi")
    assert done.returncode == 0, done.stdout + done.stderr
    state = load(folder)
    assert state.finished is not None and state.finished.reason == "Completed"
    failed = [run for run in state.runs.values() if run.state is RunState.OUT_OF_MEMORY]
    assert failed and {run.memory_class for run in failed} == {"small"}
    for run in failed:
        again = [r for r in state.runs.values() if r.trials == run.trials and r.rung == run.rung and r is not run]
        assert again and again[-1].state is RunState.SUCCEEDED
        assert again[-1].memory_class == "large" or again[-1].layers < run.layers
    assert all(t.result_at(0) is not None for t in state.trials.values())
    measured = [run for run in state.runs.values() if run.state is RunState.SUCCEEDED]
    assert all(run.peak_bytes > 0 and run.predicted_bytes for run in measured), "predicted and measured are kept"


@pytest.mark.slow
def test_a_rung_that_no_class_holds_trains_the_layers_that_fit_and_says_so(
    wide: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    memory = foretold(wide, 512)
    wide["spec"]["parameters"].pop()
    wide["spec"]["search"]["initial"] = []
    limit = int(memory.required(2) * 1.1)
    assert limit < memory.required(3)
    folder = tmp_path / "out"
    planned = frostline("plan", write(wide), "--class", f"only={limit}")
    assert "2 of 4" in planned.stdout and "fits nowhere" in planned.stdout
    done = frostline("run", write(wide), "--dir", folder, "--class", f"only={limit}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FidelityReduced" in done.stdout
    state = load(folder)
    assert max(run.layers for run in state.runs.values()) == 2
    assert not [run for run in state.runs.values() if run.state is RunState.OUT_OF_MEMORY]
