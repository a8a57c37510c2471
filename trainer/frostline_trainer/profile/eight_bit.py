"""What bitsandbytes' 8-bit AdamW holds, for machines where its CUDA kernels are not to be had.

Its kernels work in place, so only the state counts: two moments of one byte per element, each with a fp32 scale per
block of 256 elements; parameters of fewer than 4096 elements keep fp32 moments (`bitsandbytes.optim.optimizer`,
`Optimizer2State.init_state`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from frostline_trainer.contract import OptimizerSpec
from frostline_trainer.training.optim import build_optimizer

BLOCK = 256
SMALLEST = 4096


class EightBitAdamW(torch.optim.Optimizer):
    """Makes the state at the first step, and changes nothing else."""

    def __init__(self, parameters: Iterable[nn.Parameter]):
        super().__init__(list(parameters), {"lr": 0.0})

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """See the class."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if parameter.grad is None or state:
                    continue
                eight = parameter.numel() >= SMALLEST
                for moment in ("state1", "state2"):
                    dtype = torch.uint8 if eight else torch.float32
                    state[moment] = torch.zeros(parameter.shape, dtype=dtype, device=parameter.device)
                    if eight:
                        blocks = -(-parameter.numel() // BLOCK)
                        state[f"absmax_{moment}"] = torch.zeros(blocks, device=parameter.device)


def build_for_simulation(spec: OptimizerSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The trainer's own optimizer, but for the one that needs a GPU to run at all."""
    return EightBitAdamW(parameters) if spec.name == "AdamW8bit" else build_optimizer(spec, parameters)
