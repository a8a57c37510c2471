"""What people do to studies: suspend, resume, raise, edit, delete; and studies side by side."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from frostcluster.cluster import Cluster
from tests.e2e.operating import OperatorProcess, Studies, small

LONG = small(search={"trials": 4, "parallelism": 1}, fidelity={"samples": {"min": 20000, "max": 80000}})


def test_suspended_studies_stop_with_checkpoints_and_go_on(studies: Studies) -> None:
    studies.apply("calm", LONG)
    studies.complete("calm")
    studies.apply("paused", LONG)
    studies.until("paused", "a pod", lambda: bool(studies.pods("paused")))
    studies.until("paused", "a run", lambda: any(p["status"]["phase"] == "Running" for p in studies.pods("paused")))

    studies.patch("paused", {"suspend": True})

    studies.until("paused", "no pods", lambda: not active(studies, "paused"), 60)
    studies.until("paused", "suspended", lambda: studies.status("paused")["phase"] == "Suspended", 20)
    assert studies.condition("paused", "Progressing")["reason"] == "Suspended"
    time.sleep(3)
    assert not active(studies, "paused")
    studies.patch("paused", {"suspend": False})
    studies.complete("paused")
    assert studies.results("paused") == studies.results("calm")
    assert "Lost" not in {run["state"] for run in studies.runs("paused").values()}


@pytest.mark.long
def test_parallelism_and_budget_are_raised_while_it_runs(studies: Studies) -> None:
    studies.apply(
        "raised", small(search={"trials": 6, "parallelism": 1, "maxTrialsPerRun": 1}, budget={"tokens": 9000})
    )
    studies.until("raised", "a pod", lambda: bool(active(studies, "raised")))
    assert len(active(studies, "raised")) == 1

    studies.patch("raised", {"search": {"parallelism": 2}, "budget": {"tokens": 90000}})

    studies.until("raised", "two runs", lambda: len(active(studies, "raised")) == 2, 60)
    status = studies.complete("raised")
    assert status["reason"] == "Completed"
    assert {line["name"]: line["limit"] for line in status["budget"] if "limit" in line} == {"tokens": 90000}


def test_what_must_not_change_is_refused(studies: Studies) -> None:
    studies.apply("edited", LONG)
    studies.until("edited", "it has begun", lambda: "startTime" in studies.status("edited"))
    refused = studies.client.try_kubectl(
        "-n", studies.namespace, "patch", "hpostudy", "edited", "--type=merge", "-p", '{"spec":{"search":{"seed":9}}}'
    )
    assert refused.returncode != 0
    assert "search.seed cannot change once a study runs" in refused.stderr
    # What the API server cannot see, the operator does; what runs is left alone until the change is undone
    studies.patch("edited", {"search": {"initial": [{"lr": 0.05}]}})
    accepted = studies.wait_condition("edited", "Accepted", "False", 30)
    assert "spec.search.initial changed although the study has begun" in accepted["message"]
    studies.patch("edited", {"search": {"initial": []}})
    studies.wait_condition("edited", "Accepted", "True", 30)


def kept(studies: Studies, checkpoints: Path, name: str) -> set[str]:
    """Checkpoints of a study, below its folder."""
    found = checkpoints.glob(f"{studies.namespace}/{name}-*/*/*/state.json")
    return {"/".join(path.parts[-3:-1]) for path in found}


def test_checkpoints_that_nobody_needs_go(studies: Studies, own_cluster: Cluster, checkpoints: Path) -> None:
    studies.apply("tidy", small())
    best = studies.complete("tidy")["best"]["checkpoint"]
    studies.client.wait("only the best's is left", lambda: kept(studies, checkpoints, "tidy") == {best}, 60)
    # As `kubectl get trials` has it, too
    shown = {t["status"]["checkpoint"]["path"] for t in studies.trials("tidy") if t["status"].get("checkpoint")}
    assert shown == {best}
    studies.workloads.kubectl("delete", "hpostudy", "tidy", "--timeout=90s")
    assert kept(studies, checkpoints, "tidy") == set()


def test_a_report_from_a_cluster_has_learning_curves(studies: Studies) -> None:
    studies.apply("drawn", {**LONG, "metrics": {"interval": "1s"}})
    studies.complete("drawn")
    where = ["--study", f"{studies.namespace}/drawn", "--kubeconfig", str(studies.client.kubeconfig)]
    command = [sys.executable, "-m", "frostline_operator.cli", "report", *where, "--format", "json"]
    record = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    results = [result for trial in record["trials"] for result in trial["results"]]
    assert len(results) >= 3
    for result in results:
        last = result["curve"][-1]
        assert last["tokens"] == result["tokens"] and abs(last["value"] - result["value"]) < 1e-5
    # The longest runs were seen on the way, too
    assert any(len(result["curve"]) > 1 for result in results)


def test_a_deleted_study_leaves_nothing_behind(
    studies: Studies, own_cluster: Cluster, operator: OperatorProcess, checkpoints: Path
) -> None:
    studies.apply("deleted", LONG)
    studies.until("deleted", "a pod", lambda: bool(active(studies, "deleted")))

    studies.workloads.kubectl("delete", "hpostudy", "deleted", "--timeout=90s")

    kinds = "jobs,pods,configmaps,hpotrials"
    selector = "hpo.frostline.dev/study=deleted"

    def gone() -> bool:
        return not studies.workloads.kubectl("get", kinds, "-l", selector, "-o", "name").split()

    studies.client.wait("nothing is left", gone, 60)
    assert not list((checkpoints / studies.namespace).glob("deleted-*"))
    said = operator.log.read_text()
    assert "deleted is deleted: " in said and "failed temporarily" not in said
    # A study of the same name is a new one
    studies.apply("deleted", small(search={"trials": 1}))
    assert studies.complete("deleted")["trials"]["total"] == 1


@pytest.mark.long
def test_trials_are_kept_when_asked(studies: Studies) -> None:
    studies.apply("kept", small(search={"trials": 2}), annotations={"hpo.frostline.dev/keep-trials": "true"})
    studies.complete("kept")
    studies.workloads.kubectl("delete", "hpostudy", "kept", "--timeout=60s")
    time.sleep(5)
    assert [trial["status"]["state"] for trial in studies.trials("kept")]


@pytest.mark.long
def test_two_studies_of_one_name_in_two_namespaces(studies: Studies) -> None:
    other = f"{studies.namespace}-b"
    studies.client.kubectl("create", "namespace", other)
    try:
        studies.apply("twin", small(search={"trials": 2, "seed": 1}))
        mine = studies.get("twin")
        twin = {key: mine[key] for key in ("apiVersion", "kind")}
        spec = small(search={"trials": 2, "seed": 2})
        studies.client.apply({**twin, "metadata": {"name": "twin"}, "spec": spec}, namespace=other)
        status = studies.complete("twin")
        studies.client.kubectl("-n", other, "wait", "--for=condition=Complete", "study/twin", "--timeout=120s")
        theirs = studies.client.get("hpostudy", "twin", other)["status"]
        assert status["best"]["value"] != theirs["best"]["value"]
    finally:
        studies.client.kubectl("-n", other, "delete", "hpostudies", "--all", "--timeout=60s")
        studies.client.kubectl("delete", "namespace", other, "--wait=false")


def active(studies: Studies, name: str) -> list[str]:
    """Pods of runs that are not over."""
    return [p["metadata"]["name"] for p in studies.pods(name) if p["status"]["phase"] in ("Pending", "Running")]


@pytest.mark.long
def test_jobs_wait_for_kueue_and_bear_being_preempted(studies: Studies) -> None:
    """Kueue is played here: it lets a Job go by setting suspend to false, and takes its place away by true."""
    spec = small(search={"trials": 1})
    spec["fidelity"] = {"rungs": [{"layers": "All", "tokens": 60000}]}
    studies.apply("queued", spec, labels={"kueue.x-k8s.io/queue-name": "gpus"})
    profile = studies.wait_condition("queued", "Profiled", "False")  # its Job goes through the queue like all others
    assert "gpus" in profile["message"] or profile["reason"] == "Computing"
    selector = "hpo.frostline.dev/study=queued,hpo.frostline.dev/component=profile"
    studies.until("queued", "a profile", lambda: studies.client.find("jobs", studies.namespace, selector) != [])
    [profiling] = studies.client.find("jobs", studies.namespace, selector)
    suspend(studies, profiling["metadata"]["name"], False)

    blocked = studies.wait_condition("queued", "RunsBlocked")
    assert blocked["reason"] == "Queued" and "gpus" in blocked["message"]
    [job] = studies.jobs("queued")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert job["spec"]["suspend"] is True

    suspend(studies, job["metadata"]["name"], False)
    studies.until("queued", "a run", lambda: "Running" in {p["status"]["phase"] for p in studies.pods("queued")}, 60)
    time.sleep(2)
    suspend(studies, job["metadata"]["name"], True)

    second = f"{job['metadata']['name'][:-1]}1"
    studies.until(
        "queued", "another attempt", lambda: second in {j["metadata"]["name"] for j in studies.jobs("queued")}
    )
    suspend(studies, second, False)
    studies.complete("queued")
    runs = studies.runs("queued")
    assert [run["state"] for run in runs.values()] in (["Stopped", "Succeeded"], ["Lost", "Succeeded"])


def suspend(studies: Studies, job: str, wanted: bool) -> None:
    patch = f'{{"spec":{{"suspend":{str(wanted).lower()}}}}}'
    studies.workloads.kubectl("patch", "job", job, "--type=merge", "--patch", patch)
