"""Job manifests: pure functions from what is to be run to what is sent to the API server.

One Job is one attempt: its pod is never started again by Kubernetes. What comes next after a failure, an eviction or a
preemption is the engine's decision, which knows the checkpoint that was written and the budget that is left; a Job that
replaced its pod would train the same tokens again, from the old checkpoint and into the new one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from frostline_operator.api.study import PodTemplate
from frostline_operator.engine.state import Run
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.objects.classes import DeviceClass, affinity_terms
from frostline_operator.kubernetes.objects.merge import merged
from frostline_operator.kubernetes.objects.nodes import AMD, NVIDIA
from frostline_operator.kubernetes.settings import Memory, OperatorSettings
from frostline_trainer.contract import RUN_ENV, ExitCode, RunSpec

Manifest = dict[str, Any]

METRICS_PORT = 9090
LARGEST_ENVIRONMENT = 100_000
"""Bytes of a run's document that go into the environment; Linux takes 128 KiB per variable."""
_SPEC_FOLDER = "/etc/frostline"
_SPEC_FILE = "run.json"
_DEADLINE_MARGIN = 120.0
"""The operator stops a run at its deadline; the kubelet does so a little later, in case there is no operator."""


@dataclass(frozen=True)
class StudyRef:
    """The study that an object is made for."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    """Those of the study itself."""


def build_run_job(
    study: StudyRef, run: Run, spec: RunSpec, chosen: DeviceClass, settings: OperatorSettings, template: PodTemplate
) -> Manifest:
    """The Job of one run."""
    document = _document(spec)
    large = len(document.encode()) > LARGEST_ENVIRONMENT
    pod = _pod(settings, ["run"], {RUN_ENV: f"@{_SPEC_FOLDER}/{_SPEC_FILE}" if large else document})
    container = pod["spec"]["containers"][0]
    container["ports"] = [{"name": "metrics", "containerPort": METRICS_PORT}]
    if large:
        pod["spec"]["volumes"].append({"name": "run", "configMap": {"name": run.name}})
        container["volumeMounts"].append({"name": "run", "mountPath": _SPEC_FOLDER, "readOnly": True})
    _give_device(pod, chosen, settings)
    if run.deadline_seconds is not None:
        pod["spec"]["activeDeadlineSeconds"] = math.ceil(run.deadline_seconds + _DEADLINE_MARGIN)
    templated = _templated(pod, settings, template)
    if chosen.terms:
        _require(templated["spec"], chosen)
    if chosen.selector:
        templated["spec"]["nodeSelector"] = {**(templated["spec"].get("nodeSelector") or {}), **chosen.selector}
    labels = {**names.labels(study.name, study.uid, "trainer"), names.RUN: run.name, names.RUNG: str(run.rung)}
    return _job(study, run.name, labels, templated)


def build_run_document(study: StudyRef, run: Run, spec: RunSpec) -> Manifest | None:
    """The ConfigMap of a run whose document is too large for the environment, else None."""
    document = _document(spec)
    if len(document.encode()) <= LARGEST_ENVIRONMENT:
        return None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": run.name,
            "labels": {**names.labels(study.name, study.uid, "run"), names.RUN: run.name},
            "ownerReferences": [names.owner(study.name, study.uid)],
        },
        "immutable": True,
        "data": {_SPEC_FILE: document},
    }


def build_profile_job(
    study: StudyRef,
    name: str,
    document: str,
    memory: Memory,
    settings: OperatorSettings,
    template: PodTemplate,
    chosen: DeviceClass | None = None,
) -> Manifest:
    """The Job that computes what the study's model costs: on any node, without a GPU.

    With `chosen` it gets one device of that class: a custom entrypoint that cannot be traced is measured there.
    """
    device = chosen is not None and chosen.resource is not None
    hidden = {} if device else {"CUDA_VISIBLE_DEVICES": ""}
    pod = _pod(settings, ["profile", document, "--format", "json", "--memory", memory], hidden)
    if chosen is not None:
        _give_device(pod, chosen, settings)
    templated = _templated(pod, settings, template)
    if chosen is not None and chosen.terms:
        _require(templated["spec"], chosen)
    return _job(study, name, names.labels(study.name, study.uid, "profile"), templated)


def build_clean_job(
    study: StudyRef,
    name: str,
    where: str,
    only: Sequence[str] | None,
    settings: OperatorSettings,
    template: PodTemplate,
) -> Manifest:
    """The Job that removes checkpoints: some of them, or the study's whole folder when it goes.

    It waits in no queue: what it frees is worth more than what it takes. The last one outlives the study.
    """
    chosen = [] if only is None else ["--only", json.dumps(list(only))]
    pod = _pod(settings, ["clean", where, "--study-uid", study.uid, *chosen], {"CUDA_VISIBLE_DEVICES": ""})
    pod["spec"]["activeDeadlineSeconds"] = settings.cleanup_seconds
    templated = _templated(pod, settings, template)
    job = _job(replace(study, labels={}), name, names.labels(study.name, study.uid, "cleanup"), templated)
    if only is None:
        del job["metadata"]["ownerReferences"]
        job["spec"]["ttlSecondsAfterFinished"] = settings.cleanup_seconds
    return job


def _give_device(pod: Manifest, chosen: DeviceClass, settings: OperatorSettings) -> None:
    """One device of the class, where its devices are to be asked for."""
    if chosen.resource is None:
        return
    pod["spec"]["containers"][0]["resources"] = {"limits": {chosen.resource: 1}}
    if settings.runtime_class is not None:
        pod["spec"]["runtimeClassName"] = settings.runtime_class


def _document(spec: RunSpec) -> str:
    return spec.model_dump_json(by_alias=True, exclude_none=True)


def _pod(settings: OperatorSettings, arguments: list[str], environment: Mapping[str, str]) -> Manifest:
    """The pod before any template: as little privilege as there is."""
    container: Manifest = {
        "name": names.CONTAINER,
        "image": settings.image,
        "command": [*settings.command, *arguments],
        "env": [
            *({"name": name, "value": value} for name, value in environment.items()),
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "HOME", "value": "/tmp"},
        ],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    if settings.checkpoint_claim is not None:
        volumes.append({"name": names.CHECKPOINTS, "persistentVolumeClaim": {"claimName": settings.checkpoint_claim}})
        container["volumeMounts"].append({"name": names.CHECKPOINTS, "mountPath": settings.checkpoints})
    spec: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": settings.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in (NVIDIA, AMD)],
        "containers": [container],
        "volumes": volumes,
    }
    return {"metadata": {}, "spec": spec}


def pod_template(settings: OperatorSettings, template: PodTemplate) -> Manifest:
    """What a study's pods look like apart from the run: for placement, which must know tolerations and selectors."""
    return _templated(_pod(settings, [], {}), settings, template)


def _templated(pod: Manifest, settings: OperatorSettings, template: PodTemplate) -> Manifest:
    """The operator's template, then the study's. A container without a name is the trainer."""
    whole: Manifest = pod
    for layer in (settings.template, template):
        spec = dict(layer.spec)
        if isinstance(spec.get("containers"), list):
            spec["containers"] = [
                {"name": names.CONTAINER, **c} if isinstance(c, dict) else c for c in spec["containers"]
            ]
        whole = merged(whole, {"metadata": layer.metadata, "spec": spec})
    return whole


def _require(spec: Manifest, chosen: DeviceClass) -> None:
    """Adds the class's labels to what the template requires of a node: both must hold."""
    node = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    wanted = node.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    given = wanted.get("nodeSelectorTerms") or [{}]
    wanted["nodeSelectorTerms"] = [
        {**own, "matchExpressions": [*(own.get("matchExpressions") or []), *term["matchExpressions"]]}  # type: ignore[misc]
        for own in given
        for term in affinity_terms(chosen)
    ]


def _job(study: StudyRef, name: str, labels: dict[str, str], pod: Manifest) -> Manifest:
    passed_on = {key: study.labels[key] for key in names.PASSED_ON if key in study.labels}
    metadata = {**pod.get("metadata", {}), "labels": {**pod.get("metadata", {}).get("labels", {}), **labels}}
    disruption = {"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    final = {
        "containerName": names.CONTAINER,
        "operator": "In",
        "values": [int(ExitCode.OUT_OF_MEMORY), int(ExitCode.STUDY_FAULT)],
    }
    spec: Manifest = {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [{"action": "FailJob", **disruption}, {"action": "FailJob", "onExitCodes": final}]
        },
        "template": {"metadata": metadata, "spec": pod["spec"]},
    }
    if names.QUEUE in passed_on:
        spec["suspend"] = True
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": study.namespace,
            "labels": {**passed_on, **labels},
            "ownerReferences": [names.owner(study.name, study.uid)],
        },
        "spec": spec,
    }
