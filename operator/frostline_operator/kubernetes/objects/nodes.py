"""From node objects to GPUs and their memory: pure look-ups, in an order that prefers what is known best.

1. the label `hpo.frostline.dev/usable-gpu-memory`, which a person sets;
2. the memory that a DRA driver publishes in ResourceSlices;
3. `nvidia.com/gpu.memory` of GPU feature discovery: MiB per GPU, divided by the replicas where MPS shares it;
4. the same label of a MIG profile; 5. `amd.com/gpu.vram`; 6. Karpenter's; 7. a table of products.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frostline_operator.api.quantity import parse_bytes
from frostline_operator.engine.placement import usable_memory
from frostline_operator.kubernetes.objects import names

MIB = 2**20
GIB = 2**30

NVIDIA = "nvidia.com/gpu"
AMD = "amd.com/gpu"
_MIG = re.compile(r"^nvidia\.com/(mig-[a-z0-9.]+)$")
_SHARING = f"{NVIDIA}.sharing-strategy"
_REPLICAS = f"{NVIDIA}.replicas"
_KARPENTER = "karpenter.k8s.aws/instance-gpu-memory"

PRODUCTS = {
    "H200": 141, "H100-NVL": 94, "H100": 80, "A100-SXM4-80GB": 80, "A100-PCIE-80GB": 80, "A100-80GB": 80, "A100": 40,
    "L40S": 48, "L40": 48, "L4": 24, "A40": 48, "A30": 24, "A10G": 24, "A10": 24, "A16": 16, "A2": 16, "T4": 16,
    "V100-SXM2-32GB": 32, "V100": 16, "P100": 16, "P40": 24, "RTX-6000-Ada": 48, "RTX-A6000": 48, "RTX-A5000": 24,
    "RTX-A4000": 16, "RTX-5090": 32, "RTX-4090": 24, "RTX-4080": 16, "RTX-3090": 24, "RTX-3080": 10, "RTX-3070": 8,
}  # fmt: skip
"""GiB by the end of a product's name, longer names first; the last resort."""


@dataclass(frozen=True)
class Term:
    """A label that a node must have: how a Job asks for it."""

    key: str
    value: str


@dataclass(frozen=True)
class Devices:
    """The alike GPUs of one node."""

    node: str
    resource: str
    """Name of the extended resource."""
    count: int
    total_bytes: int
    usable_bytes: int
    term: Term
    declared: bool = False
    """Whether a person or a sharing scheme says what may be used, so that the trainer must keep to it by itself."""


@dataclass(frozen=True)
class Skipped:
    """A node with GPUs that cannot be used, and what would help."""

    node: str
    reason: str


def devices(
    node: Mapping[str, Any], time_slicing: bool = False, published: int | None = None
) -> tuple[list[Devices], Skipped | None]:
    """The GPUs of a node, or why its GPUs are left out.

    Args:
        node: as the API server has it.
        time_slicing: use GPUs that are shared in time.
        published: bytes per GPU from the node's ResourceSlices.
    """
    metadata, status = node["metadata"], node.get("status", {})
    name, labels = str(metadata["name"]), metadata.get("labels") or {}
    amounts = status.get("allocatable") or {}
    usable: list[Devices] = []
    for resource in sorted(amounts):
        mig = _MIG.match(resource)
        if resource not in (NVIDIA, AMD) and mig is None:
            continue
        count = int(amounts[resource])
        if count <= 0:
            continue
        if _sliced(labels, resource) and not time_slicing:
            return [], Skipped(name, f"{name} shares its GPUs by time-slicing; allow it with timeSlicing: true")
        one = _of(name, labels, resource, count, published)
        if one is None:
            text = f"the GPU memory of {name} is not known; label the node {names.USABLE_MEMORY}=<such as 20Gi>"
            return [], Skipped(name, text)
        usable.append(one)
    return usable, None


def _of(name: str, labels: Mapping[str, str], resource: str, count: int, published: int | None) -> Devices | None:
    override = labels.get(names.USABLE_MEMORY)
    if override is not None:
        try:
            amount = parse_bytes(override)
        except ValueError:
            return None
        return Devices(name, resource, count, amount, amount, Term(names.USABLE_MEMORY, override), True)
    if published is not None:
        return Devices(name, resource, count, published, usable_memory(published), Term("kubernetes.io/hostname", name))
    mig = _MIG.match(resource)
    if mig is not None:
        key = f"nvidia.com/{mig[1]}.memory"
        return _by_label(name, labels, resource, count, key, 1)
    if resource == AMD:
        key = f"{AMD}.vram"
        if key not in labels:
            return None
        total = _amd_bytes(labels[key])
        return (
            None
            if total is None
            else Devices(name, resource, count, total, usable_memory(total), Term(key, labels[key]))
        )
    if f"{NVIDIA}.memory" in labels:
        shared = int(labels.get(_REPLICAS, "1")) if labels.get(_SHARING) == "mps" else 1
        return _by_label(name, labels, resource, count, f"{NVIDIA}.memory", shared)
    if _KARPENTER in labels:
        return _by_label(name, labels, resource, count, _KARPENTER, 1)
    product = labels.get(f"{NVIDIA}.product", "")
    gib = next((PRODUCTS[p] for p in sorted(PRODUCTS, key=len, reverse=True) if p in product), None)
    if gib is None:
        return None
    total = gib * GIB
    return Devices(name, resource, count, total, usable_memory(total), Term(f"{NVIDIA}.product", product))


def _by_label(name: str, labels: Mapping[str, str], resource: str, count: int, key: str, shared: int) -> Devices | None:
    text = labels.get(key, "")
    if not text.isdecimal() or int(text) == 0:
        return None
    total = int(text) * MIB // max(1, shared)
    return Devices(name, resource, count, total, usable_memory(total), Term(key, text), shared > 1)


def _amd_bytes(text: str) -> int | None:
    """`192G` means GiB here."""
    match = re.match(r"^([0-9]+)(G|M)?i?B?$", text)
    if match is None:
        return None
    return int(match[1]) * (MIB if match[2] == "M" else GIB)


def _sliced(labels: Mapping[str, str], resource: str) -> bool:
    if not resource.startswith("nvidia.com/") or int(labels.get(_REPLICAS, "1") or 1) <= 1:
        return False
    return labels.get(_SHARING, "time-slicing") == "time-slicing"


def published_memory(slices: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes per GPU by node, from ResourceSlices; where a node's devices differ, the smallest."""
    smallest: dict[str, int] = {}
    for item in slices:
        spec = item.get("spec", {})
        node = spec.get("nodeName")
        for device in spec.get("devices") or []:
            amount = (device.get("capacity") or {}).get("memory", {}).get("value")
            if node is None or amount is None:
                continue
            try:
                size = parse_bytes(str(amount))
            except ValueError:
                continue
            smallest[node] = min(size, smallest.get(node, size))
    return smallest


def available(node: Mapping[str, Any], tolerations: Sequence[Mapping[str, Any]], selector: Mapping[str, str]) -> bool:
    """Whether a pod with these tolerations and node selector could be scheduled to the node at all."""
    spec, labels = node.get("spec", {}), node["metadata"].get("labels") or {}
    if spec.get("unschedulable") or not is_ready(node):
        return False
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    hard = [taint for taint in spec.get("taints") or [] if taint.get("effect") in ("NoSchedule", "NoExecute")]
    return all(any(_tolerates(toleration, taint) for toleration in tolerations) for taint in hard)


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether the node's kubelet reports, and says that all is well."""
    conditions = node.get("status", {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint.get("key"))
    return toleration.get("key") == taint.get("key") and (toleration.get("value") or "") == (taint.get("value") or "")
