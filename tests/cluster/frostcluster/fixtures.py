"""pytest fixtures: one cluster for all tests of a session, and a namespace in it for each test.

FROSTLINE_E2E_KUBECONFIG   run the tests in that cluster instead of starting one; nothing of it but the tests' own
                           namespaces is touched, and tests that stop parts of the cluster are skipped
FROSTLINE_E2E_IMAGE        with it: an image with Python (and Frostline's trainer) that its nodes can pull
FROSTLINE_REQUIRE_E2E=1    a machine that cannot run the cluster is a failure, not a reason to skip; and what is not
                           built yet is built
"""

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from frostcluster import build
from frostcluster.client import Client
from frostcluster.cluster import Cluster, elsewhere, running
from frostcluster.errors import MissingRequirement
from frostcluster.requirements import require_platform
from frostcluster.runtime import PythonRuntime, python_runtime_mounts
from frostcluster.workloads import Workloads

__all__ = ["cluster", "own_cluster", "python_runtime", "workloads"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Client]:
    """Any cluster: the given one, or else one of our own with two nodes of two GPUs each, 8 and 24 GiB."""
    given = os.environ.get("FROSTLINE_E2E_KUBECONFIG")
    name = f"e2e-{os.getpid()}"
    if given:
        with elsewhere(Path(given), name) as client:
            yield client
        return
    with ExitStack() as stack:
        try:
            require_platform()
            if not _required() and not all(map(build.is_built, build.CORE_NAMES)):
                raise MissingRequirement("the test cluster is not built: run `make cluster`")
            started = stack.enter_context(running(name))
        except MissingRequirement as missing:
            _give_up(str(missing))
        yield started


@pytest.fixture(scope="session")
def own_cluster(cluster: Client) -> Cluster:
    """Return a cluster of our own, whose parts a test may stop, crash and start again."""
    if not isinstance(cluster, Cluster):
        pytest.skip("it stops parts of the cluster, and this one is not ours")
    return cluster


@pytest.fixture(scope="session")
def python_runtime(cluster: Client) -> PythonRuntime:
    """Return what pods need to run Python: this very environment's, or that of the image that was given."""
    if isinstance(cluster, Cluster):
        return python_runtime_mounts(Path(sys.prefix))
    image = os.environ.get("FROSTLINE_E2E_IMAGE")
    if not image:
        pytest.skip("a cluster elsewhere needs an image with Python: set FROSTLINE_E2E_IMAGE")
    tmp = [{"name": "tmp", "mountPath": "/tmp"}]
    return PythonRuntime("python3", image, volumes=[{"name": "tmp", "emptyDir": {}}], mounts=tmp, env=[])


@pytest.fixture
def workloads(cluster: Client, python_runtime: PythonRuntime) -> Iterator[Workloads]:
    """Have a fresh namespace to run Python workloads in."""
    fresh = Workloads(cluster, f"test-{uuid.uuid4().hex[:8]}", python_runtime)
    fresh.create()
    yield fresh
    fresh.delete()


def _required() -> bool:
    return os.environ.get("FROSTLINE_REQUIRE_E2E", "") not in ("", "0")


def _give_up(reason: str) -> NoReturn:
    if _required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
