"""Pretrained weights from a local safetensors file. Nothing is downloaded and nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from frostline_trainer.errors import StudyFault


def load_safetensors(module: nn.Module, path: str) -> None:
    """Load every tensor of the file into `module` by name.

    Raises:
        StudyFault: no such file, not a safetensors file, or names or shapes that do not match.
    """
    if not Path(path).is_file():
        raise StudyFault(f"model.pretrained: no file {path}; give a .safetensors file that this run can read")
    try:
        module.load_state_dict(load_file(path))
    except Exception as error:
        raise StudyFault(f"model.pretrained: {path} does not fit this model: {str(error)[:400]}") from error


def has_batch_norm(module: nn.Module) -> bool:
    """Whether some layer keeps running statistics."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())


def estimate_statistics(module: nn.Module, batches: list[torch.Tensor]) -> None:
    """Set the running statistics of every batch norm in `module` to the average over `batches`.

    A frozen batch norm with its initial statistics (mean 0, variance 1) does not normalise at all, so a randomly
    initialised prefix would hand over activations of arbitrary scale. Statistics are taken in one pass over the
    whole network with every other layer in evaluation mode, so those of unit i depend on the units before it and the
    data only, never on z.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms or not batches:
        return
    was = [(m, m.momentum, m.training) for m in norms]
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    with torch.no_grad():
        for batch in batches:
            module(batch)
    for norm, momentum, _ in was:
        norm.momentum = momentum
    for member, mode in modes:
        member.training = mode
