"""The memory profile of a study's model and training settings, made once and kept by its hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Literal

import pydantic

from frostline_trainer.contract import MemoryProfile, ProfileSpec
from frostline_trainer.custom.entrypoint import load_entrypoint
from frostline_trainer.data.open import profiled_shape
from frostline_trainer.data.shape import DataShape
from frostline_trainer.profile.custom_memory import custom_memory_profile
from frostline_trainer.profile.fit import Simulation, fit
from frostline_trainer.profile.simulate import layers_of, simulate

Device = Literal["cuda", "cpu"]

VERSION = 3
"""Raise it when the simulation changes, so that cached profiles are made anew."""
CACHE_ENV = "FROSTLINE_CACHE"
"""Folder of cached profiles; by default `frostline` in the user's cache folder."""


def memory_profile(spec: ProfileSpec, device: Device = "cuda", shape: DataShape | None = None) -> MemoryProfile:
    """Peak memory as a function of z, batch and K, from simulations on this machine's CPU, without any GPU.

    Args:
        spec: model, data and training; `pretrained` weights are not read, only their config.
        device: cuda, or cpu for runs whose `memory_limit` a CPU enforces.
        shape: of the data, where it is known already; else the data is looked at.

    Raises:
        StudyFault: the model or the data cannot be built, or a custom entrypoint fails.
    """
    if spec.model.family == "Custom":
        return custom_memory_profile(spec, device, memory_hash(spec, device, None))
    shape = shape or profiled_shape(spec)[0]
    layers, convolutional = layers_of(spec, shape)

    def simulated(z: int, batch: int, trials: int) -> Simulation:
        return simulate(spec, shape, z=z, batch=batch, trials=trials, device=device)

    return fit(
        simulated,
        layers=layers,
        batch=spec.training.batch_size,
        device=device,
        convolutional=convolutional,
        identity=memory_hash(spec, device, shape),
    )


def cached_memory_profile(spec: ProfileSpec, device: Device = "cuda", folder: Path | None = None) -> MemoryProfile:
    """`memory_profile`, read from `folder` (by default `cache_folder()`) where it was made before."""
    shape = None if spec.model.family == "Custom" else profiled_shape(spec)[0]
    path = (folder or cache_folder()) / f"memory-{memory_hash(spec, device, shape)}.json"
    with contextlib.suppress(OSError, pydantic.ValidationError):
        return MemoryProfile.model_validate_json(path.read_text(encoding="utf-8"))
    memory = memory_profile(spec, device, shape)
    with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to fail
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(memory.model_dump_json(by_alias=True))
        Path(file.name).replace(path)
    return memory


def cache_folder() -> Path:
    """Where profiles are kept: `FROSTLINE_CACHE`, else the user's cache folder."""
    given = os.environ.get(CACHE_ENV)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frostline"


def memory_hash(spec: ProfileSpec, device: Device, shape: DataShape | None) -> str:
    """Of all that memory depends on, and of nothing else: trials that differ in learning rate share a profile.

    A custom entrypoint (without a `shape`) may depend on everything that it is given, and on its module's text.
    """
    import torch
    import torchvision
    import transformers

    training = spec.training
    optimizer = training.optimizer
    document = {
        "version": VERSION,
        "device": device,
        "packages": [module.__version__.split("+")[0] for module in (torch, torchvision, transformers)],
        "model": spec.model.model_dump(mode="json"),
        "shape": _all_of(spec) if shape is None else [shape.kind, *shape.input, shape.classes],
        "predicts": None if shape is None or shape.target is None else "a number",
        "batch": training.batch_size,
        "accumulates": training.accumulation > 1,
        "precision": [training.precision, training.prefix_precision],
        "optimizer": [optimizer.name, optimizer.fused, optimizer.momentum > 0, optimizer.nesterov],
        "clips": training.gradient_clipping is not None,
        "smooths": training.label_smoothing > 0,
        "drops": None if training.dropout is None else training.dropout > 0,
        "recomputes": training.activation_checkpointing,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def _all_of(spec: ProfileSpec) -> list[str]:
    assert spec.model.entrypoint is not None
    module = sys.modules.get(load_entrypoint(spec.model.entrypoint).__module__)
    source = Path(str(getattr(module, "__file__", "")))
    return [spec.model_dump_json(), source.read_text(encoding="utf-8") if source.is_file() else ""]
