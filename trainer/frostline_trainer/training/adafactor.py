"""Adafactor without waiting for the device.

`torch.optim.Adafactor` reads two norms per parameter and step back to the host, each of which waits until the device
has done all work before it. Here they stay on the device. Formulas: Shazeer and Stern, arXiv 1804.04235, algorithms 4
to 6, as PyTorch has them; state and its names are PyTorch's, so checkpoints are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Adafactor(torch.optim.Adafactor):
    """As `torch.optim.Adafactor`; results differ from its in the last bits, as two roundings are other ones."""

    _counts: dict[Tensor, float]
    """Steps of each parameter on the host, where PyTorch keeps a tensor that it asks for its value."""

    def load_state_dict(self, state_dict: Any) -> None:
        """See `torch.optim.Optimizer.load_state_dict`."""
        super().load_state_dict(state_dict)
        self._counts = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        counts = self.__dict__.setdefault("_counts", {})
        for group in self.param_groups:
            parameters: list[Tensor] = []
            gradients: list[Tensor] = []
            rows: list[Tensor | None] = []
            columns: list[Tensor | None] = []
            variances: list[Tensor | None] = []
            steps: list[Tensor] = []
            self._init_group(group, parameters, gradients, rows, columns, variances, steps)
            for parameter, gradient, row, column, variance, step in zip(
                parameters, gradients, rows, columns, variances, steps, strict=True
            ):
                if parameter not in counts:
                    counts[parameter] = float(step)  # once, after the start or a resumption
                counts[parameter] += 1
                step += 1
                _update(parameter, gradient, row, column, variance, counts[parameter], group)


def _update(
    parameter: Tensor,
    gradient: Tensor,
    row: Tensor | None,
    column: Tensor | None,
    variance: Tensor | None,
    step: float,
    group: dict[str, Any],
) -> None:
    least, scale_least = group["eps"]
    if least is None:
        least = torch.finfo(parameter.dtype).eps
    decay = step ** group["beta2_decay"]
    relative = min(float(group["lr"]), 1 / step**0.5)
    rate = parameter.norm(2).double().div_(math.sqrt(parameter.numel())).clamp_(min=scale_least).mul_(relative)
    if group["weight_decay"] != 0:
        parameter.mul_(1 - float(group["lr"]) * group["weight_decay"])
    if gradient.dim() > 1:
        assert row is not None and column is not None
        row.lerp_(torch.linalg.vector_norm(gradient, dim=-1, keepdim=True).square_().div_(gradient.size(-1)), decay)
        column.lerp_(torch.linalg.vector_norm(gradient, dim=-2, keepdim=True).square_().div_(gradient.size(-2)), decay)
        estimate = row @ column
        estimate.div_(row.mean(dim=-2, keepdim=True).clamp_(min=least))
    else:
        assert variance is not None
        variance.lerp_(gradient * gradient, decay)
        estimate = variance.clone()
    update = estimate.clamp_(min=least * least).rsqrt_().mul_(gradient)
    clipped = update.norm(2).double().div_(math.sqrt(update.numel()) * group["d"]).clamp_(min=1.0)
    parameter.sub_(update.mul_(rate.div_(clipped)))
