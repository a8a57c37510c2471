"""The tracker counts each storage once, from its birth to its end, on real and on fake tensors."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from frostline_trainer.device.tracker import MemoryTracker

KIB = 1024


def test_a_tensor_counts_until_it_is_gone() -> None:
    tracker = MemoryTracker()
    with tracker:
        x = torch.empty(256, 4)
        assert tracker.live == 4 * KIB
        del x
        assert tracker.live == 0
    assert tracker.peak == 4 * KIB


def test_views_share_their_storage() -> None:
    tracker = MemoryTracker()
    with tracker:
        x = torch.empty(256, 4)
        views = [x.t(), x[3:], x.view(-1), x.detach()]
        assert tracker.live == 4 * KIB
        del x
        assert tracker.live == 4 * KIB
        views.clear()
        assert tracker.live == 0


def test_sizes_are_rounded_to_the_granule() -> None:
    for granule, expected in ((512, 512), (1, 12)):
        tracker = MemoryTracker(granule=granule)
        with tracker:
            x = torch.empty(3)
            assert tracker.live == expected
            del x


def test_slices_of_data_from_before_do_not_count_and_named_tensors_do() -> None:
    data, weights = torch.zeros(10_000), torch.zeros(128)
    tracker = MemoryTracker()
    tracker.hold([weights])
    with tracker:
        part = data[10:20]
        assert tracker.live == 512
        copied = part.clone()
        assert tracker.live == 1024
        del copied
    assert tracker.live == 512


def test_in_place_results_do_not_count_twice() -> None:
    tracker = MemoryTracker()
    with tracker:
        x = torch.zeros(128)
        x.add_(1).mul_(2)
        assert tracker.live == 512


def test_activations_live_until_the_backward_pass_used_them() -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))
    tracker = MemoryTracker()
    with tracker:
        x = torch.randn(128, 64)
        before = tracker.live
        loss = net(x).pow(2).sum()
        kept = tracker.live - before
        assert kept >= 2 * 128 * 64 * 4  # tanh's output and the last linear's
        loss.backward()
        del loss
        gradients = sum(max(512, p.numel() * 4) for p in net.parameters())
        assert tracker.live - before == gradients


def test_nothing_is_kept_under_no_grad() -> None:
    net = nn.Sequential(*[nn.Linear(64, 64) for _ in range(8)])
    tracker = MemoryTracker()
    with tracker, torch.no_grad():
        out = net(torch.randn(128, 64))
        del out
    assert tracker.live == 0
    assert tracker.peak <= 3 * 128 * 64 * 4


def test_fake_and_real_tensors_give_the_same_record() -> None:
    def work() -> None:
        net = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 8))
        optimizer = torch.optim.AdamW(net.parameters(), foreach=True)
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.randn(16, 32)).square().mean().backward()
            optimizer.step()

    real = MemoryTracker(granule=1)
    with real:
        work()
    with FakeTensorMode():
        fake = MemoryTracker(granule=1)
        with fake:
            work()
    assert fake.trace.peak(1) == pytest.approx(real.trace.peak(1), rel=0.01)


def test_the_record_and_the_count_agree() -> None:
    tracker = MemoryTracker()
    with tracker:
        for size in (10, 2000, 300):
            x = torch.randn(size, 7)
            y = (x @ x.t()).softmax(-1)
            del x, y
    assert tracker.trace.peak() == tracker.peak


def test_a_large_number_of_tensors_leaves_nothing_behind() -> None:
    tracker = MemoryTracker()
    with tracker:
        for _ in range(2000):
            torch.zeros(8)
    gc.collect()
    assert tracker.live == 0
    assert not tracker._known
