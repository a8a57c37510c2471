"""A custom trainer in one function: scikit-learn's digits, a small network of your own, any loop you like."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from frostline_trainer import Trial


def train(trial: Trial) -> None:
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(trial.seed))
    x, y = x[order].to(trial.device), y[order].to(trial.device)
    held, x, y = (x[:297], y[:297]), x[297:], y[297:]

    width = 64
    blocks = [nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)) for _ in range(6)]
    prefix, suffix = trial.freeze([*blocks, nn.Linear(width, 10)])  # cut for this rung: only the last layers train
    rate = float(trial.hyperparameters["lr"])
    optimizer = trial.resume(torch.optim.AdamW(suffix.parameters(), lr=rate))  # goes on where the last rung left off

    batch, seen = 50, trial.start_tokens
    for rows in trial.batches(len(x), batch):  # shuffled; the same order for every trial
        loss = cross_entropy(suffix(prefix(x[rows])), y[rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += batch
        trial.report(tokens=seen)
    with torch.no_grad():
        right = (suffix(prefix(held[0])).argmax(-1) == held[1]).float().mean()
    trial.report(tokens=seen, loss=loss.item(), accuracy=right.item())
