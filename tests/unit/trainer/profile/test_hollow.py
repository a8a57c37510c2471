"""Hollow tensors look like real ones to everything but the arithmetic."""

from __future__ import annotations

import resource

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from frostline_trainer.device.tracker import MemoryTracker
from frostline_trainer.profile.hollow import EndlessError, Hollow


def step(width: int, batch: int) -> nn.Module:
    """One training step with views, an in-place operator, half precision and a fused optimizer."""
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, 10))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(batch, 2, width)).transpose(0, 1).reshape(-1, 10)
    F.cross_entropy(logits.float(), torch.zeros(2 * batch, dtype=torch.long)).backward()
    optimizer.step()
    return model


def test_a_step_on_hollow_tensors_makes_the_allocations_of_a_real_one() -> None:
    with MemoryTracker() as real:
        step(64, 4)
    with Hollow(), MemoryTracker() as hollow:
        step(64, 4)
    assert sorted(hollow.trace.sizes) == sorted(real.trace.sizes)
    assert hollow.peak == real.peak


def test_hollow_tensors_take_no_memory_however_large_they_are() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Hollow():
        model = step(100_000, 1000)  # 40 GB of weights, as much again for gradients, and twice for the optimizer
    gradient = model[0].weight.grad  # type: ignore[index]
    assert gradient is not None and gradient.untyped_storage().nbytes() == 4 * 100_000**2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


def test_flops_are_counted() -> None:
    with Hollow() as hollow:
        model = nn.Linear(30, 50)
        model(torch.zeros(7, 30)).sum().backward()
    assert hollow.flops == 2 * (2 * 7 * 30 * 50)  # forward, and the weights' gradient; the input needs none


def test_a_number_is_one_and_a_shape_that_depends_on_values_is_refused() -> None:
    with Hollow():
        assert float(torch.randn(3).sum()) == 1.0
        assert bool((torch.randn(3) > 0).all())
        with pytest.raises(DynamicOutputShapeException):
            torch.randn(3).nonzero()


def test_code_that_waits_for_a_value_to_change_is_given_up() -> None:
    with Hollow(most=1000), pytest.raises(EndlessError):
        x = torch.ones(())
        while float(x) > 0.5:
            x = x / 2
