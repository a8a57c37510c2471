"""Several operators beside one cluster: one acts, the others stand by, and the next one is there in seconds."""

import json
import signal
import time
from collections.abc import Iterator
from os import kill
from pathlib import Path
from typing import Any

import pytest
from frostcluster.workloads import Workloads
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.operating import OperatorProcess, Studies, small

SECONDS = 4
SPEC = small(search={"trials": 2, "parallelism": 1}, fidelity={"samples": {"min": 2000, "max": 4000}})
"""Two rungs, one run at a time."""


@pytest.fixture
def pair(
    operator: OperatorProcess, operator_settings: dict[str, Any], workloads: Workloads, tmp_path: Path
) -> Iterator[list[OperatorProcess]]:
    """Have two operators that share a Lease; that of the other tests, which has none, does not run meanwhile."""
    if operator.running:
        operator.stop()
    lease = {"name": "shared", "namespace": workloads.namespace, "seconds": SECONDS}
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps({**operator_settings, "namespaces": [workloads.namespace], "lease": lease}))
    both = []
    for name in "ab":
        (tmp_path / name).mkdir()
        both.append(OperatorProcess(workloads.client, settings, tmp_path / name))
    yield both
    if any(each.running for each in both):
        workloads.kubectl("delete", "hpostudies", "--all", "--timeout=90s")
    for each in both:
        if each.running:
            each.stop()


def written(process: OperatorProcess) -> int:
    """How much an operator has written so far, by its own metrics."""
    samples = (s for family in text_string_to_metric_families(process.get("/metrics")) for s in family.samples)
    return int(
        sum(
            s.value
            for s in samples
            if s.name == "frostline_operator_api_requests_total" and s.labels["verb"] not in ("get", "list", "watch")
        )
    )


def stand_by(process: OperatorProcess) -> None:
    process.start(wait=False)
    process.client.wait("it stands by", lambda: b"standing by" in process.log.read_bytes(), 60)
    process.port = int(process.log.read_bytes().split(b"port ")[1].split()[0])


def acts(process: OperatorProcess) -> bool:
    return b"looking after" in process.log.read_bytes()


def test_the_second_takes_over_within_seconds_of_the_firsts_death(
    pair: list[OperatorProcess], workloads: Workloads
) -> None:
    first, second = pair
    studies = Studies(workloads)
    first.start()
    stand_by(second)
    studies.apply("handed-over", SPEC)
    studies.until("handed-over", "a run", lambda: bool(studies.running("handed-over")))
    assert written(first) > 0 and written(second) == 0
    assert "200" not in second.get("/healthz")  # it answers: it is healthy, though it does nothing

    died = time.monotonic()
    first.kill()
    second.client.wait("the second acts", lambda: acts(second), 60)
    took = time.monotonic() - died

    assert took < SECONDS + 6, took  # its length, a look each tenth of it, and the first lists
    status = studies.complete("handed-over")
    assert status["reason"] == "Completed"
    assert set(studies.times_finished("handed-over").values()) == {1}


def test_one_that_was_frozen_writes_nothing_once_it_wakes_up_and_one_that_stops_hands_over_at_once(
    pair: list[OperatorProcess], workloads: Workloads
) -> None:
    first, second = pair
    studies = Studies(workloads)
    first.start()
    stand_by(second)
    studies.apply("frozen", SPEC)
    studies.until("frozen", "a run", lambda: bool(studies.running("frozen")))
    kill(first.pid, signal.SIGSTOP)
    second.client.wait("the second acts", lambda: acts(second), 60)
    size = first.log.stat().st_size

    kill(first.pid, signal.SIGCONT)

    second.client.wait("the first ends", lambda: not first.running, SECONDS + 10)
    assert b"the lease is held by" in first.log.read_bytes()[size:]
    assert studies.complete("frozen")["reason"] == "Completed"
    # Told to stop, it hands over at once: well before the Lease has run out
    first.log.write_bytes(b"")
    stand_by(first)
    assert second.stop() == 0
    stopped = time.monotonic()
    first.client.wait("the first acts again", lambda: acts(first), 60)
    assert time.monotonic() - stopped < SECONDS
