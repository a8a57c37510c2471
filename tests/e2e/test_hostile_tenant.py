"""A tenant with `edit` in a namespace of its own, and no rights elsewhere, tries to get at a neighbour's study."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from frostcluster.client import Client
from frostcluster.workloads import SLEEP, Workloads
from tests.e2e.operating import OperatorProcess, Studies, small

from frostline_trainer.contract import ExitCode, RunResult, TrialResult

SPEC = small(search={"trials": 4, "parallelism": 1}, fidelity={"samples": {"min": 20000, "max": 80000}})
GROUP = "hpo.frostline.dev"


@pytest.fixture
def tenant(workloads: Workloads, tmp_path: Path) -> Iterator[Workloads]:
    """Have a namespace of a tenant's own, and work in it with the tenant's rights alone."""
    place = f"{workloads.namespace}-tenant"
    owner = Workloads(workloads.client, place, workloads.runtime)
    owner.create()
    owner.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tenant"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "tenant"},
            "subjects": [{"kind": "ServiceAccount", "name": "tenant", "namespace": place}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        },
    )
    settings = json.loads(workloads.client.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    token = owner.kubectl("create", "token", "tenant", "--duration=1h").strip()
    settings["users"] = [{"name": settings["users"][0]["name"], "user": {"token": token}}]
    path = tmp_path / "tenant.kubeconfig"
    path.write_text(json.dumps(settings))
    as_tenant = Client(path, workloads.client.processes)
    denied = as_tenant.try_kubectl("-n", workloads.namespace, "get", "pods")
    assert denied.returncode != 0 and "forbidden" in denied.stderr
    yield Workloads(as_tenant, place, workloads.runtime)
    owner.delete()


def read_uid(operator: OperatorProcess, study: str) -> str:
    """A study's uid, as anybody reads it off the operator's /metrics."""
    [uid] = set(re.findall(rf'study="{study}".*?study_uid="([^"]+)"', operator.get("/metrics")))
    return str(uid)


def disguised(uid: str, study: str, run: str) -> dict[str, str]:
    """The labels of a trainer's pod."""
    return {
        "app.kubernetes.io/managed-by": "frostline",
        f"{GROUP}/study": study,
        f"{GROUP}/study-uid": uid,
        f"{GROUP}/component": "trainer",
        f"{GROUP}/run": run,
        f"{GROUP}/rung": "0",
    }


def pod(tenant: Workloads, script: str, **metadata: Any) -> dict[str, Any]:
    """A pod whose container is called as a trainer's is."""
    spec = tenant.pod_spec(script)
    spec["containers"][0]["name"] = "trainer"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def forged(run: str) -> str:
    """A script that leaves a better record than any run's."""
    trials = [
        TrialResult(name=f"victim-{index:04d}", reason="Completed", objective=-100.0, tokens=80000)
        for index in range(4)
    ]
    record = RunResult(run=run, layers=1, exit_code=ExitCode.DONE, seconds=0.1, trials=trials)
    return f"open('/dev/termination-log', 'w').write({record.model_dump_json(by_alias=True)!r})"


def test_a_neighbours_labels_delete_forge_and_block_nothing(
    studies: Studies, operator: OperatorProcess, tenant: Workloads
) -> None:
    studies.apply("calm", SPEC)
    calm = studies.complete("calm")
    studies.apply("victim", SPEC)
    studies.until("victim", "a run", lambda: bool(studies.running("victim")))
    uid = read_uid(operator, "victim")
    [run] = [job["metadata"]["name"] for job in studies.jobs("victim")]
    labels = disguised(uid, "victim", run)

    # (a) A Job that is not Frostline's, which the operator is to delete
    spec = tenant.pod_spec(SLEEP)
    template = {"metadata": {"labels": labels}, "spec": spec}
    bystander = {"metadata": {"name": "bystander", "labels": labels}, "spec": {"template": template}}
    tenant.apply({"apiVersion": "batch/v1", "kind": "Job", **bystander})
    # (b) Records that are to become the study's best: of this run, and of the runs to come
    runs = {run, *(f"victim-b0-r{rung}-000" for rung in range(3))}
    tenant.apply(*(pod(tenant, forged(r), name=f"forged-{r}", labels={**labels, f"{GROUP}/run": r}) for r in runs))
    # (c) A pod that never ends, which the study's deletion is to wait for
    tenant.apply(pod(tenant, SLEEP, name="stays", labels=labels))

    status = studies.complete("victim")
    assert studies.results("victim") == studies.results("calm")
    assert status["best"]["value"] == calm["best"]["value"]
    assert {job["metadata"]["namespace"] for job in studies.jobs("victim")} == {studies.namespace}
    assert tenant.phase("stays") == "Running"

    studies.workloads.kubectl("delete", "hpostudy", "victim", "--timeout=90s")
    assert tenant.phase("stays") == "Running"
    assert "deletionTimestamp" not in tenant.get("job", "bystander")["metadata"]
    assert len(tenant.find("pods")) >= len(runs) + 2
