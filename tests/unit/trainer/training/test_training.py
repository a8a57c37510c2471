"""What a trial is made of: data order, schedule, optimizer, thawing, checkpoints, evaluations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from frostline_trainer.checkpoints.checkpoint import load_checkpoint
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import OptimizerSpec, ScheduleSpec
from frostline_trainer.data.order import BatchOrder
from frostline_trainer.errors import StudyFault
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.training.loop import evaluation_steps, train
from frostline_trainer.training.objective import Tally
from frostline_trainer.training.optim import build_optimizer, load_optimizer_state, optimizer_state
from frostline_trainer.training.pack import affordable_evaluations, build_pack
from frostline_trainer.training.schedule import learning_rate_share
from tests.unit.trainer.conftest import evaluate, run_spec, saved, trial


def test_every_epoch_shows_every_sample_once_in_another_order() -> None:
    order = BatchOrder(24, 4, seed=3)
    epochs = []
    for epoch in range(3):
        batches = [order.batch_at(epoch * order.batches + i) for i in range(order.batches)]
        epochs.append(batches)
        assert sorted(torch.cat([order.members(b) for b in batches]).tolist()) == list(range(24))
    assert epochs[0] != epochs[1] != epochs[2]


def test_samples_left_over_fill_a_last_batch_so_that_none_is_never_seen() -> None:
    order = BatchOrder(10, 4, seed=0)
    assert order.batches == 3
    assert set(torch.cat([order.members(b) for b in range(3)]).tolist()) == set(range(10))
    assert all(len(order.members(b)) == 4 for b in range(3))
    assert len(BatchOrder(3, 8, seed=0).members(0)) == 3


def test_the_order_is_a_pure_function_of_seed_and_position() -> None:
    one, two = BatchOrder(100, 8, seed=5), BatchOrder(100, 8, seed=5)
    assert [one.batch_at(p) for p in range(60)] == [two.batch_at(p) for p in reversed(range(60))][::-1]
    other = BatchOrder(100, 8, seed=6)
    assert not torch.equal(one.members(0), other.members(0))


@pytest.mark.parametrize("end", [1, 7, 8, 9, 20, 31])
def test_what_comes_again_is_known_ahead(end: int) -> None:
    order = BatchOrder(32, 4, seed=1)
    visits = [order.batch_at(p) for p in range(end)]
    for position, batch in enumerate(visits):
        assert order.comes_again(position, end) == (batch in visits[position + 1 :])


def test_the_learning_rate_rises_falls_and_ends_where_it_should() -> None:
    cosine = ScheduleSpec(name="Cosine", warmup=0.1, final=0.2)
    assert learning_rate_share(cosine, 50, 1000) == pytest.approx(0.5)
    assert learning_rate_share(cosine, 100, 1000) == pytest.approx(1.0)
    assert learning_rate_share(cosine, 550, 1000) == pytest.approx(0.6)
    assert learning_rate_share(cosine, 1000, 1000) == pytest.approx(0.2)
    assert learning_rate_share(cosine, 5000, 1000) == pytest.approx(0.2)
    linear = ScheduleSpec(name="Linear", final=0.0)
    assert learning_rate_share(linear, 250, 1000) == pytest.approx(0.75)
    assert learning_rate_share(ScheduleSpec(name="Constant"), 999, 1000) == 1.0


def test_the_schedule_does_not_depend_on_where_a_rung_ends(tmp_path: Path) -> None:
    """Two rungs of 3 steps at one z are one rung of 6 steps, bit for bit."""
    one = evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 6, tmp_path / "one"))["a"]
    first = evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 3, tmp_path / "two"))["a"]
    second = evaluate(run_spec("MLP", [trial("MLP", "a", first, 2)], 2, 6, tmp_path / "two", rung=1))["a"]
    assert saved(tmp_path / "one", one) == saved(tmp_path / "two", second)


@pytest.mark.parametrize("name", ["AdamW", "Adam", "SGD", "Adafactor"])
def test_thawing_keeps_optimizer_state_and_starts_new_layers_fresh(name: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"optimizer": {"name": name, "lr": 0.001}}
    first = evaluate(run_spec("MLP", [trial("MLP", "a", **settings)], 1, 4, tmp_path))["a"]
    spec = run_spec("MLP", [trial("MLP", "a", first, 1, **settings)], 3, 6, tmp_path, rung=1)
    pack = build_pack(spec, torch.device("cpu"), Store(str(tmp_path)))
    member = pack.members[0]
    known = load_file(next((tmp_path / "a/rung-0-run").glob("optimizer-*")))
    loaded = {n: t for n, t in optimizer_state(member.optimizer, member.suffix.trainable()).items() if n in known}
    assert loaded.keys() == known.keys() and all(torch.equal(loaded[n], known[n]) for n in known)
    assert all(name.startswith("units.3.") for name in known)
    train(pack, Store(str(tmp_path)), RunMetrics(spec, 3), lambda: False)
    later = load_checkpoint(Store(str(tmp_path)), "a/rung-1-run").optimizer
    if name != "SGD":
        assert later["units.3.weight/step"].item() == 6 and later["units.1.0.weight/step"].item() == 2


def test_zero_momentum_for_thawed_layers_is_what_a_fresh_optimizer_does() -> None:
    old, new = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    spec = OptimizerSpec(name="SGD", lr=0.1)
    optimizer = build_optimizer(spec, [old, new])
    load_optimizer_state(optimizer, {"old": old, "new": new}, {"old/momentum_buffer": torch.full((3,), 2.0)})
    for parameter in (old, new):
        parameter.grad = torch.ones(3)
    optimizer.step()
    fresh = nn.Parameter(torch.ones(3))
    fresh.grad = torch.ones(3)
    build_optimizer(spec, [fresh]).step()
    assert torch.equal(new, fresh)
    assert old.tolist() == pytest.approx([1 - 0.1 * (0.9 * 2 + 1)] * 3)


def test_weight_decay_is_for_matrices_only() -> None:
    layer = nn.Linear(3, 3)
    groups = build_optimizer(OptimizerSpec(weight_decay=0.5), layer.parameters()).param_groups
    assert [(g["weight_decay"], [p.ndim for p in g["params"]]) for g in groups] == [(0.5, [2]), (0.0, [1])]


@pytest.mark.parametrize(("name", "remedy"), [("AdamW8bit", "pip install bitsandbytes")])
def test_an_optimizer_that_is_not_installed_names_the_remedy(name: Any, remedy: str) -> None:
    with pytest.raises(StudyFault, match=remedy):
        build_optimizer(OptimizerSpec(name=name), [nn.Parameter(torch.ones(2, 2))])


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    moved = {}
    for clipping in (None, 1e-6):
        settings: dict[str, Any] = {
            "optimizer": {"name": "SGD", "lr": 1.0, "momentum": 0.0},
            "schedule": {"name": "Constant"},
        }
        if clipping:
            settings["gradientClipping"] = clipping
        folder = tmp_path / str(clipping)
        result = evaluate(run_spec("MLP", [trial("MLP", "a", **settings)], 1, 1, folder))["a"]
        start = build_pack(
            run_spec("MLP", [trial("MLP", "a", **settings)], 1, 1, folder), torch.device("cpu"), Store("x")
        )
        weights = load_checkpoint(Store(str(folder)), str(result.checkpoint)).weights
        before = start.members[0].suffix.state()
        moved[clipping] = math.sqrt(sum(float((weights[n] - before[n].detach()).square().sum()) for n in weights))
    assert moved[1e-6] == pytest.approx(1e-6, rel=0.1) and moved[None] > 1e-3


def test_a_checkpoint_holds_the_trainable_part_only(tmp_path: Path) -> None:
    sizes = {}
    for z in (1, 5):
        evaluate(run_spec("CausalLM", [trial("CausalLM", "a")], z, 2, tmp_path / str(z)))
        files = list((tmp_path / str(z) / "a/rung-0-run").iterdir())
        assert {f.suffix for f in files} == {".safetensors", ".json"}
        sizes[z] = sum(f.stat().st_size for f in files)
    names = load_checkpoint(Store(str(tmp_path / "1")), "a/rung-0-run").weights
    assert set(names) == {"transformer.ln_f.weight", "transformer.ln_f.bias", "lm_head.weight"}
    assert sizes[1] < sizes[5] / 4


def test_thawed_units_start_as_the_frozen_prefix_was(tmp_path: Path) -> None:
    """Continuing with more layers changes nothing before the first step: the same function, more of it trainable."""
    first = evaluate(run_spec("Vision", [trial("Vision", "a")], 2, 3, tmp_path))["a"]
    for z in (3, 10, 19):
        spec = run_spec("Vision", [trial("Vision", "a", first, 2)], z, 3, tmp_path, rung=z)
        again = evaluate(spec)["a"]  # no tokens are left, so it is only evaluated
        assert again.objective == first.objective


def test_a_tied_model_thawed_to_the_bottom_keeps_its_trained_head(tmp_path: Path) -> None:
    first = evaluate(run_spec("CausalLM", [trial("CausalLM", "a")], 2, 3, tmp_path))["a"]
    full = evaluate(run_spec("CausalLM", [trial("CausalLM", "a", first, 2)], 5, 3, tmp_path, rung=1))["a"]
    assert full.objective == first.objective
    more = evaluate(run_spec("CausalLM", [trial("CausalLM", "a", full, 5)], 5, 4, tmp_path, rung=2))["a"]
    weights = load_checkpoint(Store(str(tmp_path)), str(more.checkpoint)).weights
    assert not torch.equal(weights["lm_head.weight"], weights["transformer.wte.weight"])


def test_a_checkpoint_of_more_layers_or_of_nothing_is_refused(tmp_path: Path) -> None:
    first = evaluate(run_spec("MLP", [trial("MLP", "a")], 3, 2, tmp_path))["a"]
    with pytest.raises(StudyFault, match=r"of more layers than this run trains"):
        evaluate(run_spec("MLP", [trial("MLP", "a", first, 3)], 1, 4, tmp_path, rung=1))
    (tmp_path / "a/rung-0-run/state.json").unlink()
    with pytest.raises(StudyFault, match="no whole checkpoint in a/rung-0-run"):
        evaluate(run_spec("MLP", [trial("MLP", "a", first, 3)], 3, 4, tmp_path, rung=1))


def test_a_checkpoint_that_replaces_another_leaves_no_stale_files(tmp_path: Path) -> None:
    for steps in (2, 4):
        evaluate(run_spec("MLP", [trial("MLP", "a")], 1, steps, tmp_path))
    names = sorted(p.name for p in (tmp_path / "a/rung-0-run").iterdir())
    assert names == ["optimizer-4.safetensors", "state.json", "weights-4.safetensors"]


def test_checkpoints_go_through_fsspec_too(tmp_path: Path) -> None:
    local = evaluate(run_spec("MLP", [trial("MLP", "a")], 1, 2, tmp_path))["a"]
    memory = evaluate(run_spec("MLP", [trial("MLP", "a")], 1, 2, tmp_path, checkpoint="memory://frostline/x"))["a"]
    assert memory == local
    spec = run_spec("MLP", [trial("MLP", "a", memory, 1)], 2, 4, tmp_path, rung=1, checkpoint="memory://frostline/x")
    assert evaluate(spec)["a"].reason == "Completed"


def test_evaluations_are_spread_evenly_and_end_at_the_rungs_end() -> None:
    assert evaluation_steps(0, 40, 4) == {10, 20, 30, 40}
    assert evaluation_steps(10, 13, 4) == {11, 12, 13}
    assert evaluation_steps(5, 5, 4) == {5}
    assert max(evaluation_steps(3, 100, 7)) == 100


def test_a_short_run_does_not_spend_more_on_its_learning_curve_than_on_learning() -> None:
    assert affordable_evaluations(trained=8000, validated=1000) == 4
    assert affordable_evaluations(trained=2500, validated=1000) == 2
    assert affordable_evaluations(trained=10, validated=1000) == 1


@pytest.mark.parametrize(("family", "per_sample"), [("MLP", 1), ("CausalLM", 32)])
def test_a_run_that_asks_for_no_number_validates_as_often_as_it_can_afford(
    family: str, per_sample: int, tmp_path: Path
) -> None:
    found = set()
    for steps in (1, 1000):
        spec = run_spec(family, [trial(family, "a")], 1, steps, tmp_path, evaluations=None)
        pack = build_pack(spec, torch.device("cpu"), Store(str(tmp_path)))
        validated = pack.batches.held_out[-1][1] * per_sample
        assert pack.evaluations == affordable_evaluations(steps * pack.step_tokens, validated)
        found.add(pack.evaluations)
        pack.batches.close()
    assert found == {1, 4}


def test_the_rungs_tokens_are_reported_to_the_token(tmp_path: Path) -> None:
    """128 tokens make a step; a rung of 300 ends after three whole steps and says 300."""
    spec = run_spec("CausalLM", [trial("CausalLM", "a")], 1, 1, tmp_path).model_copy(update={"tokens": 300})
    result = evaluate(spec)["a"]
    assert result.tokens == 300
    assert json.loads((tmp_path / "a/rung-0-run/state.json").read_text())["step"] == 3


def test_metrics_agree_with_their_definitions() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    targets = torch.tensor([0, 1, 1])
    tally = Tally(torch.device("cpu"))
    for i in range(3):
        tally.add(logits[i : i + 1], targets[i : i + 1])
    metrics = tally.metrics()
    loss = float(nn.functional.cross_entropy(logits, targets))
    assert metrics["loss"] == pytest.approx(loss) and metrics["perplexity"] == pytest.approx(math.exp(loss))
    assert metrics["accuracy"] == pytest.approx(2 / 3) and metrics["error"] == pytest.approx(1 / 3)


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


def test_a_bf16_prefix_is_stored_in_bf16_and_comes_close(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"prefixPrecision": "bf16"}
    spec = run_spec("CausalLM", [trial("CausalLM", "a", **settings)], 2, 3, tmp_path / "half")
    pack = build_pack(spec, torch.device("cpu"), Store(spec.checkpoint))
    assert pack.prefix is not None and {p.dtype for p in pack.prefix.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in pack.members[0].suffix.trainable().values()} == {torch.float32}
    half = evaluate(spec)["a"].objective
    exact = evaluate(run_spec("CausalLM", [trial("CausalLM", "a")], 2, 3, tmp_path / "full"))["a"].objective
    assert half != exact and half == pytest.approx(exact, rel=1e-2)


def test_bf16_compute_keeps_weights_in_fp32_and_comes_close(tmp_path: Path) -> None:
    half = evaluate(run_spec("MLP", [trial("MLP", "a", precision="bf16")], 2, 3, tmp_path / "half"))["a"]
    exact = evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 3, tmp_path / "full"))["a"]
    weights = load_checkpoint(Store(str(tmp_path / "half")), str(half.checkpoint)).weights
    assert {t.dtype for t in weights.values()} == {torch.float32}
    assert half.objective != exact.objective and half.objective == pytest.approx(exact.objective, rel=0.05)


def test_dropout_masks_follow_seed_and_step_not_what_was_drawn_before(tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = evaluate(run_spec("MLP", [trial("MLP", "a", dropout=0.5)], 2, 3, tmp_path / "1"))["a"]
    torch.manual_seed(2)
    two = evaluate(run_spec("MLP", [trial("MLP", "a", dropout=0.5)], 2, 3, tmp_path / "2"))["a"]
    none = evaluate(run_spec("MLP", [trial("MLP", "a", dropout=0.0)], 2, 3, tmp_path / "3"))["a"]
    assert one.objective == two.objective != none.objective
