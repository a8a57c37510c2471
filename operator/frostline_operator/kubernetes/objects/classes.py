"""Memory classes: the GPUs of a cluster with the same amount of memory, and how Jobs ask for one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from frostline_operator.api.quantity import parse_bytes
from frostline_operator.engine.state import MemoryClass
from frostline_operator.kubernetes.objects.nodes import GIB, MIB, Devices, Term
from frostline_operator.kubernetes.settings import DeclaredClass

CPU = "cpu"
"""The class of nodes without GPUs."""


@dataclass(frozen=True)
class DeviceClass:
    """One class."""

    name: str
    usable_bytes: int | None
    """None where memory is no limit."""
    resource: str | None
    """None where no device is to be asked for."""
    counts: dict[str, int] = field(default_factory=dict)
    """Devices by node."""
    terms: frozenset[Term] = frozenset()
    declared: bool = False
    selector: Mapping[str, str] = field(default_factory=dict)
    """Node labels that a pod asks for besides, all of them."""

    @property
    def total(self) -> int:
        """All devices of the class."""
        return sum(self.counts.values())

    @property
    def whole(self) -> MemoryClass:
        """With all of its devices, whoever has them: for what is shown, not for what is decided."""
        return MemoryClass(self.name, self.usable_bytes, self.total)


def memory_classes(available: Sequence[Devices], usable: int | None = None) -> dict[str, DeviceClass]:
    """The classes that devices make up, by name.

    Args:
        available: the devices of all nodes that may be used.
        usable: bytes of each GPU that may be used, instead of what is known of it.
    """
    groups: dict[str, list[Devices]] = {}
    for devices in available:
        groups.setdefault(_name(devices), []).append(devices)
    classes = {}
    for name, members in groups.items():
        counts: dict[str, int] = {}
        for devices in members:
            counts[devices.node] = counts.get(devices.node, 0) + devices.count
        classes[name] = DeviceClass(
            name=name,
            usable_bytes=min(devices.usable_bytes for devices in members) if usable is None else usable,
            resource=members[0].resource,
            counts=counts,
            terms=frozenset(devices.term for devices in members),
            declared=usable is not None or any(devices.declared for devices in members),
        )
    return classes


def cpu_class(slots: int, usable: int | None = None) -> dict[str, DeviceClass]:
    """The class of nodes without GPUs, as many runs at a time as the operator's settings say."""
    return {CPU: DeviceClass(CPU, usable, None, {"": slots}, declared=usable is not None)}


def declared_classes(given: Sequence[DeclaredClass], usable: int | None = None) -> dict[str, DeviceClass]:
    """The classes that the operator's settings tell of, named by their memory."""
    classes: dict[str, DeviceClass] = {}
    for one in given:
        amount = parse_bytes(one.usable_memory) if usable is None else usable
        size = one.usable_memory
        name = size if size not in classes else f"{size}-{len(classes)}"
        classes[name] = DeviceClass(
            name, amount, one.resource, {name: one.devices}, declared=True, selector=dict(one.node_selector)
        )
    return classes


def _name(devices: Devices) -> str:
    """Cards of one nominal size differ by a few MiB: rounded to what people call them."""
    gib = round(devices.total_bytes / GIB)
    size = f"{gib}Gi" if devices.total_bytes >= GIB else f"{round(devices.total_bytes / MIB)}Mi"
    return size if devices.resource.endswith("/gpu") else f"{size}-{devices.resource.rpartition('/')[2]}"


def affinity_terms(chosen: DeviceClass) -> list[dict[str, object]]:
    """Node selector terms, any of which will do: for each label the values that the class's nodes have."""
    values: dict[str, set[str]] = {}
    for term in chosen.terms:
        values.setdefault(term.key, set()).add(term.value)
    return [
        {"matchExpressions": [{"key": key, "operator": "In", "values": sorted(wanted)}]}
        for key, wanted in sorted(values.items())
    ]
