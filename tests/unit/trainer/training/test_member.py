"""One trial: what it keeps when layers thaw, and its update."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from frostline_trainer.checkpoints.checkpoint import load_checkpoint
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.training.loop import train
from frostline_trainer.training.optim import optimizer_state
from frostline_trainer.training.pack import build_pack
from tests.unit.trainer.conftest import evaluate, run_spec, trial


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
