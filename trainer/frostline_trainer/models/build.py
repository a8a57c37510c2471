"""The built-in model families: from a `ModelSpec` to a `Network` with its ordered units."""

from __future__ import annotations

import torch

from frostline_trainer.contract import ModelSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.errors import StudyFault
from frostline_trainer.models.cut import Network


def build_network(model: ModelSpec, shape: DataShape, seed: int, *, weights: bool = True) -> Network:
    """The whole network with its initial weights, on the CPU (or under whatever mode or device is active).

    Every unit's initial weights depend on `seed` (or the pretrained weights) alone, because the network is always built
    whole and in the same order, whatever z and however many trials will share it.

    Args:
        model: which network.
        shape: what the data feeds in and how many classes (or symbols) come out.
        seed: the study's seed.
        weights: whether pretrained weights are read. Without them the network has the same units and sizes, which is
            all that a profile asks for.

    Raises:
        StudyFault: the model cannot be built; the message names the field and the remedy.
    """
    try:
        return _built(model, shape, seed, weights)
    except (StudyFault, torch.OutOfMemoryError, MemoryError, OSError):
        raise
    except Exception as error:  # a library's own check of what a person wrote, of whatever kind
        words = " ".join(str(error).split())[:400]
        raise StudyFault(f"model: a {model.family} cannot be built so: {type(error).__name__}: {words}") from error


def _built(model: ModelSpec, shape: DataShape, seed: int, weights: bool) -> Network:
    if model.family == "CausalLM":
        from frostline_trainer.models.causal_lm import build_causal_lm

        return build_causal_lm(model, shape, seed, weights=weights)
    if model.family == "Vision":
        from frostline_trainer.models.vision import build_vision

        return build_vision(model, shape, seed, weights=weights)
    if model.family == "MLP":
        from frostline_trainer.models.mlp import build_mlp

        return build_mlp(model, shape, seed, weights=weights)
    raise StudyFault(f"model.family: {model.family} is not built in; use CausalLM, Vision or MLP")
