"""Running Frostline's operator beside a cluster, and studies with it, as a person would."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frostcluster.client import Client, condition_status
from frostcluster.errors import ClusterError
from frostcluster.runtime import python_runtime_mounts
from frostcluster.workloads import Workloads

ROOT = Path(__file__).parents[2]
Manifest = dict[str, Any]

THREADS = [{"name": "OMP_NUM_THREADS", "value": "1"}, {"name": "MKL_NUM_THREADS", "value": "1"}]
SETTINGS: Manifest = {
    "tickSeconds": 1.0, "graceSeconds": 20, "keepJobsSeconds": 600, "memory": "cpu", "nodeLostSeconds": 20,
    "cleanupSeconds": 60,
}  # fmt: skip
"""Of the tests' operators, whatever their cluster."""

SMALL: Manifest = {
    "objective": {"metric": "loss"},
    "parameters": [{"name": "lr", "type": "Float", "min": 1e-4, "max": 1e-1, "scale": "Log"}],
    "search": {"algorithm": "SuccessiveHalving", "trials": 4, "seed": 3, "parallelism": 2},
    "fidelity": {"layers": {"min": 1}, "samples": {"min": 500, "max": 2000}},
    "promotion": "Continue",
    "model": {"family": "MLP", "hidden": [16, 16, 16]},
    "data": {"kind": "Table", "builtin": "breast-cancer"},
    "training": {"batchSize": 25},
}
"""Three rungs and five runs of a second's training each; promoted trials take weights and optimizer state along."""


def small(**changes: Any) -> Manifest:
    """A small study's spec; keyword arguments are merged into its sections."""
    spec = copy.deepcopy(SMALL)
    for name, value in changes.items():
        spec[name] = {**spec[name], **value} if isinstance(value, dict) and name in spec else value
    return spec


def settings_here(checkpoints: Path) -> Manifest:
    """Settings of an operator on a cluster of our own, whose trainers run this very environment, one thread each.

    Args:
        checkpoints: folder of this machine that all pods have at /checkpoints.
    """
    runtime = python_runtime_mounts(Path(sys.prefix), [ROOT / "trainer", ROOT / "examples"])
    paths = {"name": "PYTHONPATH", "value": f"{ROOT / 'trainer'}:{ROOT / 'examples'}"}
    mounts = [*runtime.mounts, {"name": "checkpoints", "mountPath": "/checkpoints"}]
    container = {"name": "trainer", "env": [*runtime.env, *THREADS, paths], "volumeMounts": mounts}
    volume = {"name": "checkpoints", "hostPath": {"path": str(checkpoints), "type": "Directory"}}
    return {
        **SETTINGS,
        "image": runtime.image,
        "command": [runtime.python, "-m", "frostline_trainer"],
        "template": {"spec": {"containers": [container], "volumes": [*runtime.volumes, volume]}},
    }


class OperatorProcess:
    """`frostline operator` in a process of its own."""

    def __init__(self, client: Client, settings: Path, folder: Path, *arguments: str) -> None:
        self.client = client
        self.log = folder / "operator.log"
        self._command = [
            sys.executable, "-m", "frostline_operator.cli", "operator", "--settings", str(settings),
            "--kubeconfig", str(client.kubeconfig), "--port", "0", *arguments,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self, wait: bool = True) -> None:
        """Start it, and wait until it says that it is up."""
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=ROOT
            )
        if not wait:
            return
        self.client.wait("the operator is up", lambda: b"looking after" in self._said(offset), 60)
        self.port = int(self._said(offset).split(b"port ")[1].split()[0])

    def _said(self, offset: int) -> bytes:
        return self.log.read_bytes()[offset:]

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As a node that loses power would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """As Kubernetes would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def get(self, path: str) -> str:
        """What its own port answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return bytes(answer.read()).decode()


class Studies:
    """Studies in one namespace."""

    def __init__(self, workloads: Workloads) -> None:
        self.workloads = workloads
        self.client = workloads.client
        self.namespace = workloads.namespace

    def apply(self, name: str, spec: Manifest, **metadata: Any) -> None:
        """kubectl apply."""
        self.workloads.apply(
            {
                "apiVersion": "hpo.frostline.dev/v1alpha1",
                "kind": "HPOStudy",
                "metadata": {"name": name, **metadata},
                "spec": spec,
            }
        )

    def patch(self, name: str, spec: Manifest) -> None:
        """kubectl patch."""
        self.workloads.kubectl("patch", "hpostudy", name, "--type=merge", "--patch", json.dumps({"spec": spec}))

    def get(self, name: str) -> Manifest:
        return self.workloads.get("hpostudy", name)

    def status(self, name: str) -> Manifest:
        found: Manifest = self.get(name).get("status", {})
        return found

    def condition(self, name: str, kind: str) -> Manifest:
        """A condition, {} where there is none."""
        return next((c for c in self.status(name).get("conditions", []) if c["type"] == kind), {})

    def wait_condition(self, name: str, kind: str, status: str = "True", seconds: float = 120) -> Manifest:
        """Wait for a condition; what the study says meanwhile is in the failure."""
        self._wait(
            name,
            f"{kind}={status}",
            lambda: condition_status(self.status(name).get("conditions", []), kind) == status,
            seconds,
        )
        return self.condition(name, kind)

    def complete(self, name: str, seconds: float = 240) -> Manifest:
        """Wait until the study is complete; returns its status."""
        self.wait_condition(name, "Complete", seconds=seconds)
        return self.status(name)

    def until(self, name: str, what: str, holds: Callable[[], bool], seconds: float = 120) -> None:
        self._wait(name, what, holds, seconds)

    def _wait(self, name: str, what: str, holds: Callable[[], bool], seconds: float) -> None:
        try:
            self.client.wait(f"{name}: {what}", holds, seconds)
        except ClusterError as error:
            pods = self.workloads.kubectl("get", "pods,jobs", "-o", "wide")
            described = self.client.try_kubectl("-n", self.namespace, "describe", "hpostudy", name).stdout
            raise ClusterError(f"{error}\n{described[-3000:]}\n{pods}") from None

    def trials(self, name: str) -> list[Manifest]:
        """The study's HPOTrials, in their order."""
        found = self.client.find("hpotrials", self.namespace, f"hpo.frostline.dev/study={name}")
        return sorted(found, key=lambda trial: int(trial["spec"]["index"]))

    def results(self, name: str) -> dict[tuple[int, int], tuple[Any, ...]]:
        """(trial, rung) -> (value, layers, tokens) of everything that counts."""
        return {
            (trial["spec"]["index"], result["rung"]): (result.get("value"), result["layers"], result["tokens"])
            for trial in self.trials(name)
            for result in trial["status"].get("rungResults", [])
        }

    def jobs(self, name: str) -> list[Manifest]:
        """Jobs of runs, ended ones included while they are kept."""
        selector = f"hpo.frostline.dev/study={name},hpo.frostline.dev/component=trainer"
        return self.client.find("jobs", self.namespace, selector)

    def pods(self, name: str) -> list[Manifest]:
        selector = f"hpo.frostline.dev/study={name},hpo.frostline.dev/component=trainer"
        return self.client.find("pods", self.namespace, selector)

    def running(self, name: str) -> list[str]:
        """Pods that run now."""
        return [p["metadata"]["name"] for p in self.pods(name) if p["status"]["phase"] == "Running"]

    def times_finished(self, name: str) -> Counter[tuple[int, int]]:
        """How many runs have trained a trial to the end of a rung."""
        ended: Counter[tuple[int, int]] = Counter()
        for run in self.runs(name).values():
            if run["state"] == "Succeeded":
                ended.update((trial, run["rung"]) for trial in run["trials"])
        return ended

    def runs(self, name: str) -> dict[str, Manifest]:
        """Every run of the study, from its journal."""
        runs: dict[str, Manifest] = {}
        for record in self.journal(name):
            runs.update({run["name"]: run for run in record.get("runs", [])})
        return runs

    def journal(self, name: str) -> list[Manifest]:
        """All records of the study's journal."""
        from frostline_operator.kubernetes.journal import records_of

        selector = f"hpo.frostline.dev/study={name},hpo.frostline.dev/component=journal"
        chunks = self.client.find("configmaps", self.namespace, selector)
        chunks.sort(key=lambda chunk: int(chunk["metadata"]["labels"]["hpo.frostline.dev/study-journal"]))
        return [record for chunk in chunks for record in records_of(chunk)]

    def events(self, name: str) -> list[Manifest]:
        """Events on the study."""
        found = self.client.find("events", self.namespace)
        return [e for e in found if e["involvedObject"]["kind"] == "HPOStudy" and e["involvedObject"]["name"] == name]


def run_locally(name: str, spec: Manifest, folder: Path, *arguments: str) -> dict[tuple[int, int], tuple[Any, ...]]:
    """`frostline run` of the same study on this machine, with one thread as in the pods; results as of `Studies`."""
    document = {
        "apiVersion": "hpo.frostline.dev/v1alpha1",
        "kind": "HPOStudy",
        "metadata": {"name": name},
        "spec": spec,
    }
    manifest = folder / f"{name}.yaml"
    manifest.write_text(json.dumps(document))
    command = [sys.executable, "-m", "frostline_operator.cli", "run", str(manifest), "--plain"]
    command += ["--dir", str(folder / name), *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    # The cores it may use are divided among its devices; in the pods of these tests each trainer has one thread.
    cores = sorted(os.sched_getaffinity(0))[: int(spec["search"].get("parallelism", 1))]
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    assert done.returncode == 0, done.stdout + done.stderr

    from frostline_operator.local.store import SqliteStore

    store = SqliteStore(folder / name / "study.sqlite3")
    try:
        state = store.load()
    finally:
        store.close()
    return {
        (trial.index, result.rung): (result.value, result.layers, result.tokens)
        for trial in state.trials.values()
        for result in trial.results
    }
