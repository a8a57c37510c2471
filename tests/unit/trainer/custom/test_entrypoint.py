"""Custom entrypoints: what a Trial offers, and that several of them share a prefix without sharing anything else."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from frostline_trainer import Trial
from frostline_trainer.checkpoints.checkpoint import load_checkpoint
from frostline_trainer.checkpoints.interval import LARGEST_SHARE
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import RunSpec, TrialResult
from frostline_trainer.custom.entrypoint import Place, run_custom
from frostline_trainer.custom.turns import Turns
from frostline_trainer.errors import StudyFault
from frostline_trainer.reporting.metrics import RunMetrics
from tests.unit.trainer.conftest import Killed

CALLS: list[int] = []


class Counted(nn.Module):
    """A unit that tells how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        CALLS.append(1)
        return torch.tanh(self.linear(x))


def noisy(trial: Trial) -> None:
    """Draws random numbers of its own all the time, as real training code does."""
    units = [Counted(), nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)), nn.Linear(8, 3)]
    generator = torch.Generator().manual_seed(trial.seed)
    x, y = torch.randn(64, 8, generator=generator), torch.randint(0, 3, (64,), generator=generator)
    prefix, suffix = trial.freeze(units)
    optimizer = trial.resume(torch.optim.AdamW(suffix.parameters(), lr=float(trial.hyperparameters["lr"])))
    seen = trial.start_tokens
    while seen < trial.tokens and not trial.should_stop:
        rows = torch.arange(seen, seen + 8) % 64
        features = prefix(x[rows])
        loss = nn.functional.cross_entropy(suffix(features + 0.01 * torch.randn_like(features)), y[rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += 8
        trial.report(tokens=seen)
    trial.report(tokens=seen, loss=loss.item())


RATES: dict[int, float] = {}
ROWS: list[list[int]] = []


def scheduled(trial: Trial) -> None:
    """A schedule over the whole study's samples, and batches in the trial's own order."""
    x = torch.linspace(-1, 1, 40)[:, None]
    prefix, suffix = trial.freeze([nn.Linear(1, 4), nn.Linear(4, 1)])
    optimizer = torch.optim.SGD(suffix.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=trial.horizon // 8)
    trial.resume(optimizer, scheduler)
    seen = trial.start_tokens
    for rows in trial.batches(len(x), 8):
        loss = suffix(prefix(x[rows])).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ROWS.append(rows.tolist())
        RATES[seen] = optimizer.param_groups[0]["lr"]
        scheduler.step()
        seen += len(rows)
        trial.report(tokens=seen)
    trial.report(tokens=seen, loss=loss.item())


class Halving:
    """A factor that keeps what no JSON document holds."""

    def __init__(self) -> None:
        self.factor = torch.tensor(0.5)

    def __call__(self, step: int) -> float:
        return float(self.factor**step)


def unkept(trial: Trial) -> None:
    _, suffix = trial.freeze([nn.Linear(1, 4), nn.Linear(4, 1)])
    optimizer = torch.optim.SGD(suffix.parameters(), lr=0.1)
    trial.resume(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, Halving()))
    trial.report(tokens=trial.tokens, loss=1.0)


def evil(trial: Trial) -> None:
    """Builds its frozen part from a hyperparameter, so it must not be shared."""
    torch.manual_seed(int(trial.hyperparameters["own"]))
    prefix, _ = trial.freeze([nn.Linear(4, 4), nn.Linear(4, 2)])
    trial.report(tokens=trial.tokens, loss=float(prefix(torch.ones(1, 4)).sum()))


def diverging(trial: Trial) -> None:
    trial.freeze([nn.Linear(2, 2), nn.Linear(2, 2)])
    for seen in (8, 16):
        trial.report(tokens=seen, loss=math.nan if trial.hyperparameters["bad"] else 1.0)


def lazy(trial: Trial) -> None:
    trial.report(tokens=8, loss=1.0)


def silent(trial: Trial) -> None:
    trial.freeze([nn.Linear(2, 2), nn.Linear(2, 2)])
    trial.report(tokens=trial.tokens)


def exhausted(trial: Trial) -> None:
    raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")


def broken(trial: Trial) -> None:
    raise KeyError("no such thing")


def run(
    function: str, hyperparameters: dict[str, dict[str, Any]], folder: Path, z: int = 2, tokens: int = 80, **more: Any
) -> dict[str, TrialResult]:
    trials = [{"name": n, "hyperparameters": h, **more.get(n, {})} for n, h in hyperparameters.items()]
    document = {
        "study": "s", "studyUid": "u", "run": "r", "rung": more.get("rung", 0), "layers": z, "tokens": tokens,
        "horizon": 160, "trials": trials, "model": {"family": "Custom", "entrypoint": f"{__name__}:{function}"},
        "data": {"kind": "None"}, "checkpoint": str(folder), "metric": "loss", "seed": 3,
        **more.get("document", {}),
    }  # fmt: skip
    spec = RunSpec.model_validate_json(json.dumps(document))
    results = run_custom(
        spec, torch.device("cpu"), Store(str(folder)), RunMetrics(spec, z), more.get("stopped", lambda: False)
    )
    return {r.name: r for r in results}


def weights(folder: Path, result: TrialResult) -> bytes:
    return next((folder / str(result.checkpoint)).glob("weights-*")).read_bytes()


def test_packed_custom_trials_equal_each_alone_and_share_the_prefix(tmp_path: Path) -> None:
    settings = {"a": {"lr": 0.1}, "b": {"lr": 0.01}, "c": {"lr": 0.001}}
    CALLS.clear()
    packed = run("noisy", settings, tmp_path / "packed")
    shared = len(CALLS)
    CALLS.clear()
    for name, values in settings.items():
        alone = run("noisy", {name: values}, tmp_path / "alone")[name]
        assert packed[name] == alone
        assert weights(tmp_path / "packed", packed[name]) == weights(tmp_path / "alone", alone)
    assert shared == 10 and len(CALLS) == 30


def test_a_custom_trial_continues_with_more_layers_thawed(tmp_path: Path) -> None:
    first = run("noisy", {"a": {"lr": 0.1}}, tmp_path, z=1)["a"]
    parent = {"parent": {"path": first.checkpoint, "layers": 1, "tokens": first.tokens}}
    second = run("noisy", {"a": {"lr": 0.1}}, tmp_path, z=3, tokens=160, rung=1, a=parent)["a"]
    assert second.tokens == 160 and second.reason == "Completed"
    from safetensors.torch import load_file

    state = load_file(next((tmp_path / "a/rung-1-r").glob("optimizer-*")))
    steps = {name: int(t) for name, t in state.items() if name.endswith("step")}
    assert steps["units.2.weight/step"] == 20 and steps["units.0.linear.weight/step"] == 10


def test_prefixes_that_differ_are_not_shared(tmp_path: Path) -> None:
    together = run("evil", {"a": {"own": 1}, "b": {"own": 2}}, tmp_path, z=1)
    assert together["a"].objective != together["b"].objective
    assert together["b"].objective == run("evil", {"b": {"own": 2}}, tmp_path, z=1)["b"].objective


def test_a_diverging_custom_trial_ends_and_the_other_goes_on(tmp_path: Path) -> None:
    results = run("diverging", {"bad": {"bad": True}, "good": {"bad": False}}, tmp_path, z=1, tokens=16)
    assert results["bad"].reason == "Diverged" and results["bad"].tokens == 8 and results["bad"].checkpoint is None
    assert results["good"].reason == "Completed" and results["good"].objective == 1.0


def test_a_stopped_custom_trial_is_checkpointed_as_it_stands(tmp_path: Path) -> None:
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    result = run("noisy", {"a": {"lr": 0.1}}, tmp_path, stopped=stopped)["a"]
    assert result.reason == "Stopped" and result.tokens == 32 and weights(tmp_path, result)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("lazy", r"returned after 8 of 80 tokens; train until trial.tokens"),
        ("broken", r"raised KeyError: 'no such thing' \(test_entrypoint.py, line \d+\)"),
        ("silent", r"never reported the study's objective 'loss'; .*trial.report\(tokens=trial.tokens, loss=...\)"),
        ("missing", r"model.entrypoint: .*missing cannot be imported"),
    ],
)
def test_a_wrong_entrypoint_is_the_studys_fault(function: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyFault, match=message):
        run(function, {"a": {}, "b": {}}, tmp_path)


def test_memory_that_runs_out_in_an_entrypoint_is_not_its_fault(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
        run("exhausted", {"a": {}, "b": {}}, tmp_path)


def test_a_trial_stopped_before_its_last_evaluation_is_stopped(tmp_path: Path) -> None:
    assert run("silent", {"a": {}}, tmp_path, z=1, stopped=lambda: True)["a"].reason == "Stopped"


def test_a_missing_objective_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "lazy", lambda trial: trial.report(tokens=80, accuracy=1.0))
    with pytest.raises(StudyFault, match=r"asks for 'loss', the entrypoint reported accuracy"):
        run("lazy", {"a": {}}, tmp_path)


def test_the_example_trains_and_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = Path(__file__).parents[4] / "examples" / "custom_entrypoint.py"
    assert len(example.read_text().splitlines()) <= 40
    monkeypatch.syspath_prepend(str(example.parent))
    document = {
        "study": "s", "studyUid": "u", "run": "r", "rung": 0, "layers": 2, "tokens": 6000, "horizon": 6000,
        "trials": [{"name": "a", "hyperparameters": {"lr": 0.003}}, {"name": "b", "hyperparameters": {"lr": 0.001}}],
        "model": {"family": "Custom", "entrypoint": "custom_entrypoint:train"}, "metric": "accuracy",
        "data": {"kind": "None"}, "checkpoint": str(tmp_path),
    }  # fmt: skip
    spec = RunSpec.model_validate_json(json.dumps(document))
    results = run_custom(spec, torch.device("cpu"), Store(str(tmp_path)), RunMetrics(spec, 2), lambda: False)
    assert all(r.reason == "Completed" and r.objective is not None and r.objective > 0.7 for r in results)


GONE_ON = {"parent": {"path": "a/rung-0-r", "layers": 2, "tokens": 8}}
"""From a checkpoint of which nobody has seen more than that there was one at eight tokens."""


def fragile(trial: Trial) -> None:
    """Fails halfway the first time."""
    until(trial, 40 if trial.start_tokens == 0 else trial.tokens)


def until(trial: Trial, end: int) -> None:
    prefix, suffix = trial.freeze([nn.Linear(8, 8), nn.Linear(8, 3)])
    optimizer = trial.resume(torch.optim.AdamW(suffix.parameters(), lr=0.01))
    x, y = torch.eye(8), torch.arange(8) % 3
    for seen in range(trial.start_tokens + 8, trial.tokens + 8, 8):
        if seen > end:
            raise MemoryError
        loss = nn.functional.cross_entropy(suffix(prefix(x)), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        trial.report(tokens=seen)
    trial.report(tokens=trial.tokens, loss=loss.item())


def test_a_custom_trial_whose_run_came_to_nothing_goes_on_from_its_last_checkpoint(
    tmp_path: Path, saving_each_step: dict[str, float]
) -> None:
    calm = run("steady", {"a": {}}, tmp_path / "calm")["a"]
    with pytest.raises(MemoryError):
        run("fragile", {"a": {}}, tmp_path, document=saving_each_step)
    assert load_checkpoint(Store(str(tmp_path)), "a/rung-0-r").tokens == 40
    again = run("fragile", {"a": {}}, tmp_path, a=GONE_ON, document={"run": "r-1"})["a"]
    assert (again.tokens, again.objective) == (80, calm.objective)
    assert weights(tmp_path, again) == weights(tmp_path / "calm", calm)


def steady(trial: Trial) -> None:
    until(trial, trial.tokens)


def test_a_custom_checkpoint_is_there_whole_or_not_at_all(
    tmp_path: Path, saving_each_step: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write
    written: list[str] = []

    def killed_between_two_files(self: Store, name: str, content: bytes) -> None:
        if len(written) == 10:
            raise Killed
        written.append(name)
        write(self, name, content)

    calm = run("steady", {"a": {}}, tmp_path / "calm")["a"]
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", killed_between_two_files)
        with pytest.raises(Killed):
            run("steady", {"a": {}}, tmp_path, document=saving_each_step)
    assert written[-1] == "a/rung-0-r/weights-32.safetensors"
    assert load_checkpoint(Store(str(tmp_path)), "a/rung-0-r").tokens == 24
    again = run("steady", {"a": {}}, tmp_path, a=GONE_ON, document={"run": "r-1"})["a"]
    assert again.objective == calm.objective


def test_a_custom_trial_that_is_killed_in_its_last_evaluation_repeats_its_last_steps_only(
    tmp_path: Path, saving_each_step: dict[str, float]
) -> None:
    with pytest.raises(MemoryError):
        run("unevaluated", {"a": {}}, tmp_path, document=saving_each_step)
    assert load_checkpoint(Store(str(tmp_path)), "a/rung-0-r").tokens == 72
    assert run("steady", {"a": {}}, tmp_path, a=GONE_ON, document={"run": "r-1"})["a"].tokens == 80


def unevaluated(trial: Trial) -> None:
    until(trial, trial.tokens)
    raise MemoryError


def test_trials_that_take_turns_share_the_time_that_writing_may_take(tmp_path: Path) -> None:
    spec = RunSpec.model_validate(
        {
            "study": "s", "studyUid": "u", "run": "r", "rung": 0, "layers": 1, "tokens": 8, "horizon": 8,
            "trials": [{"name": name} for name in "abcd"], "checkpoint": str(tmp_path), "checkpointSeconds": 60,
            "model": {"family": "Custom", "entrypoint": f"{__name__}:lazy"}, "data": {"kind": "None"},
        }
    )  # fmt: skip
    place = Place(Store(str(tmp_path)), RunMetrics(spec, 1), lambda: False, Turns(4))
    shares = [Trial(spec, one, torch.device("cpu"), place)._interval.share for one in spec.trials]
    assert sum(shares) == pytest.approx(LARGEST_SHARE)


def test_a_custom_trial_that_was_killed_after_its_end_has_its_result_without_training_again(tmp_path: Path) -> None:
    over = run("steady", {"a": {}}, tmp_path)["a"]
    again = run("fragile", {"a": {}}, tmp_path, a=GONE_ON, document={"run": "r-1"})["a"]
    assert (again.reason, again.tokens, again.objective) == ("Completed", 80, over.objective)
    # It wrote nothing of its own: what is known stays what there is to go on from
    assert again.checkpoint is None and (tmp_path / "a/rung-0-r/state.json").exists()


def test_a_schedule_and_the_order_of_the_samples_go_on_where_a_rung_ended(tmp_path: Path) -> None:
    whole = run("scheduled", {"a": {}}, tmp_path / "whole", tokens=160)["a"]
    rates, rows = dict(RATES), list(ROWS)
    assert (
        len(rows) == 20
        and sorted(row for batch in rows[:5] for row in batch) == list(range(40))
        and rows[:5] != rows[5:10]
    )
    assert rates[0] == pytest.approx(0.1) and rates[152] < 0.01  # the horizon is 160
    RATES.clear()
    ROWS.clear()
    first = run("scheduled", {"a": {}}, tmp_path, tokens=80)["a"]
    parent = {"parent": {"path": first.checkpoint, "layers": 2, "tokens": first.tokens}}
    second = run("scheduled", {"a": {}}, tmp_path, tokens=160, rung=1, a=parent)["a"]
    assert rows == ROWS
    assert pytest.approx(rates, rel=1e-12) == RATES
    assert second.objective == pytest.approx(whole.objective)


def test_a_schedulers_state_that_no_checkpoint_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyFault, match=r"state of LambdaLR cannot be kept .* such as CosineAnnealingLR"):
        run("unkept", {"a": {}}, tmp_path)
