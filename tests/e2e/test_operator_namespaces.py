"""One operator that watches two namespaces: each study's objects stay in its own."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from frostcluster.client import Client
from frostcluster.workloads import Workloads
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.operating import OperatorProcess, Studies, small

LONG = small(search={"trials": 2, "parallelism": 1}, fidelity={"samples": {"min": 20000, "max": 40000}})


@pytest.fixture
def neighbours(workloads: Workloads) -> Iterator[tuple[Studies, Studies]]:
    """Have studies in two namespaces, the second of which comes later in the operator's settings."""
    other = Workloads(workloads.client, f"{workloads.namespace}-b", workloads.runtime)
    other.create()
    yield Studies(workloads), Studies(other)
    other.delete()


@pytest.fixture
def watching_both(
    neighbours: tuple[Studies, Studies],
    crds: Client,
    no_operator: None,
    operator_settings: dict[str, Any],
    tmp_path: Path,
) -> Iterator[OperatorProcess]:
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps({**operator_settings, "namespaces": [s.namespace for s in neighbours]}))
    process = OperatorProcess(crds, settings, tmp_path)
    process.start()
    yield process
    for studies in neighbours:
        studies.workloads.kubectl("delete", "hpostudies", "--all", "--timeout=90s")
    process.stop()


def jobs_deleted(process: OperatorProcess) -> int:
    """How often the operator has asked for a Job's deletion."""
    samples = (s for family in text_string_to_metric_families(process.get("/metrics")) for s in family.samples)
    wanted = {"verb": "delete", "resource": "jobs"}
    name = "frostline_operator_api_requests_total"
    return int(sum(s.value for s in samples if s.name == name and wanted.items() <= s.labels.items()))


def test_studies_in_two_watched_namespaces_end_as_one_alone_and_their_jobs_are_left_in_peace(
    neighbours: tuple[Studies, Studies], watching_both: OperatorProcess
) -> None:
    first, second = neighbours
    for studies in neighbours:
        studies.apply("twin", LONG)
    second.until("twin", "a run", lambda: bool(second.running("twin")))
    second.patch("twin", {"suspend": True})  # its Job is deleted, and its pod writes a checkpoint
    second.until("twin", "no Jobs that go on", lambda: not second.running("twin"), 60)
    second.patch("twin", {"suspend": False})
    for studies in neighbours:
        studies.complete("twin")
    assert first.results("twin") == second.results("twin")
    assert {job["metadata"]["namespace"] for job in second.jobs("twin")} == {second.namespace}

    def at_rest() -> bool:
        before = jobs_deleted(watching_both)
        time.sleep(5)
        return jobs_deleted(watching_both) == before

    first.client.wait("no Job is deleted any more once checkpoints are swept", at_rest, 40)
