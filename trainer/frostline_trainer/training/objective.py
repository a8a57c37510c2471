"""What is minimised, and what is measured on the held-out part: for classes (texts included) and for numbers."""

from __future__ import annotations

import abc
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from frostline_trainer.data.shape import DataShape


class Tally(abc.ABC):
    """Sums over a validation pass, kept on the device so that nothing is synchronised until the end."""

    @abc.abstractmethod
    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """One batch of the network's outputs and its targets."""

    @abc.abstractmethod
    def metrics(self) -> dict[str, float]:
        """All metrics of the objective by name; this waits for the device."""


class Objective(abc.ABC):
    """A loss and the metrics that go with it."""

    metrics: tuple[str, ...]
    """What `RunSpec.metric` may be."""

    @abc.abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """What is trained on: a scalar, the mean over all predictions of the batch."""

    @abc.abstractmethod
    def tally(self, device: torch.device) -> Tally:
        """An empty tally for one validation pass."""


def objective_of(shape: DataShape) -> Objective:
    """The objective that fits the data."""
    if shape.target is not None:
        return Regression(shape.target.mean, shape.target.scale)
    return Classification()


class Classification(Objective):
    """Cross entropy over classes or, for texts, over the tokenizer's symbols."""

    metrics = ("loss", "perplexity", "accuracy", "error")

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Mean cross entropy: logits `[..., classes]`, targets `[...]`."""
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), label_smoothing=label_smoothing)

    def tally(self, device: torch.device) -> Tally:
        """See `Objective.tally`."""
        return _ClassTally(device)


class _ClassTally(Tally):
    def __init__(self, device: torch.device):
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._count = 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        logits, labels = outputs.flatten(0, -2), targets.flatten()
        loss = F.cross_entropy(logits.float(), labels, reduction="sum")
        hits = (logits.argmax(-1) == labels).sum()
        self._sums += torch.stack([loss.double(), hits.double()])
        self._count += labels.numel()

    def metrics(self) -> dict[str, float]:
        loss, hits = (self._sums / max(1, self._count)).tolist()
        perplexity = math.exp(min(loss, 700.0)) if math.isfinite(loss) else loss
        return {"loss": loss, "perplexity": perplexity, "accuracy": hits, "error": 1.0 - hits}


class Regression(Objective):
    """Mean squared error of a standardised number.

    The network is trained on targets of mean 0 and variance 1, so that one learning rate suits targets of any unit;
    `loss` is in that scale (1 is what the mean alone reaches), `mse`, `rmse` and `mae` are in the target's own unit.

    Args:
        mean: of the training rows' targets.
        scale: their standard deviation.
    """

    metrics = ("loss", "mse", "rmse", "mae", "r2")

    def __init__(self, mean: float, scale: float):
        self.mean, self.scale = mean, scale

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Mean squared error: outputs `[batch, 1]`, standardised targets `[batch]`. Smoothing is for classes."""
        return F.mse_loss(outputs.squeeze(-1), targets)

    def tally(self, device: torch.device) -> Tally:
        """See `Objective.tally`."""
        return _NumberTally(device, self.scale)


class _NumberTally(Tally):
    def __init__(self, device: torch.device, scale: float):
        self._scale = scale
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)
        """Of squared errors, of absolute errors, of targets, of squared targets."""
        self._count = 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        wanted = targets.double()
        errors = outputs.squeeze(-1).double() - wanted
        self._sums += torch.stack([errors.square().sum(), errors.abs().sum(), wanted.sum(), wanted.square().sum()])
        self._count += targets.numel()

    def metrics(self) -> dict[str, float]:
        squared, absolute, mean, mean_square = (self._sums / max(1, self._count)).tolist()
        spread = mean_square - mean * mean
        mse = squared * self._scale**2
        return {
            "loss": squared,
            "mse": mse,
            "rmse": math.sqrt(mse) if math.isfinite(mse) else mse,
            "mae": absolute * self._scale,
            "r2": 1.0 - squared / spread if spread > 0 else math.nan,
        }
