"""Adafactor as PyTorch has it, without its waiting for the device."""

from __future__ import annotations

import copy

import torch
from torch import nn

from frostline_trainer.training.adafactor import Adafactor


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5))


def trained(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for number in range(steps):
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(number))
        net(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_it_trains_as_pytorchs_own() -> None:
    ours, theirs = network(), network()
    for net, build in ((ours, Adafactor), (theirs, torch.optim.Adafactor)):
        trained(net, build(net.parameters(), lr=0.05, weight_decay=0.1), 20)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_its_state_is_pytorchs_and_it_goes_on_from_it_unchanged() -> None:
    net = network()
    optimizer = Adafactor(net.parameters(), lr=0.05)
    trained(net, optimizer, 3)
    other = copy.deepcopy(net)
    resumed = Adafactor(other.parameters(), lr=0.05)
    trained(other, resumed, 0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    reference = torch.optim.Adafactor(copy.deepcopy(net).parameters(), lr=0.05)
    reference.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    trained(net, optimizer, 4)
    trained(other, resumed, 4)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert {float(state["step"]) for state in resumed.state.values()} == {7.0}
