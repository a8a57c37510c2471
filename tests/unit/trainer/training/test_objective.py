"""Metrics agree with their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from frostline_trainer.training.objective import Tally


def test_metrics_agree_with_their_definitions() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    targets = torch.tensor([0, 1, 1])
    tally = Tally(torch.device("cpu"))
    for i in range(3):
        tally.add(logits[i : i + 1], targets[i : i + 1])
    metrics = tally.metrics()
    loss = float(nn.functional.cross_entropy(logits, targets))
    assert metrics["loss"] == pytest.approx(loss) and metrics["perplexity"] == pytest.approx(math.exp(loss))
    assert metrics["accuracy"] == pytest.approx(2 / 3) and metrics["error"] == pytest.approx(1 / 3)
