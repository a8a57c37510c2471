"""Hundreds of nodes and thousands of trials: kwok's nodes, and trainers that only write their results.

FROSTLINE_SCALE=full runs 500 nodes, 20 studies and 2,000 trials, and prints the figures.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from frostcluster import build
from frostcluster.client import Client
from frostcluster.node import NodeSpec
from frostcluster.workloads import Workloads
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.operating import OperatorProcess, Studies, small

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.profiling import profile_document
from frostline_operator.kubernetes.client.api import PODS, Api, ApiError
from frostline_operator.kubernetes.profiler import profile_key
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_trainer.contract import ExitCode, RunResult, RunSpec, TrialResult

FULL = os.environ.get("FROSTLINE_SCALE") == "full"
NODES, STUDIES, TRIALS = (500, 20, 100) if FULL else (100, 5, 40)
TICK = "frostline_operator_tick"
MEMORY_MIB = (8192, 16384, 24576, 40960, 81920)
ALONE = {"cleanupSeconds": 0}
"""A pod that cleans up would wait on a fake node for ever."""
FAKE = {"key": "frostline.test/fake", "value": "yes", "effect": "NoSchedule"}


class FakeTrainers:
    """Ends every pod on a fake node with the result that a trainer would have written."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._stopped = threading.Event()
        self._done: set[str] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.runs = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(10)

    def _run(self) -> None:
        selector = "hpo.frostline.dev/component=trainer"
        while not self._stopped.wait(0.2):
            try:
                pods, _ = self._api.list(PODS, self._namespace, selector, "status.phase=Running")
                for pod in pods:
                    if pod["metadata"]["uid"] not in self._done:
                        self._end(pod)
            except ApiError:
                time.sleep(1)

    def _end(self, pod: dict[str, Any]) -> None:
        [container] = pod["spec"]["containers"]
        text = next(variable["value"] for variable in container["env"] if variable["name"] == "FROSTLINE_RUN")
        spec = RunSpec.model_validate_json(text)
        lr = [float(trial.hyperparameters["lr"]) for trial in spec.trials]
        result = RunResult(
            run=spec.run, layers=spec.layers, exit_code=ExitCode.DONE, seconds=5, train_seconds=4,
            trials=[
                TrialResult(name=trial.name, reason="Completed", objective=abs(value - 0.01) + 1 / spec.tokens,
                            tokens=spec.tokens, checkpoint=f"{trial.name}/{spec.rung}")
                for trial, value in zip(spec.trials, lr, strict=True)
            ],
        )  # fmt: skip
        at = pod["metadata"]["creationTimestamp"]
        ended = {"exitCode": 0, "reason": "Completed", "message": result.to_json(), "startedAt": at, "finishedAt": at}
        status = {
            "phase": "Succeeded",
            "containerStatuses": [
                {"name": "trainer", "image": "x", "imageID": "", "ready": False, "restartCount": 0,
                 "state": {"terminated": ended}}
            ],
        }  # fmt: skip
        self._api.patch(PODS, self._namespace, pod["metadata"]["name"], {"status": status}, part="status")
        self._done.add(pod["metadata"]["uid"])
        self.runs += 1


@pytest.fixture
def fake_fleet(crds: Client, tmp_path: Path) -> Iterator[Client]:
    """Have many nodes of five memory classes, none of which runs anything."""
    if not build.is_built("kwok"):
        pytest.skip("kwok is not built: python -m frostcluster build kwok")
    folder = build.program("kwok").parent / "stages" / "pod" / "fast"
    # Not the stage that lets Jobs' pods end by themselves: they would end without a result
    kwok = crds.kwok([folder / "pod-ready.yaml", folder / "pod-delete.yaml"])
    for mebibytes in MEMORY_MIB:
        spec = NodeSpec(f"fake-{mebibytes // 1024}gi", gpus=1, gpu_memory_mib=mebibytes, gpu_product="Fake")
        kwok.add_nodes(NODES // len(MEMORY_MIB), spec, taints=[FAKE])
    yield crds
    kwok.remove_nodes()
    kwok.stop()


def study(seed: int) -> dict[str, Any]:
    return small(
        search={"trials": TRIALS, "seed": seed, "parallelism": 25, "maxTrialsPerRun": 4},
        template={
            "spec": {
                "tolerations": [{"key": FAKE["key"], "operator": "Exists"}],
                "nodeSelector": {"frostline.test/fake-node": "true"},
            }
        },
    )


def metrics(text: str) -> dict[str, float]:
    return {
        sample.name + json.dumps(sample.labels) if sample.labels else sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def by_kind(text: str) -> dict[tuple[str, str], int]:
    """Requests by verb and resource, most first."""
    counts: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "frostline_operator_api_requests_total":
                counts[(sample.labels["verb"], sample.labels["resource"])] += int(sample.value)
    return dict(counts.most_common())


class Pace:
    """What ticks take by themselves, the API server's part left out, while more and more trials have ended."""

    def __init__(self, operator: OperatorProcess) -> None:
        self._operator = operator
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._points: list[tuple[float, float]] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[float]:
        """Mean milliseconds of a tick in each sixth of the time."""
        self._stopped.set()
        self._thread.join()
        edges = [self._points[len(self._points) * part // 6] for part in range(6)] + [self._points[-1]]
        return [
            round(1000 * (after[1] - before[1]) / max(1, after[0] - before[0]), 1)
            for before, after in itertools.pairwise(edges)
        ]

    def _run(self) -> None:
        while not self._stopped.wait(1):
            seen = metrics(self._operator.get("/metrics"))
            own = seen[f"{TICK}_seconds_sum"] - seen[f"{TICK}_api_seconds_sum"]
            self._points.append((seen[f"{TICK}_seconds_count"], own))


def quantile(values: dict[str, float], histogram: str, share: float) -> float:
    """Upper bound of the bucket that holds the quantile."""
    name = f"{histogram}_bucket"
    buckets = sorted(
        (float(json.loads(key.removeprefix(name))["le"].replace("+Inf", "inf")), count)
        for key, count in values.items()
        if key.startswith(name)
    )
    return next(bound for bound, count in buckets if count >= share * buckets[-1][1])


@pytest.mark.long
def test_many_nodes_studies_and_trials(
    fake_fleet: Client,
    no_operator: None,
    operator_settings: dict[str, object],
    workloads: Workloads,
    tmp_path: Path,
) -> None:
    settings_file = tmp_path / "settings.yaml"
    settings_file.write_text(json.dumps({**operator_settings, **ALONE, "namespaces": [workloads.namespace]}))
    operator = OperatorProcess(fake_fleet, settings_file, tmp_path)
    api = Api.connect(str(fake_fleet.kubeconfig))
    studies = Studies(workloads)
    keep_profile(studies, OperatorSettings.model_validate(operator_settings), study(0))
    trainers = FakeTrainers(api, workloads.namespace)
    operator.start()
    trainers.start()
    pace = Pace(operator)
    began = time.monotonic()
    try:
        for number in range(STUDIES):
            studies.apply(f"s{number}", study(number))
        pace.start()
        for number in range(STUDIES):
            studies.complete(f"s{number}", 1200)
        seconds = time.monotonic() - began
        own = pace.stop()
        operator_said = operator.get("/metrics")
        seen = metrics(operator_said)
        memory = int(next(line.split()[1] for line in Path(f"/proc/{operator.pid}/status").read_text().splitlines()
                          if line.startswith("VmRSS")))  # fmt: skip
        sizes = [len(json.dumps(studies.status(f"s{number}"))) for number in range(STUDIES)]
    finally:
        trainers.stop()
        workloads.kubectl("delete", "hpostudies", "--all", "--timeout=300s")
        operator.stop()
    runs = trainers.runs
    figures = {
        "nodes": NODES, "studies": STUDIES, "trials": STUDIES * TRIALS, "runs": runs, "seconds": round(seconds, 1),
        "API requests per run": round(sum(by_kind(operator_said).values()) / runs, 1),
        "requests": {f"{verb} {resource}": count for (verb, resource), count in by_kind(operator_said).items()},
        "ticks": int(seen[f"{TICK}_seconds_count"]),
        "p95 tick seconds at most": quantile(seen, f"{TICK}_seconds", 0.95),
        "p95 of it waiting for the API server": quantile(seen, f"{TICK}_api_seconds", 0.95),
        "own milliseconds per tick, by sixths of the time": own,
        "operator MiB": round(memory / 1024),
        "largest status bytes": max(sizes),
    }  # fmt: skip
    print(json.dumps(figures))
    assert runs >= STUDIES * TRIALS / 4
    assert seen.get("frostline_operator_tick_failures_total", 0) == 0
    assert sum(by_kind(operator_said).values()) / runs < 15
    # Seconds depend on the machine; that more ended trials cost no more does not
    assert own[-1] < 2 * max(own[:2]) + 10
    assert max(sizes) < 64 * 1024
    assert memory / 1024 < 500


def keep_profile(studies: Studies, settings: OperatorSettings, spec: dict[str, Any]) -> None:
    """Put the model's profile where the operator keeps it: no trainer could compute it on a fake node."""
    parsed = HPOStudySpec.model_validate(spec)
    document = profile_document(parsed)
    command = [sys.executable, "-m", "frostline_trainer", "profile", document, "--memory", settings.memory]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]
    name = f"frostline-profile-{profile_key(document, settings.memory, settings, parsed)}"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"profile.json": out}}
    studies.workloads.apply(body)
