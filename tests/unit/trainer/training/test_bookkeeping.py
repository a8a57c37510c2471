"""Checkpoints on the way, and what is said of the trials while they train."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from frostline_trainer.checkpoints.checkpoint import load_checkpoint
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import RunSpec
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.training import loop
from frostline_trainer.training.pack import build_pack
from tests.unit.trainer.conftest import Killed, evaluate, run_spec, saved, trial


def killed(spec: RunSpec, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Train until after so many steps, and leave what is in the store then."""
    train_step = loop.train_step

    def train_or_die(pack: Any, step: int, trials: Any) -> None:
        if step >= after:
            raise Killed
        train_step(pack, step, trials)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", train_or_die)
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

    # Of one of them nobody has seen the newest
    for one, tokens in zip(trials, (5 * step, 3 * step), strict=True):
        one["parent"] = {"path": f"{one['name']}/rung-0-0", "layers": 2, "tokens": tokens}
    again = evaluate(run_spec(family, trials, 2, 8, rough, run="run-1"))
    for name, result in again.items():
        assert (result.objective, result.tokens) == (calm[name].objective, calm[name].tokens)
        assert saved(rough, result) == saved(tmp_path / "calm", calm[name])


def test_what_cannot_be_written_on_the_way_is_said_and_training_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    saving_each_step: dict[str, float],
) -> None:
    write = Store.write
    refused: list[str] = []

    def full_at_first(self: Store, name: str, content: bytes) -> None:
        # Of the first trial the optimizer's state has no room, of the other one all has
        if name.startswith("a/rung-0-run/optimizer") and len(refused) < 2:
            refused.append(name)
            assert list((tmp_path / "a/rung-0-run").iterdir()) != []
            raise OSError("no space left on device")
        if name.startswith("b/rung-0-run/weights-2"):
            # What it could not write whole is gone again
            assert list((tmp_path / "a/rung-0-run").iterdir()) == []
            assert (tmp_path / "b/rung-0-run/state.json").exists()
        write(self, name, content)

    monkeypatch.setattr(Store, "write", full_at_first)
    trials = [trial("MLP", "a"), trial("MLP", "b")]
    results = evaluate(run_spec("MLP", trials, 2, 6, tmp_path, **saving_each_step))
    assert {(r.reason, r.tokens) for r in results.values()} == {("Completed", 96)}
    assert capsys.readouterr().out.count("no space left on device") == 2 == len(refused)


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


def test_metrics_tell_where_a_trial_began_and_how_far_it_is_saved(
    tmp_path: Path, saving_each_step: dict[str, float]
) -> None:
    first = evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 3, tmp_path))["a"]
    spec = run_spec("MLP", [trial("MLP", "a", first, 2)], 2, 6, tmp_path, rung=1, **saving_each_step)
    metrics = Told(spec, 2)
    pack = build_pack(spec, torch.device("cpu"), Store(spec.checkpoint))
    loop.train(pack, Store(spec.checkpoint), metrics, lambda: False)
    assert metrics.told["tokens"][0] == 48 and metrics.told["tokens"][-1] == 96
    # Not at the end, where a record will tell of it: whoever went on from there had nothing to do
    assert metrics.told["checkpoint_tokens"] == [64, 80]


@pytest.mark.parametrize("fails", [None, "c"])
def test_a_stopped_run_writes_the_smallest_checkpoints_first_and_says_what_it_could_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str | None
) -> None:
    write = Store.write
    written: list[str] = []

    def recorded(self: Store, name: str, content: Any) -> None:
        if fails is not None and name.startswith(fails):
            raise OSError("no space left on device")
        if name.endswith("state.json"):
            written.append(name[0])
        write(self, name, content)

    monkeypatch.setattr(Store, "write", recorded)
    sizes = {"a": "AdamW", "b": "Adafactor", "c": "SGD"}
    trials = [trial("MLP", name, optimizer={"name": kind, "momentum": 0.0}) for name, kind in sizes.items()]
    asked = itertools.count()
    results = evaluate(run_spec("MLP", trials, 2, 6, tmp_path), stopped=lambda: next(asked) > 4)
    assert {result.reason for result in results.values()} == {"Stopped"}
    assert written == [name for name in "cba" if name != fails]
    assert [name for name, result in results.items() if result.checkpoint is None] == ([fails] if fails else [])


class Told(RunMetrics):
    """Keeps all that it was told."""

    def __init__(self, spec: RunSpec, layers: int) -> None:
        super().__init__(spec, layers)
        self.told: dict[str, list[Any]] = {}

    def update(self, trial: str, **changes: Any) -> None:
        for name, value in changes.items():
            self.told.setdefault(name, []).append(value)
        super().update(trial, **changes)
