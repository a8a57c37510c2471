"""A profile as tables for people, and which z the usual cards hold."""

from __future__ import annotations

from frostline_trainer.contract import MemoryProfile, ModelProfile

CARDS_GIB = (8, 16, 24, 40, 80)
"""Sizes in which GPUs are sold, for tables."""
CONTEXT_BYTES = 600 * 2**20
"""CUDA context, kernels and libraries of one process, which the caching allocator does not see."""


def usable_bytes(memory: int) -> int:
    """Bytes of a card of `memory` bytes that `MemoryProfile.required` may be held against.

    The operator's rule for nodes is stricter, min(0.90 m, 0.97 m - 1 GiB), as other processes may share the card.
    """
    return memory - CONTEXT_BYTES


def table(costs: ModelProfile) -> str:
    """For people: one line per z, with what packing eight trials would save."""
    unit = costs.unit.removesuffix("s")
    full = costs.suffix_flops[-1]
    lines = [
        f"{costs.layers} layers, {costs.step_tokens} {costs.unit} per step",
        f"{'z':>4} {'parameters':>14} {f'prefix FLOP/{unit}':>20} {f'suffix FLOP/{unit}':>20} "
        f"{'alone':>8} {'packed by 8':>12}",
    ]
    for z in range(1, costs.layers + 1):
        prefix, suffix = costs.prefix_flops[z - 1], costs.suffix_flops[z - 1]
        lines.append(
            f"{z:>4} {costs.parameters[z - 1]:>14,} {prefix:>20,.0f} {suffix:>20,.0f} {(prefix + suffix) / full:>8.1%} "
            f"{(prefix / 8 + suffix) / full:>12.1%}"
        )
    if costs.memory is not None:
        lines += ["", memory_table(costs.memory)]
    lines += costs.notes
    return "\n".join(lines)


def memory_table(memory: MemoryProfile) -> str:
    """For people: what each z needs, and which z the usual cards hold."""
    how = "measured in short runs, as the entrypoint cannot be traced" if memory.method == "Probed" else "foretold"
    lines = [
        f"peak {memory.device} memory in MiB at batch {memory.batch} ({how})",
        f"{'z':>4} {'allocated':>12} {'reserved':>12} {'required':>12} {'each further trial':>19}",
    ]
    for z in range(1, memory.layers + 1):
        sizes = [memory.peak_allocated(z), memory.peak_reserved(z), memory.required(z)]
        more = memory.peak_allocated(z, trials=3) - memory.peak_allocated(z, trials=2)
        lines.append(f"{z:>4} " + " ".join(f"{size / 2**20:>12,.1f}" for size in sizes) + f" {more / 2**20:>19,.1f}")
    if memory.device == "cuda":
        fits = [f"{card} GiB: {memory.largest_layers(usable_bytes(card * 2**30)) or 'none'}" for card in CARDS_GIB]
        lines.append("largest z by card: " + ", ".join(fits))
    return "\n".join(lines)
