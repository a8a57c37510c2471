"""End-to-end tests run in a real cluster; `frostcluster` starts one, or takes the one it is given."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from frostcluster.client import Client
from frostcluster.cluster import Cluster
from frostcluster.fixtures import cluster, own_cluster, python_runtime, workloads
from frostcluster.workloads import Workloads
from tests.e2e.operating import ROOT, SETTINGS, THREADS, OperatorProcess, Studies, settings_here

__all__ = ["cluster", "own_cluster", "python_runtime", "workloads"]

# The first test of a session starts the cluster, and on a machine that is new to it builds it.
_SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give end-to-end tests the time to build the cluster, unless they say themselves how long they may take."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_SECONDS))


@pytest.fixture(scope="session")
def crds(cluster: Client) -> Client:
    """Return the cluster with Frostline's custom resources in it."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(ROOT / "crds"))
    for kind in ("hpostudies", "hpotrials"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{kind}.hpo.frostline.dev", "--timeout=30s")
    return cluster


@pytest.fixture(scope="session")
def checkpoints(cluster: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of this machine that all pods have at /checkpoints."""
    if not isinstance(cluster, Cluster):
        return Path("/unused")
    folder = tmp_path_factory.mktemp("checkpoints")
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="session")
def operator_settings(cluster: Client, checkpoints: Path) -> dict[str, object]:
    """Return the settings of an operator whose trainers run this very environment, one thread each."""
    if not isinstance(cluster, Cluster):
        image, where = os.environ.get("FROSTLINE_E2E_IMAGE"), os.environ.get("FROSTLINE_E2E_CHECKPOINTS")
        if not image or not where:
            pytest.skip("a cluster elsewhere needs FROSTLINE_E2E_IMAGE and FROSTLINE_E2E_CHECKPOINTS (a URL)")
        container = {"name": "trainer", "env": THREADS}
        return {**SETTINGS, "image": image, "checkpoints": where, "template": {"spec": {"containers": [container]}}}
    return settings_here(checkpoints)


@pytest.fixture(scope="session")
def operator(
    crds: Client, operator_settings: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """Have an operator beside the cluster, for all tests of the session."""
    folder = tmp_path_factory.mktemp("operator")
    settings = folder / "settings.yaml"
    settings.write_text(json.dumps(operator_settings))
    process = OperatorProcess(crds, settings, folder)
    process.start()
    yield process
    if process.running:
        process.stop()


@pytest.fixture
def no_operator(operator: OperatorProcess) -> None:
    """Stop the session's operator, for a test that has one of its own; the next test that needs it starts it again."""
    if operator.running:
        operator.stop()


@pytest.fixture
def studies(operator: OperatorProcess, workloads: Workloads) -> Iterator[Studies]:
    """Have a fresh namespace for studies, and an operator that looks after them; studies go before the namespace."""
    if not operator.running:
        operator.start()
    yield Studies(workloads)
    # Their checkpoints go with the test's folder; a pod for each would only take time
    workloads.kubectl("annotate", "hpostudies", "--all", "--overwrite", "hpo.frostline.dev/keep-checkpoints=true")
    workloads.kubectl("delete", "hpostudies", "--all", "--timeout=90s")
