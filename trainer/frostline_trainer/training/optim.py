"""Optimizers from an `OptimizerSpec`, fused or foreach so that no Python runs per parameter."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from frostline_trainer.contract import OptimizerSpec
from frostline_trainer.errors import StudyFault
from frostline_trainer.training.adafactor import Adafactor

OptimizerBuilder = Callable[[OptimizerSpec, Iterable[nn.Parameter]], Optimizer]


def build_optimizer(spec: OptimizerSpec, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer over these parameters; weight decay on matrices and kernels only, never on biases and norms.

    Raises:
        StudyFault: the optimizer needs a package that is not installed, or a fused kernel that it does not have.
    """
    parameters = list(parameters)
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": members, "weight_decay": decay}
        for members, decay in ((matrices, spec.weight_decay), (vectors, 0.0))
        if members
    ]
    fused = True if spec.fused is None else spec.fused
    betas = (spec.beta1, spec.beta2)
    if spec.name == "AdamW":
        return torch.optim.AdamW(groups, lr=spec.lr, betas=betas, eps=spec.eps, **_kernel(fused))
    if spec.name == "Adam":
        return torch.optim.Adam(groups, lr=spec.lr, betas=betas, eps=spec.eps, **_kernel(fused))
    if spec.name == "SGD":
        nesterov = spec.nesterov and spec.momentum > 0
        return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=nesterov, **_kernel(fused))
    if spec.fused:
        raise StudyFault(f"training.optimizer.fused: {spec.name} has no fused kernel; leave fused unset")
    if spec.name == "Adafactor":
        return Adafactor(groups, lr=spec.lr)
    try:
        package = importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise StudyFault(
            "training.optimizer.name: AdamW8bit needs bitsandbytes, which is not installed here; "
            "pip install bitsandbytes, or use AdamW or Adafactor"
        ) from error
    built = package.optim.AdamW8bit(groups, lr=spec.lr, betas=betas, eps=spec.eps)
    assert isinstance(built, Optimizer)
    return built


def _kernel(fused: bool) -> dict[str, bool]:
    return {"fused": True} if fused else {"foreach": True}


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """The learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_state(optimizer: Optimizer, names: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The state of every parameter that has one, as flat tensors `parameter/entry`."""
    found: dict[str, Tensor] = {}
    for name, parameter in names.items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                found[f"{name}/{entry}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return found


def load_optimizer_state(optimizer: Optimizer, names: dict[str, nn.Parameter], saved: dict[str, Tensor]) -> None:
    """Give the parameters named in `saved` their state back; all others start afresh, which is what thawing means."""
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in saved.items():
        name, entry = key.rsplit("/", 1)
        states.setdefault(name, {})[entry] = value
    if not states:
        return
    document = optimizer.state_dict()
    indices: dict[int, int] = {}
    for group, packed in zip(optimizer.param_groups, document["param_groups"], strict=True):
        indices |= {id(p): i for p, i in zip(group["params"], packed["params"], strict=True)}
    if isinstance(optimizer, torch.optim.SGD) and any("momentum_buffer" in state for state in states.values()):
        for name, parameter in names.items():  # its fused kernel wants all buffers or none; zero is what fresh means
            states.setdefault(name, {"momentum_buffer": torch.zeros_like(parameter)})
    document["state"] = {indices[id(names[name])]: state for name, state in states.items()}
    optimizer.load_state_dict(document)
