"""Checkpoints of one trial: the trainable suffix only, as safetensors and JSON, nothing pickled.

The prefix is not in it: it follows from the seed, or from the pretrained weights. A folder holds `state.json`, which
names the two tensor files that belong to it, with their SHA-256; it is written last, so a checkpoint is there whole or
not at all, and what was damaged since is not taken for one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.checkpoints.tensors import Digested, size_of, stream
from frostline_trainer.device.placement import host_memory
from frostline_trainer.errors import CheckpointsLost, StudyFault
from frostline_trainer.logs import log

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
    data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fingerprint of the data that it was trained on; empty in those of earlier releases."""

    @property
    def bytes(self) -> int:
        """Of its tensors."""
        return size_of([*self.weights.values(), *self.optimizer.values()])


def save_checkpoint(store: Store, folder: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into a folder of the store, in place of the one that is there, which stays if that fails."""
    files = {
        f"weights-{checkpoint.step}.safetensors": Digested(stream(checkpoint.weights)),
        f"optimizer-{checkpoint.step}.safetensors": Digested(stream(checkpoint.optimizer)),
    }
    before = store.list(folder)
    try:
        with host_memory():
            for name, content in files.items():
                store.write(f"{folder}/{name}", content)
    except Exception:
        with contextlib.suppress(Exception):
            for name in files.keys() - set(before):
                store.remove(f"{folder}/{name}")  # half a checkpoint would go on filling a disk that is full
        raise
    weights, optimizer = files
    index = {
        "format": FORMAT,
        "layers": checkpoint.layers,
        "step": checkpoint.step,
        "tokens": checkpoint.tokens,
        "weights": weights,
        "optimizer": optimizer,
        "extra": checkpoint.extra,
        "data": checkpoint.data,
        "sha256": {name: content.sha256() for name, content in files.items()},
    }
    store.write(f"{folder}/state.json", json.dumps(index | {"digest": _digest(index)}, indent=1).encode())
    for name in before:
        if name.endswith(".safetensors") and name not in files:
            store.remove(f"{folder}/{name}")


class DamageError(ValueError):
    """What is stored is not what was written."""


def load_parents(store: Store, folders: Mapping[str, str]) -> dict[str, Checkpoint]:
    """Read the checkpoints that trials go on from.

    Args:
        store: where they are.
        folders: by trial.

    Raises:
        CheckpointsLost: some are missing, cut, damaged or of another format; all of them are named.
    """
    read: dict[str, Checkpoint] = {}
    lost: dict[str, str] = {}
    for trial, folder in folders.items():
        try:
            read[trial] = load_checkpoint(store, folder)
        except (FileNotFoundError, DamageError) as error:
            lost[trial] = str(error)
            log("checkpoint-lost", trial=trial, folder=folder, error=str(error))
    if lost:
        raise CheckpointsLost(lost)
    return read


def load_checkpoint(store: Store, folder: str) -> Checkpoint:
    """Read a checkpoint, each byte of which is checked against the digests written with it.

    An attempt that was given up may still be alive and replace it just now: then the one that took its place is read.

    Raises:
        FileNotFoundError: there is none, or a part of it is missing.
        DamageError: it was cut or changed, or is of another format.
    """
    reads = 0
    while True:
        reads += 1
        try:
            with host_memory():
                return _load(store, folder)
        except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError) as error:
            if reads < _READS:
                continue
            if isinstance(error, FileNotFoundError):
                raise FileNotFoundError(
                    f"no whole checkpoint in {folder}; was it removed, or is this not the volume it was written to?"
                ) from error
            why = error if isinstance(error, DamageError) else repr(error)
            raise DamageError(f"the checkpoint in {folder} cannot be read: {why}") from error


def _load(store: Store, folder: str) -> Checkpoint:
    index = json.loads(store.read(f"{folder}/state.json"))
    if index["format"] != FORMAT:
        raise DamageError(f"it has format {index['format']}, this trainer reads {FORMAT}")
    digest = index.pop("digest", None)
    if digest is not None and digest != _digest(index):
        raise DamageError("state.json does not match its digest")
    digests = index.get("sha256", {})  # checkpoints of earlier versions have none
    return Checkpoint(
        layers=index["layers"],
        step=index["step"],
        tokens=index["tokens"],
        weights=_read_tensors(store, folder, index["weights"], digests),
        optimizer=_read_tensors(store, folder, index["optimizer"], digests),
        extra=index["extra"],
        data=index.get("data", {}),
    )


def _read_tensors(store: Store, folder: str, name: str, digests: Mapping[str, str]) -> dict[str, Tensor]:
    content = store.read(f"{folder}/{name}")
    if name in digests and hashlib.sha256(content).hexdigest() != digests[name]:
        raise DamageError(f"{name} does not match its digest")
    tensors: dict[str, Tensor] = load(content)
    return tensors


def _digest(index: Mapping[str, Any]) -> str:
    """Of the index without its own digest."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


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
