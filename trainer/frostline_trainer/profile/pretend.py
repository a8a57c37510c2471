"""A place in which the trainer's own code runs on hollow tensors and does not notice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from frostline_trainer.profile.hollow import Hollow
from frostline_trainer.profile.replaced import replaced
from frostline_trainer.profile.semantics import plain_masks


@contextlib.contextmanager
def content_free(most_operators: int | None = None) -> Iterator[Hollow]:
    """Everything made inside is hollow, and nothing inside asks for what hollow tensors do not have.

    Args:
        most_operators: after so many it is given up (`hollow.EndlessError`); for code that is not ours.
    """

    def step(_scaler: object, optimizer: torch.optim.Optimizer, _state: object, *args: Any, **kwargs: Any) -> Any:
        return optimizer.step(*args, **kwargs)  # as if no gradient had overflowed

    with (
        torch.random.fork_rng(devices=[]),
        # It draws again until no value is out of bounds, which of values that do not exist is never said.
        replaced(nn.init, "_no_grad_trunc_normal_", lambda tensor, *args, **kwargs: tensor),
        replaced(Tensor, "__deepcopy__", _deepcopy),
        replaced(Tensor, "tolist", _tolist),
        replaced(torch.amp.GradScaler, "_maybe_opt_step", step),
        plain_masks(),
        Hollow(most_operators) as hollow,
    ):
        yield hollow


def _deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """`copy.deepcopy` of a hollow tensor, which PyTorch would do by copying its storage, past all operators."""
    if id(tensor) not in memo:
        copied = tensor.detach().clone()
        memo[id(tensor)] = nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied
    return memo[id(tensor)]  # type: ignore[no-any-return]


def _tolist(tensor: Tensor) -> Any:
    """`tolist` reads memory without asking an operator, so it is answered here: ones."""
    answer: Any = 1.0 if tensor.is_floating_point() else 1
    for size in reversed(tensor.shape):
        answer = [answer] * size
    return answer
