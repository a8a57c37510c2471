"""Moving to the device goes through one place, which tells whoever observes it, and nobody else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from frostline_trainer.device.placement import host_memory, observed, placed, to_device

CPU = torch.device("cpu")


class Recorder:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def moved(self, tensors: Iterable[Tensor]) -> None:
        self.told += [tuple(tensor.shape) for tensor in tensors]

    @contextlib.contextmanager
    def host_memory(self) -> Iterator[None]:
        self.told.append("host")
        yield
        self.told.append("device")


def move_everything() -> None:
    with host_memory():
        net = nn.BatchNorm1d(3)
    assert to_device(net, CPU) is net
    assert to_device(torch.zeros(2, 5), CPU).shape == (2, 5)
    assert to_device(None, CPU) is None
    placed(torch.zeros(7))


def test_an_observer_is_told_of_each_module_and_tensor_that_moves() -> None:
    recorder = Recorder()
    with observed(recorder):
        move_everything()
    assert recorder.told == ["host", "device", (3,), (3,), (3,), (3,), (), (2, 5), (7,)]


def test_without_an_observer_and_in_other_threads_things_are_moved_and_nobody_is_told() -> None:
    recorder = Recorder()
    with observed(recorder):
        pass
    move_everything()
    with observed(recorder):
        thread = threading.Thread(target=move_everything)
        thread.start()
        thread.join()
    assert recorder.told == []
