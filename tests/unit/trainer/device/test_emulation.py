"""A device of its own, emulated on a CPU: what counts towards a limit, and what is in host memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from frostline_trainer.device.emulation import memory_limit
from frostline_trainer.device.placement import host_memory, placed


def test_beyond_its_limit_a_run_is_out_of_memory_as_on_a_card() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="limit of 8192"), memory_limit(8192):
        kept = [torch.empty(512) for _ in range(10)]
        del kept
    # The books are in order afterwards: the same limit holds the same work again.
    with memory_limit(8192) as tracker:
        for _ in range(10):
            torch.empty(512)
        assert tracker.peak == 2048


def test_host_memory_counts_only_once_it_is_moved_to_the_device() -> None:
    with memory_limit(None) as tracker:
        with host_memory():
            net = nn.Linear(128, 16)
            with host_memory():
                torch.empty(1000)
            batch = torch.zeros(256)
        assert tracker.live == 0
        placed(net)
        assert tracker.live == 128 * 16 * 4 + 512
        placed(net, batch)
        assert tracker.live == 128 * 16 * 4 + 512 + 1024
        del net, batch
        assert tracker.live == 0


def test_of_a_slice_of_host_data_only_the_slice_moves_to_the_device() -> None:
    data = torch.zeros(1000, 128)
    with memory_limit(None) as tracker:
        placed(data[:2])
        assert tracker.live == 1024
