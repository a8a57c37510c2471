"""The loss that is trained on and the metrics that are reported, for texts and classes alike."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

METRICS = ("loss", "perplexity", "accuracy", "error")
"""What `RunSpec.metric` may be for the built-in families."""


def training_loss(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Mean cross entropy over all predictions: logits `[..., classes]`, targets `[...]`."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), label_smoothing=label_smoothing)


class Tally:
    """Sums over a validation pass, kept on the device so that nothing is synchronised until the end."""

    def __init__(self, device: torch.device):
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._count = 0

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """One batch: logits `[..., classes]`, targets `[...]`."""
        flat, wanted = logits.flatten(0, -2), targets.flatten()
        loss = F.cross_entropy(flat.float(), wanted, reduction="sum")
        hits = (flat.argmax(-1) == wanted).sum()
        self._sums += torch.stack([loss.double(), hits.double()])
        self._count += wanted.numel()

    def metrics(self) -> dict[str, float]:
        """All of `METRICS`; this waits for the device."""
        loss, hits = (self._sums / max(1, self._count)).tolist()
        perplexity = math.exp(min(loss, 700.0)) if math.isfinite(loss) else loss
        return {"loss": loss, "perplexity": perplexity, "accuracy": hits, "error": 1.0 - hits}
