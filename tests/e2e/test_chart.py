"""The Helm chart, from `helm lint` to a study that goes on after the chart was uninstalled and installed again."""

import json
import re
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from frostcluster.client import Client
from frostcluster.cluster import Cluster
from frostcluster.prometheus import Prometheus, pod_discovery
from frostcluster.workloads import Workloads
from ruamel.yaml import YAML
from tests.e2e.charting import CHART, Helm, asked, granted, import_images, render, shelves, values
from tests.e2e.operating import OperatorProcess, Studies, small

Manifest = dict[str, Any]

MONITORING = "monitoring.coreos.com/v1"
APIS = [f"--api-versions={MONITORING}/{kind}" for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule")]
SECRET = {"existingSecret": "prometheus", "tokenKey": "token", "caKey": "ca.crt"}
MATRIX: dict[str, Manifest] = {
    "defaults": {},
    "namespaced": {"namespaces": ["default", "kube-public"], "rbac": {"aggregate": False}},
    "namespaced without a look at the cluster": {"namespaces": ["default"], "rbac": {"clusterReads": False}},
    "no rights, no definitions": {
        "rbac": {"create": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "crds": {"install": False},
    },
    "definitions that go with the chart": {"crds": {"keep": False}},
    "a claim of its own": {"checkpoints": {"create": {"enabled": True, "storageClassName": "nfs", "size": "5Gi"}}},
    "an object store": {"checkpoints": {"url": "s3://bucket/frostline", "credentialsSecret": "s3"}},
    "Prometheus with a token": {
        "prometheus": {"url": "https://prometheus.example.com/x", "auth": SECRET, "headers": {"X-Scope-OrgID": "me"}}
    },
    "Prometheus with a password": {
        "prometheus": {
            "url": "http://prometheus:9090",
            "auth": {"existingSecret": "prometheus", "username": "me", "passwordKey": "password"},
        }
    },
    "all that is off by default": {
        "networkPolicy": {
            "enabled": True,
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "extraEgress": [{"ports": [{"port": 3128}]}],
            "trainers": {"enabled": True, "egress": [{"ports": [{"port": 443}]}]},
        },
        "prometheus": {"url": "http://prometheus.monitoring:9090"},
        "podDisruptionBudget": {"enabled": True},
        "trainer": {"priorityClass": {"create": True, "name": "frostline-trainers"}},
    },
    "everything of the operator's pod": {
        "commonLabels": {"team": "ml"},
        "image": {"digest": "sha256:" + "0" * 64},
        "imagePullSecrets": [{"name": "registry"}],
        "operator": {
            "verbose": True,
            "podLabels": {"a": "b"},
            "podAnnotations": {"c": "d"},
            "nodeSelector": {"pool": "system"},
            "tolerations": [{"key": "system", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/part-of": "frostline"}},
                }
            ],
            "priorityClassName": "system-cluster-critical",
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "extraEnvFrom": [{"secretRef": {"name": "x", "optional": True}}],
            "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
            "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/mine", "readOnly": True}],
            "securityContext": {"runAsUser": 12345},
        },
    },
    "everything of the trainers": {
        "trainer": {
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
            "runtimeClass": "nvidia",
            "sharedMemory": "8Gi",
            "resources": {"requests": {"cpu": 4, "memory": "16Gi"}, "limits": {"memory": "32Gi"}},
            "env": [{"name": "A", "value": "b"}],
            "envFrom": [{"configMapRef": {"name": "x"}}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "labels": {"e": "f"},
            "annotations": {"g": "h"},
            "supplementalGroups": [44, 109],
            "hub": {"cacheClaim": "hub", "offline": True, "tokenSecret": "hub-token"},
        },
        "settings": {
            "cpuSlots": 2,
            "timeSlicing": True,
            "headroom": 0.1,
            "prices": [{"memoryClass": "24Gi", "perHour": 0.8}],
        },
    },
}
REFUSED: list[tuple[Manifest, list[str]]] = [
    ({"replicas": 2}, ["replicas", "not allowed"]),
    ({"operator": {"resouces": {}}}, ["/operator", "resouces", "not allowed"]),
    ({"settings": {"cpuSlots": "two"}}, ["/settings/cpuSlots", "want integer"]),
    ({"settings": {"prices": [{"memoryClass": "24Gi"}]}}, ["/settings/prices/0", "perHour"]),
    ({"settings": {"memory": "gpu"}}, ["/settings/memory", "cuda", "cpu", "none"]),
    ({"lease": {"seconds": 1}}, ["/lease/seconds", "3"]),
    ({"image": {"digest": "latest"}}, ["/image/digest", "sha256"]),
    ({"image": {"pullPolicy": "Sometimes"}}, ["/image/pullPolicy", "IfNotPresent"]),
    ({"prometheus": {"url": "prometheus:9090"}}, ["/prometheus/url", "https?"]),
    ({"checkpoints": {"url": "bucket/frostline"}}, ["/checkpoints/url", "://"]),
    ({"namespaces": "default"}, ["/namespaces", "want array"]),
    ({"trainer": {"tolerations": [{"keys": "x"}]}}, ["/trainer/tolerations/0", "keys"]),
    ({"trainer": {"sharedMemory": "lots"}}, ["/trainer/sharedMemory"]),
    # What no schema can say is said by the templates
    (
        {"checkpoints": {"existingClaim": "a", "url": "s3://b/c"}},
        ["checkpoints: give one of existingClaim, url and create.enabled"],
    ),
    ({"prometheus": {"auth": {"tokenKey": "token"}}}, ["name it in existingSecret"]),
    (
        {"trainer": {"priorityClass": {"create": True}}},
        ["trainer.priorityClass.create needs trainer.priorityClass.name"],
    ),
    ({"serviceAccount": {"create": False}}, ["name the account in serviceAccount.name"]),
]


def documents(text: str) -> list[Manifest]:
    return [document for document in YAML(typ="safe").load_all(text) if document]


def find(found: list[Manifest], kind: str, name: str = "") -> Manifest:
    [one] = [d for d in found if d["kind"] == kind and (not name or d["metadata"]["name"] == name)]
    return one


def test_helm_finds_nothing_to_complain_of(cluster: Client) -> None:
    done = Helm(cluster, "default").try_run("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("name", MATRIX)
def test_what_is_rendered_is_taken_by_the_api_server_to_the_letter(cluster: Client, name: str) -> None:
    done = render(values=MATRIX[name])
    assert done.returncode == 0, done.stderr
    found = [{**d, "metadata": {**d["metadata"], "namespace": "default"}} for d in documents(done.stdout)]
    bound = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PriorityClass"}
    for document in found:
        if document["kind"] in bound:
            del document["metadata"]["namespace"]
        if document["kind"] == "Pod":  # a dry run makes no account that it could have
            document["spec"]["serviceAccountName"] = "default"
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": found})
    words = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "--filename=-"]
    cluster.kubectl(*words, stdin=text)
    from frostline_operator.kubernetes.settings import load_settings

    settings = find(found, "ConfigMap", "frostline-settings")["data"]["settings.yaml"]
    file = Path(cluster.kubeconfig).parent / f"settings-{uuid.uuid4().hex[:6]}.yaml"
    file.write_text(settings)
    made = load_settings(file)
    assert made.lease is not None and made.lease.name == "frostline"


@pytest.mark.parametrize(("given", "words"), REFUSED, ids=lambda v: json.dumps(v)[:60] if isinstance(v, dict) else "")
def test_values_that_cannot_be_meant_are_refused(cluster: Client, given: Manifest, words: list[str]) -> None:
    done = render(values=given)
    assert done.returncode != 0
    assert [word for word in words if word not in done.stderr] == [], done.stderr


def test_monitors_rules_and_dashboards_are_there_where_the_cluster_can_have_them(cluster: Client) -> None:
    labels = {"labels": {"release": "kube-prometheus-stack"}}
    given = {"metrics": {"serviceMonitor": labels, "podMonitor": labels, "rules": labels}}
    without = {document["kind"] for document in documents(render(values=given).stdout)}
    assert not without & {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    found = documents(render(*APIS, values=given).stdout)
    for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule"):
        assert find(found, kind)["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert find(found, "PrometheusRule")["spec"]["groups"]
    service, monitor = find(found, "Service"), find(found, "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    boards = [d for d in found if d["kind"] == "ConfigMap" and d["metadata"]["labels"].get("grafana_dashboard") == "1"]
    files = {name: json.loads(text) for board in boards for name, text in board["data"].items()}
    assert sorted(files) == [f"frostline-{path.name}" for path in sorted((CHART / "dashboards").glob("*.json"))]
    forced = {"metrics": {name: {"force": True} for name in ("serviceMonitor", "podMonitor", "rules")}}
    kinds = {document["kind"] for document in documents(render(values=forced).stdout)}
    assert {"ServiceMonitor", "PodMonitor", "PrometheusRule"} <= kinds


@pytest.fixture(scope="module")
def images(cluster: Client) -> Cluster:
    if not isinstance(cluster, Cluster):
        pytest.skip("it imports images into the cluster's nodes, and this one is not ours")
    import_images(cluster)
    return cluster


@pytest.fixture
def place(images: Cluster, operator: OperatorProcess, workloads: Workloads) -> Iterator[Workloads]:
    """Have a namespace in which only restricted pods may be, and no operator but the chart's."""
    if operator.running:
        operator.stop()
    standard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    words = [f"{key}={value}" for key, value in standard.items()]
    images.kubectl("label", "namespace", workloads.namespace, *words)
    yield workloads
    helm = Helm(images, workloads.namespace)
    if helm.try_run("status", helm.release).returncode == 0:
        workloads.kubectl("delete", "hpostudies", "--all", "--timeout=180s")
        helm.run("uninstall", helm.release, "--wait")
    else:
        strip = '{"metadata":{"finalizers":null}}'
        for study in workloads.find("hpostudies"):
            workloads.kubectl("patch", "hpostudy", study["metadata"]["name"], "--type=merge", "--patch", strip)
    images.kubectl("delete", "pv", "--selector", f"frostline.test/namespace={workloads.namespace}", "--wait=false")


@pytest.fixture
def prometheus(images: Cluster, workloads: Workloads) -> Iterator[Prometheus]:
    """Have a Prometheus that watches the namespace's pods, where pods can reach it."""
    found = pod_discovery(images.kubeconfig, namespace=workloads.namespace)
    server = Prometheus(images, f"chart-{workloads.namespace}", found, host=images.network.host_address)
    server.start()
    yield server
    server.stop()


def write(folder: Path, content: Manifest) -> Path:
    file = folder / f"{uuid.uuid4().hex[:8]}.yaml"
    file.write_text(json.dumps(content))
    return file


LONG = small(search={"trials": 2, "parallelism": 1}, fidelity={"samples": {"min": 20000, "max": 40000}})


def test_a_release_is_installed_upgraded_rolled_back_uninstalled_and_installed_again_under_a_study(
    images: Cluster, place: Workloads, prometheus: Prometheus, tmp_path: Path
) -> None:
    helm, studies = Helm(images, place.namespace), Studies(place)
    account = f"{place.namespace}:frostline"
    volumes, mounts = shelves(images, place.namespace, shared_folder(tmp_path))
    given = values(volumes, mounts, prometheus={"url": prometheus.url, "intervalSeconds": 1})
    notes = helm.install(write(tmp_path, given))
    assert "helm test frostline" in notes and "kubectl get studies" in notes
    assert "no place for checkpoints" not in notes
    first = helm.pod()
    assert first["spec"]["serviceAccountName"] == "frostline"

    studies.apply("moving", LONG)
    studies.until("moving", "a run", lambda: bool(studies.running("moving")))
    trainer = studies.pods("moving")[0]
    assert trainer["spec"]["automountServiceAccountToken"] is False
    assert not [v for v in trainer["spec"]["volumes"] if "hostPath" in v or "projected" in v]

    changed = {**given, "settings": {**given["settings"], "lingerSeconds": 11}}
    helm.install(write(tmp_path, changed))
    second = helm.pod()
    assert second["metadata"]["name"] != first["metadata"]["name"]  # settings changed, so that the pod did
    helm.run("rollback", "frostline", "1", "--wait", "--timeout=100s")
    settings = place.get("configmap", "frostline-settings")["data"]["settings.yaml"]
    assert "lingerSeconds: 10" in settings

    studies.until("moving", "a result", lambda: len(studies.results("moving")) > 0)
    helm.run("uninstall", "frostline", "--wait")
    before = studies.results("moving")
    assert not images.find("deployments", place.namespace)
    assert studies.get("moving")["status"]["phase"] == "Running"
    assert before and studies.trials("moving") and studies.journal("moving")
    assert account not in json.dumps(images.find("clusterrolebindings"))

    helm.install(write(tmp_path, given))
    place.kubectl(
        "wait",
        "--for=condition=Complete",
        "study/moving",
        "--timeout=240s",
    )
    after = studies.results("moving")
    assert before.items() <= after.items()
    assert "Lost" not in {run["state"] for run in studies.runs("moving").values()}
    assert studies.status("moving")["best"]["value"] < 1
    chosen = f'study="moving",namespace="{place.namespace}"'
    assert prometheus.query(f"last_over_time(frostline_trial_objective{{{chosen}}}[10m])")
    address = helm.pod()["status"]["podIP"]
    with urllib.request.urlopen(f"http://{address}:8080/metrics", timeout=5) as answer:
        figures = answer.read().decode()
    assert re.search(r'^frostline_operator_prometheus_queries_total\{outcome="\w+"\} [1-9]', figures, re.M), figures
    # When the release goes, its rights go at once and the pod a moment later: what it asks for then, it had before
    refused = {right: codes for right, codes in asked(images, account).items() if codes & {401, 403}}
    assert not {right for right, codes in refused.items() if not codes & {200, 201}}, refused


def test_each_right_that_is_granted_is_used_and_each_one_that_is_needed_is_granted(
    images: Cluster, place: Workloads, tmp_path: Path
) -> None:
    helm, studies = Helm(images, place.namespace), Studies(place)
    account = f"{place.namespace}:frostline"
    volumes, mounts = shelves(images, place.namespace, shared_folder(tmp_path))
    given = values(volumes, mounts, namespaces=[place.namespace], test={"timeoutSeconds": 300})
    helm.install(write(tmp_path, given))
    # A Job that is refused its pod says so in events only; a study that goes may leave its trials
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "two"}, "spec": {"hard": {"pods": "2"}}}
    place.apply(quota)
    images.wait("the quota counts", lambda: "used" in place.get("resourcequota", "two").get("status", {}), 30)
    slow = {"search": {"trials": 2, "maxTrialsPerRun": 1}, "fidelity": {"samples": {"min": 50000, "max": 100000}}}
    studies.apply("kept", small(**slow), annotations={"hpo.frostline.dev/keep-trials": "true"})
    studies.until("kept", "blocked", lambda: studies.condition("kept", "RunsBlocked").get("status") == "True", 120)
    place.kubectl("delete", "resourcequota", "two")
    studies.patch("kept", {"suspend": True})
    # The chart's own test: a tiny study from its start to its end, by another account
    said = helm.run("test", "frostline", "--logs", "--timeout=320s")
    assert "best:" in said and "Succeeded" in said
    place.kubectl("delete", "hpostudy", "kept", "--timeout=100s")
    assert place.find("hpotrials")

    used = asked(images, account)
    assert not {right: codes for right, codes in used.items() if codes & {401, 403}}
    # Nobody asks for these: the API server asks itself whether they are granted, when an object is made that blocks its
    # owner, or gets another one (the study of `helm test` shares its profile with `kept`, whose trials stay)
    implied = {
        ("hpo.frostline.dev", "hpostudies/finalizers", "update"),
        ("hpo.frostline.dev", "hpotrials", "delete"),
        ("", "configmaps", "delete"),
    }
    rights = granted(images, account)
    assert set(used) <= rights, set(used) - rights
    assert rights - set(used) == implied
    role = place.get("role", "frostline")
    role["rules"] = [r for r in role["rules"] if "hpostudies/finalizers" not in r["resources"]]
    place.apply({key: role[key] for key in ("apiVersion", "kind", "rules")} | {"metadata": {"name": "frostline"}})
    studies.apply("blocked", small(search={"trials": 1}))
    refused = ("", "configmaps", "create")
    images.wait("the journal is refused", lambda: 403 in asked(images, account).get(refused, set()), 30)
    helm.run("upgrade", "frostline", str(CHART), "--reuse-values", "--force-conflicts", "--wait")
    studies.until("blocked", "accepted", lambda: studies.condition("blocked", "Accepted").get("status") == "True", 60)


def shared_folder(folder: Path) -> Path:
    """A folder for checkpoints that any user may write."""
    made = folder / "checkpoints"
    made.mkdir()
    made.chmod(0o777)
    for parent in (made, *made.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(parent.stat().st_mode | 0o055)
    return made
