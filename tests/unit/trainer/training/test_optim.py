"""Optimizers: what decays, what is installed, and state that is handed on when layers thaw."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from frostline_trainer.contract import OptimizerSpec
from frostline_trainer.errors import StudyFault
from frostline_trainer.training.optim import build_optimizer, load_optimizer_state


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
