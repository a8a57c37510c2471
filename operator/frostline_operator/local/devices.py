"""The devices of this machine, as memory classes: CUDA cards if there are any, else slots of the CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from frostline_operator.api.quantity import format_bytes, parse_bytes
from frostline_operator.engine.placement import usable_memory
from frostline_operator.engine.state import MemoryClass

_MIB = 1024 * 1024
MOST_DEVICES = 10_000
"""That a declaration may name together."""


@dataclass(frozen=True)
class Device:
    """Something that one run at a time can have."""

    memory_class: str
    usable_bytes: int | None
    environment: dict[str, str]
    """What makes a trainer see this device and no other."""
    enforced: bool
    """Whether the trainer must enforce the memory itself (declared classes on a CPU)."""


class DeclarationError(ValueError):
    """A `--class` that cannot be understood."""


def discover(parallelism: int, declared: list[str]) -> list[Device]:
    """This machine's devices, or the declared ones.

    Args:
        parallelism: the study's; on a CPU there are as many slots, at most one per core.
        declared: `name=memory` or `name=memory*count`, such as `small=8Gi*2`.

    Raises:
        DeclarationError: if a declaration is not of this form.
    """
    if declared:
        return _declared(declared)
    cards = _cuda_cards()
    if cards:
        return cards
    slots = max(1, min(parallelism, _cores()))
    return [Device("cpu", None, cpu_environment(slots), False) for _ in range(slots)]


def cards(described: list[str]) -> list[Device]:
    """GPUs that are not there, for planning: `memory` or `memory*count`, such as `24Gi*4`.

    Raises:
        DeclarationError: if a description is not of this form.
    """
    devices_here: list[Device] = []
    for text in described:
        memory = text.partition("*")[0]
        name, total, number = _parse(f"{memory}={text}", f"--gpu {text}: write memory or memory*count, such as 24Gi*4")
        usable = usable_memory(total)
        if usable < _MIB:
            raise DeclarationError(
                f"--gpu {text}: of {memory} nothing is left beside what CUDA itself takes; {_meant(memory)}"
            )
        _bounded(len(devices_here) + number, f"--gpu {text}")
        devices_here += [Device(name, usable, {}, False)] * number
    return devices_here


def _meant(memory: str) -> str:
    """What to write in the place of an amount that is too small."""
    return f"did you mean {memory}Gi?" if memory.replace(".", "", 1).isdecimal() else "give more, such as 24Gi"


def _bounded(number: int, where: str) -> None:
    if number > MOST_DEVICES:
        raise DeclarationError(f"{where}: more than {MOST_DEVICES:,} devices; give a smaller count")


def classes(devices: list[Device]) -> tuple[MemoryClass, ...]:
    """The memory classes that devices make up."""
    by_name: dict[str, MemoryClass] = {}
    for device in devices:
        count = by_name[device.memory_class].slots if device.memory_class in by_name else 0
        by_name[device.memory_class] = MemoryClass(device.memory_class, device.usable_bytes, count + 1)
    return tuple(by_name.values())


def cpu_environment(slots: int) -> dict[str, str]:
    """The cores divided evenly; results on a CPU depend on the number of threads, so it is fixed for a whole study."""
    threads = str(max(1, _cores() // slots))
    return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ""}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _declared(declared: list[str]) -> list[Device]:
    usage = "write name=memory or name=memory*count, such as small=8Gi*2"
    parsed = [_parse(text, f"--class {text}: {usage}") for text in declared]
    names = [name for name, _, _ in parsed]
    if len(set(names)) != len(names):
        raise DeclarationError("--class: a name is declared twice; write name=8Gi*2 for two devices of a class")
    slots = sum(count for _, _, count in parsed)
    _bounded(slots, f"--class {' '.join(declared)}")
    for text, (_, memory, _) in zip(declared, parsed, strict=True):
        if memory < _MIB:
            amount = text.partition("=")[2].partition("*")[0]
            raise DeclarationError(f"--class {text}: no trainer runs in {amount} of memory; {_meant(amount)}")
    environment = cpu_environment(slots)
    return [Device(name, memory, environment, True) for name, memory, count in parsed for _ in range(count)]


def _parse(text: str, usage: str) -> tuple[str, int, int]:
    name, equals, rest = text.partition("=")
    memory, _, count = rest.partition("*")
    if not (name and equals and memory) or (count and not count.isdecimal()) or count == "0":
        raise DeclarationError(usage)
    try:
        return name, parse_bytes(memory), int(count or 1)
    except ValueError as error:
        raise DeclarationError(f"{usage} ({error})") from error


def _cuda_cards() -> list[Device]:
    if shutil.which("nvidia-smi") is None or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return []
    query = ["nvidia-smi", "--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    allowed = None if visible is None else set(visible.split(","))
    cards = []
    for line in answer.stdout.splitlines():
        index, mebibytes = (part.strip() for part in line.split(","))
        if allowed is None or index in allowed:
            total = int(mebibytes) * _MIB
            name = f"{round(total / 1024**3)}Gi"
            cards.append(Device(name, usable_memory(total), {"CUDA_VISIBLE_DEVICES": index}, False))
    return cards


def describe(devices: list[Device]) -> str:
    """One line for people."""
    parts = []
    for memory_class in classes(devices):
        memory = "" if memory_class.usable_bytes is None else f" ({format_bytes(memory_class.usable_bytes)} usable)"
        parts.append(f"{memory_class.slots} x {memory_class.name}{memory}")
    return ", ".join(parts)
