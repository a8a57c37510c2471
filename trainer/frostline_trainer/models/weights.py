"""Pretrained weights from a local safetensors file. Nothing is downloaded and nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from frostline_trainer.errors import StudyFault
from frostline_trainer.logs import log


def load_safetensors(module: nn.Module, path: str) -> None:
    """Load every tensor of the file into `module` by name.

    Raises:
        StudyFault: no such file, not a safetensors file, or names or shapes that do not match.
    """
    try:
        module.load_state_dict(_tensors(path))
    except RuntimeError as error:
        raise StudyFault(f"model.pretrained: {path} does not fit this model: {str(error)[:400]}") from error


def load_for_new_classes(module: nn.Module, path: str, units: Sequence[nn.Module]) -> None:
    """Load the file's tensors by name; a head for other classes than the data's keeps its initial weights.

    The head is the last layer of the last unit. What belongs to no unit (heads that only help to train from random
    weights) is never used and may differ as well. Everything else has to be in the file, in the right shape.

    Args:
        module: the whole network, built for the data's classes.
        path: of a safetensors file.
        units: into which the network was cut; they share its tensors.

    Raises:
        StudyFault: no such file, not a safetensors file, or tensors beside the head that do not match.
    """
    tensors = _tensors(path)
    own = module.state_dict(keep_vars=True)
    used = {id(tensor) for unit in units for tensor in unit.state_dict(keep_vars=True).values()}
    layers = [m for m in units[-1].modules() if any(True for _ in m.parameters(recurse=False))]
    head = {id(parameter) for parameter in layers[-1].parameters(recurse=False)}
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    differing = {name for name in own if name not in tensors or tensors[name].shape != own[name].shape} - counters
    new = {name for name in differing if id(own[name]) in head}
    wrong = sorted({name for name in differing - new if id(own[name]) in used} | (tensors.keys() - own.keys()))
    if wrong:
        raise StudyFault(
            f"model.pretrained: {path} does not fit this model beside its head: {', '.join(wrong[:5])}"
            f"{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}; give the file of this very architecture"
        )
    module.load_state_dict({n: t for n, t in tensors.items() if n not in differing}, strict=False)
    if new:
        log("head-is-new", tensors=sorted(new), message="the pretrained head is for other classes than the data's")


def _tensors(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise StudyFault(f"model.pretrained: no file {path}; give a .safetensors file that this run can read")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:
        raise StudyFault(f"model.pretrained: {path} is no safetensors file: {str(error)[:400]}") from error
    return tensors


def has_batch_norm(module: nn.Module) -> bool:
    """Whether some layer keeps running statistics."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())


def estimate_statistics(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of every batch norm in `module` to the average over `batches`.

    A frozen batch norm with its initial statistics (mean 0, variance 1) does not normalise at all, so a randomly
    initialised prefix would hand over activations of arbitrary scale. Statistics are taken in one pass over the
    whole network with every other layer in evaluation mode, so those of unit i depend on the units before it and the
    data only, never on z. Batches are taken one at a time, so that no more than one has to be on the device.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    was = [(m, m.momentum, m.training) for m in norms]
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    for norm in norms:
        norm.momentum = None  # cumulative average
        norm.train()
    with torch.no_grad():
        for number, batch in enumerate(batches):
            if number == 0:  # without any batch, statistics stay as they are
                for norm in norms:
                    norm.reset_running_stats()
            module(batch)
    for norm, momentum, _ in was:
        norm.momentum = momentum
    for member, mode in modes:
        member.training = mode
