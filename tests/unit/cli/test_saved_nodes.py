"""`frostline plan --nodes`: the classes of a saved list of nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline_operator.cli.plan import _devices
from frostline_operator.engine.state import MemoryClass
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.local.devices import DeclarationError, classes
from tests.unit.engine.world import study

NODE = """
- apiVersion: v1
  kind: Node
  metadata:
    name: {name}
    labels: {{nvidia.com/gpu.memory: "{memory}", nvidia.com/gpu.product: Some-GPU, nvidia.com/gpu.count: "2"}}
  status:
    allocatable: {{nvidia.com/gpu: "2"}}
    conditions: [{{type: Ready, status: "True"}}]
"""


def test_nodes_of_equal_memory_are_one_class(tmp_path: Path) -> None:
    nodes = "".join(NODE.format(name=name, memory=memory) for name, memory in [("a", 8192), ("b", 8192), ("c", 24576)])
    path = tmp_path / "nodes.yaml"
    path.write_text("apiVersion: v1\nkind: List\nitems:" + nodes, encoding="utf-8")
    found = classes(_devices(study(), [], [], path, None, OperatorSettings()))
    gib = 2**30
    assert [(c.slots, c.usable_bytes) for c in found] == [(4, int(0.97 * 8 * gib - gib)), (2, int(0.9 * 24 * gib))]
    assert all(isinstance(c, MemoryClass) for c in found)


@pytest.mark.parametrize("text", ["", "just: text", "- a list", "kind: List\nitems: 3"])
def test_a_file_that_is_no_list_of_nodes_says_how_to_write_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DeclarationError, match="kubectl get nodes -o yaml"):
        _devices(study(), [], [], path, None, OperatorSettings())
