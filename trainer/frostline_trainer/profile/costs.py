"""What a model costs at each z: parameters and FLOPs, counted on tensors that have a size and no content."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Literal

import pydantic
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from frostline_trainer.contract import MemoryProfile, ModelProfile, ProfileSpec
from frostline_trainer.data.open import profiled_shape
from frostline_trainer.data.shape import DataShape
from frostline_trainer.errors import StudyFault
from frostline_trainer.logs import log
from frostline_trainer.models.build import build_network
from frostline_trainer.models.cut import run_prefix
from frostline_trainer.profile.knots import at_every_z
from frostline_trainer.profile.pretend import content_free
from frostline_trainer.profile.probe import probe
from frostline_trainer.profile.simulate import without_weights
from frostline_trainer.training.objective import training_loss

VERSION = 1
"""Raise it when the counting changes, so that cached profiles are made anew."""


def profile(spec: ProfileSpec) -> ModelProfile:
    """Count, for every z, what the prefix and the suffix cost per token (per sample for images and tables).

    Nothing is computed and nothing allocated, whatever the model's size. FLOPs are those of matrix products,
    convolutions and attention (`torch.utils.flop_counter`), of the very forward and backward pass that the trainer runs
    at this z; element-wise work is not counted.

    Raises:
        StudyFault: the model or the data cannot be built.
    """
    shape, notes = profiled_shape(spec)
    with content_free() as counter, sdpa_kernel(SDPBackend.MATH):
        network = build_network(without_weights(spec.model), shape, 0)
        layers = network.layers
        per = 2 * shape.tokens_per_sample

        def count(z: int) -> tuple[float, ...]:
            # At full depth a network built anew, since tied embeddings were untied below.
            whole = build_network(without_weights(spec.model), shape, 0) if z == layers else network
            split = whole.split(z)
            suffix = split.suffixes[0].train()
            x, y = sample(shape, 2)
            before = counter.flops
            features = run_prefix(split.prefix, x)
            between = counter.flops
            training_loss(suffix(features), y, 0.0).backward()  # type: ignore[no-untyped-call]
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


def sample(shape: DataShape, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of the data's shape, filled with zeros, on the device that is current."""
    if shape.kind == "Text":
        return torch.zeros(batch, *shape.input, dtype=torch.long), torch.zeros(batch, *shape.input, dtype=torch.long)
    return torch.zeros(batch, *shape.input), torch.zeros(batch, dtype=torch.long)


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


def main(document: str, form: str, memory: Literal["cuda", "cpu", "none"] = "none") -> int:
    """The command `profile`; returns the exit code. The memory part is read from the cache where it was made before."""
    from frostline_trainer.run import describe

    try:
        text = Path(document[1:]).read_text(encoding="utf-8") if document.startswith("@") else document
        fields = json.loads(text)
        if "trials" in fields and "training" not in fields:  # a RunSpec: the first trial's training stands for all
            fields["training"] = fields["trials"][0].get("training", {})
        wanted = {name: fields[name] for name in ProfileSpec.model_fields if name in fields}
        spec = ProfileSpec.model_validate_json(json.dumps(wanted))
        found = profile(spec) if spec.model.family != "Custom" else probe(spec)
        if memory != "none":
            found = _with_memory(found, spec, memory)
    except (StudyFault, OSError, json.JSONDecodeError, pydantic.ValidationError) as error:
        message = describe(error) if isinstance(error, pydantic.ValidationError) else str(error)
        log("fault", message=message)
        return 43
    print(found.model_dump_json(by_alias=True) if form == "json" else table(found))
    sys.stdout.flush()
    return 0


def _with_memory(found: ModelProfile, spec: ProfileSpec, device: Literal["cuda", "cpu"]) -> ModelProfile:
    """With the memory of the configuration that needs most."""
    from frostline_trainer.profile.memory import cached_memory_profile
    from frostline_trainer.profile.worst import worst_case

    worst, factor, label = worst_case(spec, device)
    memory = cached_memory_profile(worst, device)
    notes = list(found.notes)
    if label:
        notes.append(f"memory is that of {label}, which needs the most of {len(spec.variants)} corners of the space")
    if memory.method == "Probed":
        notes.append("memory was measured in short runs, as the entrypoint cannot be traced")
    memory = memory.model_copy(update={"margin": round(memory.margin * factor, 4)})
    return found.model_copy(update={"memory": memory, "notes": notes})


def compare(document: str, layers: int, memory: Literal["cuda", "cpu"]) -> int:
    """The command `compare`: peak bytes at one z of the document and of each of its variants, as a JSON list.

    None stands for a variant that this model or machine does not support. One simulation each, so that a question such
    as "would activation checkpointing do?" is answered at once.
    """
    from frostline_trainer.profile.worst import required

    spec = ProfileSpec.model_validate_json(document)
    answers: list[int | None] = []
    for candidate in [spec, *map(spec.vary, spec.variants)]:
        try:
            answers.append(required(candidate, layers, memory))
        except StudyFault as fault:
            log("left-out", message=str(fault))
            answers.append(None)
    print(json.dumps(answers))
    return 0


def table(found: ModelProfile) -> str:
    """For people: one line per z, with what packing eight trials would save."""
    unit = found.unit.removesuffix("s")
    full = found.suffix_flops[-1]
    lines = [
        f"{found.layers} layers, {found.step_tokens} {found.unit} per step",
        f"{'z':>4} {'parameters':>14} {f'prefix FLOP/{unit}':>20} {f'suffix FLOP/{unit}':>20} "
        f"{'alone':>8} {'packed by 8':>12}",
    ]
    for z in range(1, found.layers + 1):
        prefix, suffix = found.prefix_flops[z - 1], found.suffix_flops[z - 1]
        lines.append(
            f"{z:>4} {found.parameters[z - 1]:>14,} {prefix:>20,.0f} {suffix:>20,.0f} {(prefix + suffix) / full:>8.1%} "
            f"{(prefix / 8 + suffix) / full:>12.1%}"
        )
    if found.memory is not None:
        lines += ["", memory_table(found.memory)]
    lines += found.notes
    return "\n".join(lines)


def memory_table(found: MemoryProfile) -> str:
    """For people: what each z needs, and which z the usual cards hold."""
    from frostline_trainer.profile.cards import CARDS_GIB, usable_bytes

    how = "measured in short runs, as the entrypoint cannot be traced" if found.method == "Probed" else "foretold"
    lines = [
        f"peak {found.device} memory in MiB at batch {found.batch} ({how})",
        f"{'z':>4} {'allocated':>12} {'reserved':>12} {'required':>12} {'each further trial':>19}",
    ]
    for z in range(1, found.layers + 1):
        sizes = [found.peak_allocated(z), found.peak_reserved(z), found.required(z)]
        more = found.peak_allocated(z, trials=3) - found.peak_allocated(z, trials=2)
        lines.append(f"{z:>4} " + " ".join(f"{size / 2**20:>12,.1f}" for size in sizes) + f" {more / 2**20:>19,.1f}")
    if found.device == "cuda":
        fits = [f"{card} GiB: {found.largest_layers(usable_bytes(card * 2**30)) or 'none'}" for card in CARDS_GIB]
        lines.append("largest z by card: " + ", ".join(fits))
    return "\n".join(lines)
