"""The loop: a trial's result never depends on whom it was packed with, bit for bit, in objective, weights and optimizer
state."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import TrialResult
from frostline_trainer.data.order import BatchOrder
from frostline_trainer.training.loop import evaluation_steps, train_step
from frostline_trainer.training.pack import build_pack
from tests.unit.trainer.conftest import FAMILIES, evaluate, run_spec, saved, trial

FAMILY = pytest.mark.parametrize("family", list(FAMILIES))
A: dict[str, Any] = {"optimizer": {"lr": 0.003, "weight_decay": 0.1}, "gradientClipping": 1.0}
B: dict[str, Any] = {"optimizer": {"name": "SGD", "lr": 0.05}, "labelSmoothing": 0.1, "dropout": 0.3}
HOPELESS: dict[str, Any] = {
    "optimizer": {"name": "SGD", "lr": 1000.0, "momentum": 0.0},
    "schedule": {"name": "Constant"},
}


def assert_same(one: tuple[Path, TrialResult], other: tuple[Path, TrialResult]) -> None:
    assert one[1].objective == other[1].objective
    assert one[1].reason == other[1].reason
    assert saved(*one) == saved(*other)


@FAMILY
def test_packed_equals_alone_at_low_and_full_z_and_over_thaw(family: str, tmp_path: Path) -> None:
    full = FAMILIES[family]["layers"]
    alone, packed = tmp_path / "alone", tmp_path / "packed"
    first: dict[str, TrialResult] = {}
    single: dict[str, TrialResult] = {}
    previous = 0
    for rung, (z, steps) in enumerate([(1, 3), (2, 6), (full, 8)]):
        both = [
            trial(family, "a", first.get("a"), previous, **A),
            trial(family, "b", first.get("b"), previous, **B),
        ]
        first = evaluate(run_spec(family, both, z, steps, packed, rung=rung))
        for name, settings in (("a", A), ("b", B)):
            one = [trial(family, name, single.get(name), previous, **settings)]
            single[name] = evaluate(run_spec(family, one, z, steps, alone, rung=rung))[name]
            assert_same((packed, first[name]), (alone, single[name]))
        previous = z


@FAMILY
def test_a_neighbour_that_diverges_changes_nothing(family: str, tmp_path: Path) -> None:
    hopeless = {**HOPELESS, "optimizer": {**HOPELESS["optimizer"], "lr": 1000.0, "weight_decay": 1000.0}}
    pair = [trial(family, "bad", **hopeless), trial(family, "a", **A)]
    packed = evaluate(run_spec(family, pair, 2, 60, tmp_path / "p"))
    alone = evaluate(run_spec(family, pair[1:], 2, 60, tmp_path / "a"))
    assert packed["bad"].reason == "Diverged"
    assert packed["bad"].objective is not None and math.isnan(packed["bad"].objective)
    assert packed["bad"].checkpoint is None
    assert packed["bad"].tokens < packed["a"].tokens
    assert_same((tmp_path / "p", packed["a"]), (tmp_path / "a", alone["a"]))


@FAMILY
def test_stopped_and_resumed_equals_uninterrupted(family: str, tmp_path: Path) -> None:
    pair = [trial(family, "a", **A), trial(family, "b", **B)]
    through = evaluate(run_spec(family, pair, 2, 7, tmp_path / "through"))
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 10

    cut = tmp_path / "cut"
    half = evaluate(run_spec(family, pair, 2, 7, cut), stopped)
    assert {r.reason for r in half.values()} == {"Stopped"}
    assert 0 < half["a"].tokens < through["a"].tokens
    again = [trial(family, "a", half["a"], 2, **A), trial(family, "b", half["b"], 2, **B)]
    resumed = evaluate(run_spec(family, again, 2, 7, cut))
    for name in ("a", "b"):
        assert_same((tmp_path / "through", through[name]), (cut, resumed[name]))


@FAMILY
def test_members_may_start_at_different_tokens(family: str, tmp_path: Path) -> None:
    early = evaluate(run_spec(family, [trial(family, "late", **A)], 1, 4, tmp_path))["late"]
    pair = [trial(family, "late", early, 1, **A), trial(family, "fresh", **B)]
    packed = evaluate(run_spec(family, pair, 2, 7, tmp_path, rung=1))
    fresh = evaluate(run_spec(family, pair[1:], 2, 7, tmp_path / "alone", rung=1))
    late = evaluate(run_spec(family, [{**pair[0], "name": "again"}], 2, 7, tmp_path, rung=1))
    assert_same((tmp_path, packed["fresh"]), (tmp_path / "alone", fresh["fresh"]))
    assert packed["late"].objective == late["again"].objective
    assert saved(tmp_path, packed["late"]) == saved(tmp_path, late["again"])


@FAMILY
def test_the_same_run_twice_is_the_same_to_the_bit(family: str, tmp_path: Path) -> None:
    pair = [trial(family, "a", **A)]
    results = [evaluate(run_spec(family, pair, 2, 4, tmp_path / str(i)))["a"] for i in range(2)]
    torch.rand(3)  # whatever else draws random numbers in between
    assert_same((tmp_path / "0", results[0]), (tmp_path / "1", results[1]))


def test_accumulation_makes_one_step_of_several_micro_batches(tmp_path: Path) -> None:
    """Two micro-batches of 4 give the gradient of one batch of 8 with the same sequences."""
    spec = run_spec("CausalLM", [trial("CausalLM", "a", accumulation=2)], 2, 4, tmp_path)
    result = evaluate(spec)["a"]
    state = json.loads((tmp_path / "a/rung-0-run/state.json").read_text())
    assert state["step"] == 2 and result.tokens == 4 * 128


def test_evaluations_are_spread_evenly_and_end_at_the_rungs_end() -> None:
    assert evaluation_steps(0, 40, 4) == {10, 20, 30, 40}
    assert evaluation_steps(10, 13, 4) == {11, 12, 13}
    assert evaluation_steps(5, 5, 4) == {5}
    assert max(evaluation_steps(3, 100, 7)) == 100


def test_the_rungs_tokens_are_reported_to_the_token(tmp_path: Path) -> None:
    """128 tokens make a step; a rung of 300 ends after three whole steps and says 300."""
    spec = run_spec("CausalLM", [trial("CausalLM", "a")], 1, 1, tmp_path).model_copy(update={"tokens": 300})
    result = evaluate(spec)["a"]
    assert result.tokens == 300
    assert json.loads((tmp_path / "a/rung-0-run/state.json").read_text())["step"] == 3


@pytest.mark.parametrize(("family", "z", "better"), [("CausalLM", 3, 4.5), ("Vision", 1, 1.9), ("MLP", 2, 0.3)])
def test_training_learns(family: str, z: int, better: float, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"optimizer": {"lr": 0.01}, "schedule": {"name": "Constant"}, "dropout": 0.0}
    more: dict[str, Any] = {}
    if family == "Vision":
        settings["optimizer"]["lr"] = 0.003
        more = {
            "model": {"family": "Vision", "name": "resnet18"},
            "data": {"kind": "Images", "builtin": "digits", "imageSize": 32, "validationLimit": 64},
        }
    result = evaluate(run_spec(family, [trial(family, "a", **settings)], z, 50, tmp_path, **more))["a"]
    assert result.objective is not None and result.objective < better


def test_dropout_masks_follow_seed_and_step_not_what_was_drawn_before(tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = evaluate(run_spec("MLP", [trial("MLP", "a", dropout=0.5)], 2, 3, tmp_path / "1"))["a"]
    torch.manual_seed(2)
    two = evaluate(run_spec("MLP", [trial("MLP", "a", dropout=0.5)], 2, 3, tmp_path / "2"))["a"]
    none = evaluate(run_spec("MLP", [trial("MLP", "a", dropout=0.0)], 2, 3, tmp_path / "3"))["a"]
    assert one.objective == two.objective != none.objective


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often a tensor's value is asked for, which on a GPU waits for all work before it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["AdamW", "Adam", "SGD", "Adafactor"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@FAMILY
def test_a_step_asks_for_no_value_from_the_device(
    family: str, optimizer: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which batch comes next is looked up in host memory, on a GPU as well.
    monkeypatch.setattr(BatchOrder, "batch_at", lambda order, position: position % order.batches)
    settings = {"optimizer": {"name": optimizer}, "gradientClipping": 1.0, "accumulation": 2, "precision": precision}
    trials = [trial(family, name, **settings) for name in ("a", "b")]
    pack = build_pack(run_spec(family, trials, 2, 8, tmp_path), torch.device("cpu"), Store(str(tmp_path)))
    train_step(pack, 0, pack.members)  # the first one creates the optimizers' state
    with Waits() as waits:
        train_step(pack, 1, pack.members)
        assert waits.count == 0
        pack.members[0].recent_loss()
        assert waits.count == 1
    pack.batches.close()
