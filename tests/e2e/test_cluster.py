"""What Frostline relies on in a cluster, seen to hold in this one: Jobs, their ends, placement, and the network."""

import json
import urllib.request
from functools import partial
from typing import Any

import pytest
from frostcluster.client import Client
from frostcluster.cluster import Cluster
from frostcluster.node import GPU
from frostcluster.workloads import SERVE, SERVING, SLEEP, Workloads, terminated


def on_node(name: str) -> dict[str, Any]:
    return {"nodeSelector": {"kubernetes.io/hostname": name}}


def gpus(count: int) -> dict[str, Any]:
    return {"resources": {"limits": {GPU: count}}}


@pytest.mark.parametrize("node", ["gpu-small", "gpu-large"])
def test_a_job_runs_in_a_real_container_on_each_node(own_cluster: Cluster, workloads: Workloads, node: str) -> None:
    script = """
import os, pathlib
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(os.getpid(), os.getuid(), status["CapEff"].strip(), status["Seccomp"].strip(), status["NoNewPrivs"].strip())
try:
    pathlib.Path("/somewhere").write_text("no")
except OSError as error:
    print(error.strerror)
pathlib.Path("/dev/termination-log").write_text("done on " + os.uname().nodename)
"""
    workloads.job("real", script, **on_node(node))

    assert workloads.finished("real")["status"]["succeeded"] == 1
    [pod] = workloads.pods_of("real")
    assert pod["spec"]["nodeName"] == node
    assert terminated(pod)["exitCode"] == 0
    # A name of its own, the first process of its own process tree, no user of the host's, no capability, filtered calls
    assert terminated(pod)["message"] == f"done on {pod['metadata']['name']}"
    assert workloads.logs(pod["metadata"]["name"]).splitlines() == [
        "1 10001 0000000000000000 2 1",
        "Read-only file system",
    ]
    assert pod["metadata"]["uid"] in own_cluster.nodes[node].run("ls", "/var/lib/kubelet/pods")


def test_the_exit_code_and_the_termination_message_are_read_back(workloads: Workloads) -> None:
    result = json.dumps({"reason": "bad model", "layers": 3})
    workloads.job("fails", f"import sys; open('/dev/termination-log', 'w').write({result!r}); sys.exit(43)")

    assert workloads.finished("fails")["status"]["failed"] == 1
    [pod] = workloads.pods_of("fails")
    assert terminated(pod)["exitCode"] == 43
    assert json.loads(terminated(pod)["message"]) == {"reason": "bad model", "layers": 3}


def test_a_pod_failure_policy_ends_the_job_at_once_on_its_exit_codes_only(workloads: Workloads) -> None:
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42, 43]}},
    ]
    policy = {"backoffLimit": 1, "podReplacementPolicy": "Failed", "podFailurePolicy": {"rules": rules}}
    workloads.job("policy", "import sys; sys.exit(42)", job=policy)
    workloads.job("no-policy", "import sys; sys.exit(1)", job=policy)

    failed = {
        name: next(c for c in workloads.finished(name)["status"]["conditions"] if c["type"] == "Failed")
        for name in ("policy", "no-policy")
    }
    assert failed["policy"]["reason"] == "PodFailurePolicy"
    assert failed["no-policy"]["reason"] == "BackoffLimitExceeded"
    assert len(workloads.pods_of("policy")) == 1
    assert len(workloads.pods_of("no-policy")) == 2


def test_a_container_over_its_memory_limit_is_killed_for_it(workloads: Workloads) -> None:
    workloads.job("oom", "x = bytearray(500_000_000)", container={"resources": {"limits": {"memory": "64Mi"}}})

    workloads.finished("oom")
    [pod] = workloads.pods_of("oom")
    assert terminated(pod)["reason"] == "OOMKilled"
    assert terminated(pod)["exitCode"] == 137


def test_a_deleted_pod_gets_sigterm_and_its_grace_and_then_is_killed(workloads: Workloads) -> None:
    polite = """
import signal, sys, time
def stop(*_):
    open("/dev/termination-log", "w").write("checkpoint written")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
"""
    deaf = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
    keep = {"finalizers": ["frostline.test/keep"]}  # else the pod's end could not be read any more
    for name, script in (("polite", polite), ("deaf", deaf)):
        workloads.pod(name, script, metadata=keep)
    workloads.client.wait("both run", lambda: all("ready" in workloads.logs_or_none(n) for n in ("polite", "deaf")))

    workloads.kubectl("delete", "pod", "polite", "deaf", "--wait=false")

    assert terminated(workloads.wait_phase("polite", "Failed"))["exitCode"] == 143
    assert terminated(workloads.get("pod", "polite"))["message"] == "checkpoint written"
    assert terminated(workloads.wait_phase("deaf", "Failed"))["exitCode"] == 137
    for name in ("polite", "deaf"):
        workloads.kubectl("patch", "pod", name, "--type=merge", '--patch={"metadata":{"finalizers":null}}')


def test_affinity_on_gpu_memory_finds_the_node_that_has_it(own_cluster: Cluster, workloads: Workloads) -> None:
    def asking(operator: str, mebibytes: int) -> dict[str, Any]:
        term = {"matchExpressions": [{"key": f"{GPU}.memory", "operator": operator, "values": [str(mebibytes)]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        return {"affinity": {"nodeAffinity": required}}

    workloads.job("large", "pass", container=gpus(1), **asking("Gt", 16000))
    workloads.job("small", "pass", container=gpus(1), **asking("Lt", 16000))
    workloads.pod("too-large", "pass", container=gpus(1), **asking("Gt", 80000))

    for job in ("large", "small"):
        assert workloads.finished(job)["status"]["succeeded"] == 1
        assert [pod["spec"]["nodeName"] for pod in workloads.pods_of(job)] == [f"gpu-{job}"]
    assert workloads.phase("too-large") == "Pending"


def test_a_node_runs_as_many_pods_as_it_has_gpus(own_cluster: Cluster, workloads: Workloads) -> None:
    script = "import os; print(os.environ['NVIDIA_VISIBLE_DEVICES'], flush=True); " + SLEEP
    names = ["one", "two", "three"]
    for name in names:
        workloads.pod(name, script, container=gpus(1), **on_node("gpu-small"))

    def running() -> list[str]:
        return [name for name in names if workloads.phase(name) == "Running"]

    workloads.client.wait("two of three run", lambda: len(running()) == 2)
    [waiting] = set(names) - set(running())
    [condition] = workloads.get("pod", waiting)["status"]["conditions"]
    assert condition["reason"] == "Unschedulable"
    assert f"Insufficient {GPU}" in condition["message"]
    workloads.client.wait("both print", lambda: all(workloads.logs_or_none(name) for name in running()))
    assert {workloads.logs(name).strip() for name in running()} == {"GPU-0", "GPU-1"}

    workloads.kubectl("delete", "pod", running()[0])
    workloads.wait_phase(waiting, "Running")


def test_the_downward_api_tells_a_pod_about_itself(workloads: Workloads) -> None:
    script = """
import os, pathlib
print(os.environ["LAYERS"], os.environ["MEMORY"], os.environ["NODE"], pathlib.Path("/about/layers").read_text())
"""
    layers = "metadata.annotations['frostline.dev/layers']"
    env = [
        {"name": "LAYERS", "valueFrom": {"fieldRef": {"fieldPath": layers}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    volume = {"name": "about", "downwardAPI": {"items": [{"path": "layers", "fieldRef": {"fieldPath": layers}}]}}
    workloads.job(
        "about",
        script,
        metadata={"annotations": {"frostline.dev/layers": "7"}},
        container={
            "env": env,
            "volumeMounts": [{"name": "about", "mountPath": "/about"}],
            "resources": {"limits": {"memory": "96Mi"}},
        },
        volumes=[volume],
    )

    workloads.finished("about")
    [pod] = workloads.pods_of("about")
    assert workloads.logs(pod["metadata"]["name"]).split() == ["7", str(96 * 2**20), pod["spec"]["nodeName"], "7"]


def test_pods_find_the_api_server_and_each_other_by_name(own_cluster: Cluster, workloads: Workloads) -> None:
    workloads.pod("server", SERVE, metadata={"labels": {"app": "server"}}, container=SERVING, **on_node("gpu-small"))
    ports = [{"port": 80, "targetPort": 8080}]
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "server"}, "ports": ports}}
    workloads.apply({"apiVersion": "v1", "kind": "Service", **service})
    client = """
import json, pathlib, ssl, sys, time, urllib.error, urllib.request
secrets = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
context = ssl.create_default_context(cafile=secrets / "ca.crt")
def whoami():
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    headers = {"Authorization": "Bearer " + (secrets / "token").read_text(), "Content-Type": "application/json"}
    url = "https://kubernetes.default.svc/apis/authentication.k8s.io/v1/selfsubjectreviews"
    request = urllib.request.Request(url, json.dumps(review).encode(), headers)
    return json.load(urllib.request.urlopen(request, context=context, timeout=5))["status"]["userInfo"]["username"]
def web():
    return urllib.request.urlopen(f"http://web.{sys.argv[1]}.svc:80", timeout=5).read().decode().strip()
for ask in (whoami, web):
    for attempt in range(60):
        try:
            print(ask())
            break
        except OSError as error:
            last = error
            time.sleep(0.5)
    else:
        raise SystemExit(f"{ask.__name__}: {last}")
"""
    expected = [f"system:serviceaccount:{workloads.namespace}:default", "frostline_test_metric 42"]
    # From both nodes: across the bridge, and through the node's own address translation to a pod beside it
    for node in ("gpu-small", "gpu-large"):
        arguments = {"args": ["-c", client, workloads.namespace]}
        workloads.job(f"client-{node}", client, container=arguments, **on_node(node))
    for node in ("gpu-small", "gpu-large"):
        assert workloads.finished(f"client-{node}")["status"].get("succeeded") == 1
        [pod] = workloads.pods_of(f"client-{node}")
        assert workloads.logs(pod["metadata"]["name"]).splitlines() == expected


def test_the_host_reaches_pods_and_services(own_cluster: Cluster, workloads: Workloads) -> None:
    for node in own_cluster.nodes:
        workloads.pod(node, SERVE, metadata={"labels": {"app": node}}, container=SERVING, **on_node(node))
        spec = {"selector": {"app": node}, "ports": [{"port": 80, "targetPort": 8080}]}
        workloads.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": node}, "spec": spec})
    for node in own_cluster.nodes:
        workloads.kubectl("wait", "--for=condition=Ready", f"pod/{node}", "--timeout=60s")
        pod = workloads.get("pod", node)["status"]["podIP"]
        service = workloads.get("service", node)["spec"]["clusterIP"]
        for url in (f"http://{pod}:8080", f"http://{service}"):
            workloads.client.wait(f"{url} answers", partial(serves, url), 20)


def serves(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.read() == b"frostline_test_metric 42\n")
    except OSError:
        return False


def test_commands_run_in_pods_and_files_are_read_from_them(workloads: Workloads) -> None:
    workloads.pod("shell", SLEEP)
    workloads.wait_phase("shell", "Running")

    workloads.kubectl("exec", "shell", "--", "/bin/sh", "-c", "echo kept > /tmp/file")
    assert workloads.kubectl("exec", "shell", "--", "cat", "/tmp/file") == "kept\n"


def test_torch_runs_in_a_restricted_pod(own_cluster: Cluster, workloads: Workloads) -> None:
    pytest.importorskip("torch", reason="the environment has no torch to run in a pod")
    script = "import torch; x = torch.ones(3, requires_grad=True); (x * x).sum().backward(); print(x.grad.sum().item())"
    workloads.job("torch", script, container={"resources": {"limits": {GPU: 1, "memory": "1Gi"}}})

    assert workloads.finished("torch", 180)["status"].get("succeeded") == 1
    [pod] = workloads.pods_of("torch")
    assert workloads.logs(pod["metadata"]["name"]).strip() == "6.0"


def test_labels_of_nodes_can_be_changed(own_cluster: Cluster) -> None:
    own_cluster.label_node("gpu-small", {"frostline.test/mark": "yes"})
    assert own_cluster.get("node", "gpu-small")["metadata"]["labels"]["frostline.test/mark"] == "yes"
    own_cluster.label_node("gpu-small", {"frostline.test/mark": None})
    assert "frostline.test/mark" not in own_cluster.get("node", "gpu-small")["metadata"]["labels"]


def test_it_is_the_version_it_should_be(cluster: Client) -> None:
    minor = int(json.loads(cluster.kubectl("version", "--output=json"))["serverVersion"]["minor"])
    assert minor >= 30, "podReplacementPolicy and podFailurePolicy need a newer Kubernetes"
