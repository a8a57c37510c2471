"""What every kind of data offers to the training loop, and the kind that simply lies in memory."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from frostline_trainer.data.shape import DataShape
from frostline_trainer.seeds import derive

Pair = tuple[Tensor, Tensor]
"""Inputs `[batch, *shape.input]` and targets: `[batch]` class indices or standardised numbers, or
`[batch, length]` for text."""


class Source(abc.ABC):
    """A training part and a held-out part, samples on demand, on the CPU."""

    shape: DataShape
    train_samples: int
    valid_samples: int
    augmented: bool = False
    """Inputs of the same sample differ from pass to pass, so nothing computed from them may be cached."""

    reading: Mapping[str, Any] = MappingProxyType({})
    """How a sample becomes an input, and what the classes are called: for whoever uses the network elsewhere."""

    slow: bool = False
    """Reading takes time (decoding files), so that it pays to read ahead."""

    @abc.abstractmethod
    def training(self, indices: Tensor, position: int) -> Pair:
        """Training samples; `position` seeds augmentation where there is any."""

    @abc.abstractmethod
    def validation(self, start: int, stop: int) -> Pair:
        """Held-out samples `start` to `stop`, never augmented."""


def blank(shape: DataShape, batch: int) -> Pair:
    """Inputs and targets of the data's shape, filled with zeros, on the device that is current."""
    if shape.kind == "Text":
        return torch.zeros(batch, *shape.input, dtype=torch.long), torch.zeros(batch, *shape.input, dtype=torch.long)
    targets = torch.zeros(batch, dtype=torch.long if shape.target is None else torch.float32)
    return torch.zeros(batch, *shape.input), targets


def held_out(samples: int, fraction: float, seed: int) -> Pair:
    """Indices for training and for validation, drawn from the seed, at least one of each."""
    drawn = torch.randperm(samples, generator=torch.Generator().manual_seed(derive(seed, "held-out")))
    valid = min(max(1, round(samples * fraction)), samples - 1)
    return drawn[valid:].sort().values, drawn[:valid].sort().values


class ArraySource(Source):
    """Tensors in memory, with a transform applied to each batch as it is taken."""

    def __init__(
        self,
        shape: DataShape,
        train: Pair,
        valid: Pair,
        transform: Callable[[Tensor], Tensor] | None = None,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        seed: int = 0,
        reading: Mapping[str, Any] | None = None,
    ):
        self.shape = shape
        self.reading = reading or {}
        self.train_samples, self.valid_samples = len(train[1]), len(valid[1])
        self.augmented = augment is not None
        self._train, self._valid = train, valid
        self._transform, self._augment, self._seed = transform, augment, seed

    def training(self, indices: Tensor, position: int) -> Pair:
        """See `Source.training`."""
        x, y = self._train[0][indices], self._train[1][indices]
        if self._transform:
            x = self._transform(x)
        if self._augment:
            x = self._augment(x, torch.Generator().manual_seed(derive(self._seed, "augment", position)))
        return x, y

    def validation(self, start: int, stop: int) -> Pair:
        """See `Source.validation`."""
        x = self._valid[0][start:stop]
        return (self._transform(x) if self._transform else x), self._valid[1][start:stop]
