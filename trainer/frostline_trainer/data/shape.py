"""What a network needs to know of the data before any of it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """Of a number that is predicted: what the training rows' targets are standardised with."""

    mean: float
    scale: float


@dataclass(frozen=True)
class DataShape:
    """Shape of one sample and number of classes."""

    kind: Literal["Text", "Images", "Table"]
    input: tuple[int, ...]
    """Text: (sequence length,). Images: (channels, height, width). Table: (columns,)."""
    classes: int
    """Symbols of the tokenizer for text, classes otherwise; 1 where a number is predicted."""
    target: Target | None = None
    """Where a number is predicted."""

    @property
    def tokens_per_sample(self) -> int:
        """How much one sample counts in the fidelity's unit: its tokens for text, else 1."""
        return self.input[0] if self.kind == "Text" else 1

    @property
    def unit(self) -> Literal["tokens", "samples"]:
        """The fidelity's unit for this kind of data."""
        return "tokens" if self.kind == "Text" else "samples"
