"""Checkpoints of one trial: the trainable suffix only, as safetensors and JSON, nothing pickled.

The prefix is not in it: it follows from the seed, or from the pretrained weights. A folder holds `state.json`, which
names the two tensor files that belong to it; it is written last, so a checkpoint is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.device.placement import host_memory
from frostline_trainer.errors import StudyFault

FORMAT = 1
_READS = 3


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to go on training."""

    layers: int
    step: int
    """Optimizer steps done."""
    tokens: int
    """Tokens (or samples) seen, in the words of the contract."""
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    extra: dict[str, Any] = field(default_factory=dict)
    """Small further state: the gradient scaler's, whether the head was untied, a custom entrypoint's own."""


def save_checkpoint(store: Store, folder: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into a folder of the store, in place of the one that is there, which stays if that fails."""
    with host_memory():
        files = {
            f"weights-{checkpoint.step}.safetensors": _serialise(checkpoint.weights),
            f"optimizer-{checkpoint.step}.safetensors": _serialise(checkpoint.optimizer),
        }
    before = store.list(folder)
    try:
        for name, content in files.items():
            store.write(f"{folder}/{name}", content)
    except Exception:
        with contextlib.suppress(Exception):
            for name in files.keys() - set(before):
                store.remove(f"{folder}/{name}")  # half a checkpoint would go on filling a disk that is full
        raise
    weights, optimizer = files
    state = {
        "format": FORMAT,
        "layers": checkpoint.layers,
        "step": checkpoint.step,
        "tokens": checkpoint.tokens,
        "weights": weights,
        "optimizer": optimizer,
        "extra": checkpoint.extra,
    }
    store.write(f"{folder}/state.json", json.dumps(state, indent=1).encode())
    for name in before:
        if name.endswith(".safetensors") and name not in files:
            store.remove(f"{folder}/{name}")


def load_checkpoint(store: Store, folder: str) -> Checkpoint:
    """Read a checkpoint.

    An attempt that was given up may still be alive and replace it just now: then the one that took its place is read.

    Raises:
        StudyFault: there is none, or it is of another format.
    """
    reads = 0
    while True:
        reads += 1
        try:
            with host_memory():
                return _load(store, folder)
        except (FileNotFoundError, SafetensorError, ValueError, KeyError) as error:
            if reads == _READS:
                raise StudyFault(
                    f"trials.parent.path: no whole checkpoint in {folder} ({error!r}); was it removed, or is this not "
                    "the volume it was written to?"
                ) from error


def _load(store: Store, folder: str) -> Checkpoint:
    state = json.loads(store.read(f"{folder}/state.json"))
    if state["format"] != FORMAT:
        raise StudyFault(f"checkpoint: {folder} has format {state['format']}, this trainer reads {FORMAT}")
    return Checkpoint(
        layers=state["layers"],
        step=state["step"],
        tokens=state["tokens"],
        weights=load(store.read(f"{folder}/{state['weights']}")),
        optimizer=load(store.read(f"{folder}/{state['optimizer']}")),
        extra=state["extra"],
    )


def _serialise(tensors: dict[str, Tensor]) -> bytes:
    content = save({name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()})
    assert isinstance(content, bytes)
    return content


def copy_into(targets: dict[str, Tensor], saved: dict[str, Tensor], folder: str) -> None:
    """Copy saved weights over those of the same name; names that `saved` lacks keep their initial values (thawed).

    Raises:
        StudyFault: a saved name has no target, or another shape: the checkpoint is of another model or of more layers.
    """
    missing = sorted(set(saved) - set(targets))
    shapes = [n for n in saved if n in targets and saved[n].shape != targets[n].shape]
    if missing or shapes:
        name = (missing + shapes)[0]
        raise StudyFault(
            f"trials.parent.path: the checkpoint {folder} does not fit: {name} "
            f"{'is not trained here' if missing else 'has another shape'}; it is of another model, "
            "or of more layers than this run trains"
        )
    with torch.no_grad():
        for name, tensor in saved.items():
            targets[name].copy_(tensor)
