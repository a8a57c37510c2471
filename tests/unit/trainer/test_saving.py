"""Checkpoints on the way: when they are written, and that a run killed without warning goes on from them unchanged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frostline_trainer import loop
from frostline_trainer.checkpoint import load_checkpoint, start_of
from frostline_trainer.contract import RunSpec, TrialResult
from frostline_trainer.errors import StudyFault
from frostline_trainer.metrics import RunMetrics
from frostline_trainer.pack import build_pack
from frostline_trainer.saving import LARGEST_SHARE, Interval
from frostline_trainer.store import Store

from .conftest import evaluate, run_spec, saved, trial


class Killed(BaseException):
    """What a process that is killed does not get to see."""


def killed(spec: RunSpec, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Train until after so many steps, and leave what is in the store then."""
    advance = loop.advance

    def advance_or_die(pack: Any, step: int, active: Any) -> None:
        if step >= after:
            raise Killed
        advance(pack, step, active)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "advance", advance_or_die)
        with pytest.raises(Killed):
            evaluate(spec)


@pytest.mark.parametrize("family", ["CausalLM", "Vision", "MLP"])
def test_a_killed_run_goes_on_from_its_last_checkpoint_as_if_nothing_had_been(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saving_each_step: dict[str, float]
) -> None:
    trials = [trial(family, name, optimizer={"lr": lr}) for name, lr in (("a", 0.01), ("b", 0.002))]
    calm = evaluate(run_spec(family, trials, 2, 8, tmp_path / "calm"))
    rough = tmp_path / "rough"
    killed(run_spec(family, trials, 2, 8, rough, run="run-0", **saving_each_step), monkeypatch, 5)
    step = calm["a"].tokens // 8
    assert load_checkpoint(Store(str(rough)), "a/rung-0-0").tokens == 5 * step
    # Of the other trial's a part is missing, as where the process was killed while it removed the one before
    next((rough / "b/rung-0-0").glob("weights-*")).unlink()

    for one in trials:
        one["earlier"] = [f"{one['name']}/rung-0-0", f"{one['name']}/rung-0-9"]
    again = evaluate(run_spec(family, trials, 2, 8, rough, run="run-1"))
    assert (again["a"].start_tokens, again["b"].start_tokens) == (5 * step, None)
    for name, result in again.items():
        assert (result.objective, result.tokens) == (calm[name].objective, calm[name].tokens)
        assert saved(rough, result) == saved(tmp_path / "calm", calm[name])


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str, int, int], TrialResult]:
    """Checkpoints of trial a: folder, layers, steps."""

    def make(run: str, layers: int, steps: int) -> TrialResult:
        return evaluate(run_spec("MLP", [trial("MLP", "a")], layers, steps, tmp_path, run=run))["a"]

    return make


def test_of_several_attempts_the_furthest_with_as_many_layers_counts(
    made: Callable[[str, int, int], TrialResult], tmp_path: Path
) -> None:
    for run, layers, steps in (("x-0", 2, 2), ("x-1", 2, 4), ("x-2", 1, 6), ("x-3", 2, 8)):
        made(run, layers, steps)
    store = Store(str(tmp_path))
    folders = [f"a/rung-0-{number}" for number in range(5)]

    def start(parent: TrialResult | None = None, at_most: int = 16 * 6) -> tuple[str, bool] | None:
        one = {**trial("MLP", "a", parent, 2), "earlier": folders}
        spec = run_spec("MLP", [one], 2, 6, tmp_path)
        found = start_of(store, spec, spec.trials[0], at_most)
        return None if found is None else (found.folder, found.own)

    assert start() == ("a/rung-0-1", False)
    assert start(at_most=16 * 3) == ("a/rung-0-0", False)
    assert start(at_most=16) is None
    # Torn apart, of another format, without a number: each is passed over
    (tmp_path / "a/rung-0-1/state.json").write_text("{")
    assert start() == ("a/rung-0-0", False)
    state = json.loads((tmp_path / "a/rung-0-0/state.json").read_text())
    (tmp_path / "a/rung-0-0" / state["weights"]).write_bytes(b"torn")
    assert start() is None
    (tmp_path / "a/rung-0-0/state.json").write_text(json.dumps({**state, "format": 99}))
    assert start() is None
    # A parent counts where it is as far, and has to be there
    parent = made("y-7", 2, 4)
    assert start(parent) == ("a/rung-0-7", True)
    made("x-1", 2, 5)
    assert start(parent) == ("a/rung-0-1", False)
    for folder in ("a/rung-0-7", "a/rung-0-1"):
        shutil.rmtree(tmp_path / folder)
    with pytest.raises(StudyFault, match="no whole checkpoint in a/rung-0-7"):
        start(parent)


def test_what_cannot_be_written_on_the_way_is_said_and_training_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    saving_each_step: dict[str, float],
) -> None:
    write = Store.write
    refused: list[str] = []

    def full_at_first(self: Store, name: str, content: bytes) -> None:
        if len(refused) < 2:
            refused.append(name)
            raise OSError("no space left on device")
        write(self, name, content)

    monkeypatch.setattr(Store, "write", full_at_first)
    result = evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 6, tmp_path, **saving_each_step))["a"]
    assert (result.reason, result.tokens) == ("Completed", 96)
    assert capsys.readouterr().out.count("no space left on device") == 2


@given(interval=st.floats(0.1, 1000), writing=st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_checkpoints_come_no_oftener_than_asked_and_never_take_more_than_their_share(
    interval: float, writing: list[float]
) -> None:
    now = [0.0]
    due = Interval(interval, clock=lambda: now[0])
    spent, last = 0.0, 0.0
    for seconds in writing:
        while not due.due:
            now[0] += interval / 4
        assert now[0] - last >= interval * (1 - 1e-9)
        assert spent <= LARGEST_SHARE * now[0] * (1 + 1e-6)
        with due.writing():
            now[0] += seconds
        spent, last = spent + seconds, now[0]


def test_without_an_interval_none_is_ever_due() -> None:
    assert not Interval(None, clock=lambda: 1e300).due


def test_a_signal_while_checkpoints_are_written_waits_for_one_and_each_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saving_each_step: dict[str, float]
) -> None:
    write = Store.write
    written: list[str] = []

    def counted(self: Store, name: str, content: bytes) -> None:
        written.append(name)
        write(self, name, content)

    monkeypatch.setattr(Store, "write", counted)
    trials = [trial("MLP", name) for name in "abcd"]
    results = evaluate(run_spec("MLP", trials, 2, 6, tmp_path, **saving_each_step), stopped=lambda: bool(written))
    assert {(r.reason, r.tokens) for r in results.values()} == {("Stopped", 16)}
    states = [name for name in written if name.endswith("state.json")]
    assert sorted(states) == [f"{name}/rung-0-run/state.json" for name in "abcd"]


def test_a_file_that_could_not_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        Store(str(tmp_path)).write("a/rung-0-0/weights-1.safetensors", b"x" * 1000)
    assert list((tmp_path / "a/rung-0-0").iterdir()) == []


def test_metrics_begin_where_the_trial_goes_on(tmp_path: Path) -> None:
    first = evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 4, tmp_path, run="run-0"))["a"]
    one = {**trial("MLP", "a"), "earlier": [str(first.checkpoint)]}
    spec = run_spec("MLP", [one], 2, 6, tmp_path, run="run-1")
    metrics = Watched(spec, 2)
    pack = build_pack(spec, torch.device("cpu"), Store(spec.checkpoint))
    loop.train(pack, Store(spec.checkpoint), metrics, lambda: False)
    assert metrics.tokens[0] == first.tokens == 64 and min(metrics.tokens) == 64


class Watched(RunMetrics):
    """Keeps what it was told of tokens."""

    def __init__(self, spec: RunSpec, layers: int) -> None:
        super().__init__(spec, layers)
        self.tokens: list[int] = []

    def update(self, trial: str, **changes: Any) -> None:
        if "tokens" in changes:
            self.tokens.append(changes["tokens"])
        super().update(trial, **changes)
