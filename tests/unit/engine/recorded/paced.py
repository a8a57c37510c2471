"""Training at a steady pace, as on a device of one's own: what else the machine does is not in a recording."""

from __future__ import annotations

import time

import torch
from torch import nn

from frostline_trainer import Trial

_SECONDS = 0.01
"""Of a layer's forward pass in one step; a backward pass takes twice as long."""


def train(trial: Trial) -> None:
    layers = [nn.Linear(8, 8) for _ in range(6)]
    prefix, suffix = trial.freeze([*layers, nn.Linear(8, 1)])
    optimizer = trial.resume(torch.optim.AdamW(suffix.parameters(), lr=float(trial.hyperparameters["lr"])))
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(trial.seed))
    y = x.sum(1, keepdim=True)
    trained = sum(isinstance(module, nn.Linear) for module in suffix.modules())
    batch, seen, told = 32, trial.start_tokens, trial.start_tokens
    for rows in trial.batches(len(x), batch):
        loss = (suffix(prefix(x[rows])) - y[rows]).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        time.sleep(_SECONDS * (len(layers) + 1 + 2 * trained))
        seen += batch
        if seen - told >= 640:
            told = seen
            trial.report(tokens=seen, loss=loss.item())
    trial.report(tokens=seen, loss=loss.item())
