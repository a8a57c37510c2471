"""Checkpoints of one trial: the trainable suffix only, as safetensors and JSON, nothing pickled.

The prefix is not in it: it follows from the seed, or from the pretrained weights. A folder holds `state.json`, which
names the two tensor files that belong to it; it is written last, so a checkpoint is there whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from frostline_trainer.contract import RunSpec, TrialSpec
from frostline_trainer.errors import StudyFault
from frostline_trainer.logs import log
from frostline_trainer.store import Store

FORMAT = 1


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
    """Write a checkpoint into a folder of the store, in place of the one that is there."""
    files = {
        f"weights-{checkpoint.step}.safetensors": _serialise(checkpoint.weights),
        f"optimizer-{checkpoint.step}.safetensors": _serialise(checkpoint.optimizer),
    }
    before = store.list(folder)
    for name, content in files.items():
        store.write(f"{folder}/{name}", content)
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

    Raises:
        StudyFault: there is none, or it is of another format.
    """
    try:
        state = _state(store, folder)
        return Checkpoint(
            layers=state["layers"],
            step=state["step"],
            tokens=state["tokens"],
            weights=load(store.read(f"{folder}/{state['weights']}")),
            optimizer=load(store.read(f"{folder}/{state['optimizer']}")),
            extra=state["extra"],
        )
    except (FileNotFoundError, json.JSONDecodeError, KeyError) as error:
        raise StudyFault(
            f"trials.parent.path: no whole checkpoint in {folder} ({error!r}); was it removed, or is this not the "
            "volume it was written to?"
        ) from error


@dataclass(frozen=True)
class Start:
    """What a trial goes on from."""

    folder: str
    checkpoint: Checkpoint
    own: bool
    """It is its parent's; else an earlier attempt's at the same rung."""


def start_of(store: Store, spec: RunSpec, trial: TrialSpec, at_most: int) -> Start | None:
    """The furthest checkpoint that a trial can go on from, None where it starts afresh.

    An earlier attempt's may be removed, replaced or half there while it is read, by an attempt that was given up and is
    still alive; then the next best is taken.

    Args:
        store: where checkpoints are.
        spec: the run.
        trial: one of its trials.
        at_most: tokens, beyond which an earlier attempt's checkpoint is of no use.

    Raises:
        StudyFault: the parent's cannot be read.
    """
    beyond = 0 if trial.parent is None else trial.parent.tokens
    for tokens, folder in sorted(_found(store, spec.layers, trial.earlier), reverse=True):
        if not beyond < tokens <= at_most:
            continue
        try:
            return _going_on(trial, Start(folder, load_checkpoint(store, folder), own=False))
        except Exception as error:  # noqa: BLE001 - every kind of storage has errors of its own
            log("checkpoint-not-usable", trial=trial.name, checkpoint=folder, error=f"{type(error).__name__}: {error}")
    if trial.parent is None:
        return None
    return _going_on(trial, Start(trial.parent.path, load_checkpoint(store, trial.parent.path), own=True))


def _going_on(trial: TrialSpec, start: Start) -> Start:
    log("goes-on", trial=trial.name, checkpoint=start.folder, tokens=start.checkpoint.tokens)
    return start


def _found(store: Store, layers: int, folders: list[str]) -> Iterator[tuple[int, str]]:
    """Those of the folders that hold a checkpoint of so many layers, with its tokens."""
    for folder in folders:
        try:
            state = _state(store, folder)
            if state["layers"] == layers:
                yield int(state["tokens"]), folder
        except FileNotFoundError:
            continue  # most attempts leave none
        except Exception as error:  # noqa: BLE001
            log("checkpoint-not-usable", checkpoint=folder, error=f"{type(error).__name__}: {error}")


def _state(store: Store, folder: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(store.read(f"{folder}/state.json"))
    if state["format"] != FORMAT:
        raise StudyFault(f"checkpoint: {folder} has format {state['format']}, this trainer reads {FORMAT}")
    return state


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
