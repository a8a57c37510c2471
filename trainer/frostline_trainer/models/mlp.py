"""Multilayer perceptrons: one unit per hidden layer, and the output layer."""

from __future__ import annotations

import torch
from torch import nn

from frostline_trainer.contract import ModelSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.errors import StudyFault
from frostline_trainer.models.cut import ChainNetwork
from frostline_trainer.models.weights import load_safetensors
from frostline_trainer.seeds import derive

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "silu": nn.SiLU}


def build_mlp(model: ModelSpec, shape: DataShape, seed: int, *, weights: bool = True) -> ChainNetwork:
    """Linear, activation, dropout (off unless `training.dropout` sets it) per hidden layer, then the output layer.

    Images are flattened in the first unit, so that an MLP may be tried on them too.

    Raises:
        StudyFault: the data is text.
    """
    if shape.kind == "Text":
        raise StudyFault("data.kind: an MLP takes Table or Images, not Text; use model.family: CausalLM for text")
    torch.manual_seed(derive(seed, "weights"))
    units: list[tuple[str, nn.Module]] = []
    width = 1
    for size in shape.input:
        width *= size
    for index, hidden in enumerate(model.hidden):
        front = [nn.Flatten()] if index == 0 and len(shape.input) > 1 else []
        layers = [*front, nn.Linear(width, hidden), _ACTIVATIONS[model.activation](), nn.Dropout(0.0)]
        units.append((f"hidden{index}", nn.Sequential(*layers)))
        width = hidden
    units.append(("output", nn.Linear(width, shape.classes)))
    network = ChainNetwork(units)
    if model.pretrained and weights:
        load_safetensors(network.module(), model.pretrained)
    return network
