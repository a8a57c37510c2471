"""Devices of this machine, found or declared."""

from __future__ import annotations

import os

import pytest

from frostline_operator.engine.placement import usable_memory
from frostline_operator.engine.state import MemoryClass
from frostline_operator.local import devices


def test_declared_classes_become_devices() -> None:
    declared = devices.discover(1, ["small=8Gi*2", "large=1.5Gi"])
    assert devices.classes(declared) == (MemoryClass("small", 8 * 2**30, 2), MemoryClass("large", 3 * 2**29, 1))
    assert all(device.enforced for device in declared)


@pytest.mark.parametrize("text", ["small", "small=", "=8Gi", "small=8Gb", "small=8Gi*0", "small=8Gi*x"])
def test_a_declaration_that_is_not_understood_says_how_to_write_it(text: str) -> None:
    with pytest.raises(devices.DeclarationError, match="--class"):
        devices.discover(1, [text])


def test_a_class_declared_twice_is_refused() -> None:
    with pytest.raises(devices.DeclarationError, match="twice"):
        devices.discover(1, ["a=1Gi", "a=2Gi"])


def test_cpu_slots_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    slots = devices.discover(1000, [])
    if slots[0].memory_class == "cpu":
        assert len(slots) == cores
        assert slots[0].environment["OMP_NUM_THREADS"] == "1"
        assert devices.discover(1, [])[0].environment["OMP_NUM_THREADS"] == str(cores)


def test_usable_memory_leaves_room_for_the_context() -> None:
    gib = 2**30
    assert usable_memory(8 * gib) == int(0.97 * 8 * gib - gib)
    assert usable_memory(80 * gib) == int(0.9 * 80 * gib)
