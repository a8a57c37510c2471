"""Memory of GPUs from what nodes say, in the order of trust, and the classes it comes to."""

from typing import Any

import pytest

from frostline_operator.engine.placement import usable_memory
from frostline_operator.kubernetes.objects import nodes
from frostline_operator.kubernetes.objects.classes import affinity_terms, cpu_class, memory_classes
from frostline_operator.kubernetes.objects.nodes import GIB, MIB, Devices, Term, devices, published_memory


def node(labels: dict[str, str] | None = None, ready: bool = True, **parts: Any) -> dict[str, Any]:
    amounts = parts.pop("allocatable", {"nvidia.com/gpu": "2"})
    return {
        "metadata": {"name": parts.pop("name", "n"), "labels": labels or {}},
        "spec": parts,
        "status": {
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        },
    }


@pytest.mark.parametrize(
    ("labels", "allocatable", "published", "total", "key"),
    [
        ({"nvidia.com/gpu.memory": "24576"}, None, None, 24 * GIB, "nvidia.com/gpu.memory"),
        ({"nvidia.com/gpu.memory": "24576"}, None, 20 * GIB, 20 * GIB, "kubernetes.io/hostname"),
        (
            {"nvidia.com/gpu.memory": "24576", "hpo.frostline.dev/usable-gpu-memory": "7Gi"},
            None, 20 * GIB, 7 * GIB, "hpo.frostline.dev/usable-gpu-memory",
        ),
        (
            {"nvidia.com/gpu.memory": "24576", "nvidia.com/gpu.replicas": "4",
             "nvidia.com/gpu.sharing-strategy": "mps"},
            None, None, 6 * GIB, "nvidia.com/gpu.memory",
        ),
        (
            {"nvidia.com/mig-1g.10gb.memory": "9856"}, {"nvidia.com/mig-1g.10gb": "7"}, None, 9856 * MIB,
            "nvidia.com/mig-1g.10gb.memory",
        ),
        ({"amd.com/gpu.vram": "192G"}, {"amd.com/gpu": "8"}, None, 192 * GIB, "amd.com/gpu.vram"),
        (
            {"karpenter.k8s.aws/instance-gpu-memory": "15360"}, None, None, 15360 * MIB,
            "karpenter.k8s.aws/instance-gpu-memory",
        ),
        ({"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}, None, None, 80 * GIB, "nvidia.com/gpu.product"),
        ({"nvidia.com/gpu.product": "Tesla-T4"}, None, None, 16 * GIB, "nvidia.com/gpu.product"),
    ],
)  # fmt: skip
def test_the_best_known_source_counts(
    labels: dict[str, str], allocatable: dict[str, str] | None, published: int | None, total: int, key: str
) -> None:
    made = node(labels) if allocatable is None else node(labels, allocatable=allocatable)
    [found], skipped = devices(made, published=published)
    assert skipped is None
    assert (found.total_bytes, found.term.key) == (total, key)
    override = key == "hpo.frostline.dev/usable-gpu-memory"
    assert found.usable_bytes == (total if override else usable_memory(total))


def test_time_slicing_is_refused_unless_asked_for() -> None:
    shared = node({"nvidia.com/gpu.memory": "8192", "nvidia.com/gpu.replicas": "4"})
    found, skipped = devices(shared)
    assert found == [] and skipped is not None and "timeSlicing: true" in skipped.reason
    found, skipped = devices(shared, time_slicing=True)
    assert [d.total_bytes for d in found] == [8 * GIB] and skipped is None


def test_unknown_memory_is_left_out_with_a_remedy() -> None:
    found, skipped = devices(node({"nvidia.com/gpu.product": "Unheard-Of"}))
    assert found == [] and skipped is not None
    assert "hpo.frostline.dev/usable-gpu-memory" in skipped.reason


def test_a_node_without_gpus_is_nothing_special() -> None:
    assert devices(node(allocatable={"cpu": "8"})) == ([], None)
    assert devices(node({"nvidia.com/gpu.memory": "8192"}, allocatable={"nvidia.com/gpu": "0"})) == ([], None)


def test_usable_memory() -> None:
    assert usable_memory(80 * GIB) == int(0.90 * 80 * GIB)
    assert usable_memory(8 * GIB) == int(0.97 * 8 * GIB - GIB)


@pytest.mark.parametrize(
    ("made", "tolerations", "selector", "expected"),
    [
        (node(), [], {}, True),
        (node(ready=False), [], {}, False),
        (node(unschedulable=True), [], {}, False),
        (node({"zone": "a"}), [], {"zone": "a"}, True),
        (node({"zone": "a"}), [], {"zone": "b"}, False),
        (node(taints=[{"key": "gpu", "effect": "NoSchedule"}]), [], {}, False),
        (node(taints=[{"key": "gpu", "effect": "NoSchedule"}]), [{"key": "gpu", "operator": "Exists"}], {}, True),
        (node(taints=[{"key": "gpu", "value": "a", "effect": "NoSchedule"}]),
         [{"key": "gpu", "value": "b"}], {}, False),
        (node(taints=[{"key": "gpu", "effect": "PreferNoSchedule"}]), [], {}, True),
        (node(taints=[{"key": "x", "effect": "NoExecute"}]), [{"operator": "Exists"}], {}, True),
        (node(taints=[{"key": "x", "effect": "NoExecute"}]),
         [{"key": "x", "operator": "Exists", "effect": "NoSchedule"}], {}, False),
    ],
)  # fmt: skip
def test_nodes_that_a_pod_could_go_to(
    made: dict[str, Any], tolerations: list[dict[str, str]], selector: dict[str, str], expected: bool
) -> None:
    assert nodes.available(made, tolerations, selector) is expected


def test_published_memory_is_the_smallest_of_a_nodes_devices() -> None:
    def device(amount: str) -> dict[str, Any]:
        return {"name": "gpu", "capacity": {"memory": {"value": amount}}}

    slices = [
        {"spec": {"nodeName": "a", "devices": [device("80Gi"), device("40Gi")]}},
        {"spec": {"nodeName": "b", "devices": [device("odd"), {"name": "nic"}]}},
    ]
    assert published_memory(slices) == {"a": 40 * GIB}


def of(name: str, mebibytes: int, count: int = 1, resource: str = "nvidia.com/gpu") -> Devices:
    total = mebibytes * MIB
    return Devices(name, resource, count, total, usable_memory(total), Term("nvidia.com/gpu.memory", str(mebibytes)))


def test_cards_of_one_nominal_size_are_one_class() -> None:
    classes = memory_classes([of("a", 24576, 2), of("b", 24564, 4), of("c", 8192)])
    assert set(classes) == {"24Gi", "8Gi"}
    large = classes["24Gi"]
    assert large.total == 6
    assert large.usable_bytes == usable_memory(24564 * MIB)
    assert affinity_terms(large) == [
        {"matchExpressions": [{"key": "nvidia.com/gpu.memory", "operator": "In", "values": ["24564", "24576"]}]}
    ]


def test_other_resources_are_other_classes_and_an_override_is_declared() -> None:
    classes = memory_classes([of("a", 10240), of("a", 10240, 7, "nvidia.com/mig-1g.10gb")], usable=5 * GIB)
    assert set(classes) == {"10Gi", "10Gi-mig-1g.10gb"}
    assert all(c.usable_bytes == 5 * GIB and c.declared for c in classes.values())


def test_cpu_slots() -> None:
    [found] = cpu_class(3).values()
    assert (found.total, found.usable_bytes, found.resource, affinity_terms(found)) == (3, None, None, [])
