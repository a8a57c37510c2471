"""End-to-end tests run in a real cluster; `frostcluster` starts one, or takes the one it is given."""

import sys
from pathlib import Path

import pytest

# The package lies beside these tests and is not installed with the product
sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from frostcluster.fixtures import cluster, own_cluster, python_runtime, workloads

__all__ = ["cluster", "own_cluster", "python_runtime", "workloads"]

# The first test of a session starts the cluster, and on a machine that is new to it builds it.
_SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give end-to-end tests the time to build the cluster, unless they say themselves how long they may take."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_SECONDS))
