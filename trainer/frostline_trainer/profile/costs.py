"""What a model costs at each z: parameters and FLOPs, counted on tensors that have a size and no content."""

from __future__ import annotations

import hashlib
import json

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from frostline_trainer.contract import ModelProfile, ProfileSpec
from frostline_trainer.data.open import profiled_shape
from frostline_trainer.data.source import blank
from frostline_trainer.models.build import build_network
from frostline_trainer.models.cut import run_prefix
from frostline_trainer.profile.knots import at_every_z
from frostline_trainer.profile.pretend import content_free
from frostline_trainer.training.objective import objective_of

VERSION = 1
"""Raise it when the counting changes, so that cached profiles are made anew."""


def profile(spec: ProfileSpec) -> ModelProfile:
    """Counts, for every z, what the prefix and the suffix cost per token (per sample for images and tables).

    Nothing is computed and nothing allocated, whatever the model's size. FLOPs are those of matrix products,
    convolutions and attention (`torch.utils.flop_counter`), of the very forward and backward pass that the trainer runs
    at this z; element-wise work is not counted.

    Raises:
        StudyFault: the model or the data cannot be built.
    """
    shape, notes = profiled_shape(spec)
    with content_free() as counter, sdpa_kernel(SDPBackend.MATH):
        network = build_network(spec.model, shape, 0, weights=False)
        layers = network.layers
        per = 2 * shape.tokens_per_sample

        def count(z: int) -> tuple[float, ...]:
            # At full depth a network built anew, since tied embeddings were untied below.
            whole = build_network(spec.model, shape, 0, weights=False) if z == layers else network
            split = whole.split(z)
            suffix = split.suffixes[0].train()
            x, y = blank(shape, 2)
            before = counter.flops
            features = run_prefix(split.prefix, x)
            between = counter.flops
            objective_of(shape).loss(suffix(features), y, 0.0).backward()  # type: ignore[no-untyped-call]
            trained = sum(p.numel() for p in suffix.trainable().values())
            return trained, (between - before) / per, (counter.flops - between) / per

        rows = at_every_z(layers, count)
    training = spec.training
    return ModelProfile(
        hash=profile_hash(spec),
        layers=layers,
        unit=shape.unit,
        parameters=[round(row[0]) for row in rows],
        prefix_flops=[row[1] for row in rows],
        suffix_flops=[row[2] for row in rows],
        step_tokens=training.batch_size * training.accumulation * shape.tokens_per_sample,
        notes=notes,
    )


def profile_hash(spec: ProfileSpec) -> str:
    """Of all that the profile depends on: two equal hashes, one profile."""
    import transformers

    training = spec.training
    document = {
        "version": VERSION,
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "model": spec.model.model_dump(mode="json"),
        "data": spec.data.model_dump(mode="json"),
        "training": [training.batch_size, training.accumulation, training.sequence_length],
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
