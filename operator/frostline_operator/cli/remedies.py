"""What would make a rung fit: tried out on the profile, not guessed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frostline_operator.api.quantity import format_bytes
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.local.profile import Memory, ProfileError, compare_memory
from frostline_trainer.contract import MemoryProfile, ProfileSpec, TrainingSpec, Variant


def remedies(
    spec: HPOStudySpec, profile: MemoryProfile, layers: int, limit: int, memory: Memory, code: Path
) -> Iterator[str]:
    """Changes of the training section that make `layers` fit `limit` bytes, each with what it would then need.

    A smaller batch is read off the profile; everything else is simulated at this z alone, in one process. What a change
    saves is a share of the study's own peak, and is taken off the need of the configuration that was planned for.
    """
    batch = profile.largest_batch(limit, layers)
    if 0 < batch < profile.batch:
        smaller = 1 << (batch.bit_length() - 1)
        times = -(-profile.batch * spec.training.accumulation // smaller)
        yield _words(f"batchSize: {smaller} with accumulation: {times}", profile.required(layers, smaller))
    tried = list(_variants(spec.training))
    variants = [Variant(training=spec.training.model_copy(update=changes)) for _, changes in tried]
    document = ProfileSpec(model=spec.model, data=spec.data, training=spec.training, variants=variants)
    try:
        text = document.model_dump_json(by_alias=True, exclude_none=True)
        base, *sizes = compare_memory(text, layers, memory, code)
    except ProfileError:
        return
    for (words, _), size in zip(tried, sizes, strict=True):
        need = math.ceil(profile.required(layers) * size / base) if size and base else None
        if need is not None and need <= limit:
            yield _words(words, need)


def _words(change: str, need: int) -> str:
    return f"training.{change} (would need {format_bytes(need)})"


def _variants(training: TrainingSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    if not training.activation_checkpointing:
        yield "activationCheckpointing: true", {"activation_checkpointing": True}
    if training.precision == "fp32":
        yield "precision: bf16", {"precision": "bf16"}
        both: dict[str, Any] = {"precision": "bf16", "activation_checkpointing": True}
        yield "precision: bf16 with activationCheckpointing: true", both
    if training.prefix_precision == "fp32":
        yield "prefixPrecision: bf16", {"prefix_precision": "bf16"}
    if training.optimizer.name == "AdamW":
        eight_bit = training.optimizer.model_copy(update={"name": "AdamW8bit"})
        yield "optimizer.name: AdamW8bit", {"optimizer": eight_bit}
        factored = training.optimizer.model_copy(update={"name": "Adafactor"})
        yield "optimizer.name: Adafactor", {"optimizer": factored}
