"""What a card leaves to a run."""

from __future__ import annotations

CARDS_GIB = (8, 16, 24, 40, 80)
"""Sizes in which GPUs are sold, for tables."""
CONTEXT_BYTES = 600 * 2**20
"""CUDA context, kernels and libraries of one process, which the caching allocator does not see."""


def usable_bytes(memory: int) -> int:
    """Bytes of a card of `memory` bytes that `MemoryProfile.required` may be held against.

    The operator's rule for nodes is stricter, min(0.90 m, 0.97 m - 1 GiB), as other processes may share the card.
    """
    return memory - CONTEXT_BYTES
