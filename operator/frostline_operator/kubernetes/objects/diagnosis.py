"""What the API server, the scheduler and a kubelet say of a Job or its pod, turned into a reason and a remedy.

Pure functions of their words, for every Job and pod that the operator makes: runs, profiles and cleaning up.
"""

from __future__ import annotations

import re

from frostline_operator.runtime.protocol import Trouble
from frostline_trainer.contract import ExitCode

_LONGEST = 500
"""Characters of somebody else's message."""
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
_CONFIGURATION = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})

_REFUSALS = (
    ("exceeded quota", "QuotaExceeded", "raise the quota, or lower search.parallelism"),
    ("failed quota", "AdmissionRefused", "the namespace's quota asks for these resources: set them in the template"),
    ("usage per (Container|Pod) is", "AdmissionRefused", "change resources in the template, or the LimitRange"),
    ("violates PodSecurity", "AdmissionRefused", "correct securityContext in the template, or relax the namespace"),
    ("admission webhook|denied the request", "AdmissionRefused", "change what refuses it, or the template"),
    ("denied", "AdmissionRefused", "change the policy that refuses it, or the template"),
    ("service ?account .*not found", "PodConfiguration", "create the ServiceAccount, or correct the template"),
    ("cannot create resource", "Refused", "give the operator's ServiceAccount this right"),
    ("being terminated", "Refused", "its namespace is being deleted"),
)
"""Of a Job or pod that the API server does not take: a pattern, the reason, the remedy; the first one counts."""
_REFUSED = ("Refused", "correct the template")

_UNSCHEDULED = (
    (
        'persistentvolumeclaim "([^"]+)" not found',
        "PodConfiguration",
        "create the PersistentVolumeClaim {0} in the study's namespace, or name another one in the template",
    ),
    (
        'persistentvolumeclaim "([^"]+)" (is being deleted|bound to non-existent)',
        "PodConfiguration",
        "create the PersistentVolumeClaim {0} anew",
    ),
    (
        "unbound immediate PersistentVolumeClaims",
        "PodConfiguration",
        "a PersistentVolumeClaim has no volume: see kubectl describe pvc, and its StorageClass",
    ),
    (
        "volume node affinity conflict",
        "Unschedulable",
        "its volume is bound to other nodes: use one that all nodes reach, or correct the node selector",
    ),
    (
        "Insufficient (memory|cpu|ephemeral-storage)",
        "Unschedulable",
        "lower requests of {0} in the template, or free or add a node",
    ),
)
"""Of a pod for which the scheduler has no node."""
_NO_NODE = ("Unschedulable", "free or add a node that its pod fits, or correct the template")


def refusal(name: str, message: str) -> Trouble:
    """What to do about a Job or pod that the API server does not take.

    Args:
        name: of the Job.
        message: of the API server, or of the event of a Job that gets no pod.
    """
    reason, remedy = _match(_REFUSALS, message) or _REFUSED
    return Trouble(reason, f"{name}: {message[:_LONGEST]}; {remedy}")


def unscheduled(name: str, message: str) -> Trouble:
    """What to do about a pod that the scheduler has no node for.

    Args:
        name: of the pod.
        message: of its condition PodScheduled.
    """
    reason, remedy = _match(_UNSCHEDULED, message) or _NO_NODE
    return Trouble(reason, f"{name} waits for a node: {message[:_LONGEST]}; {remedy}")


def not_started(name: str, image: str, reason: str, message: str) -> Trouble | None:
    """What to do about a container that waits, None where nothing is wrong with that.

    Args:
        name: of the pod.
        image: of the container.
        reason, message: of the kubelet.
    """
    if reason in _IMAGE:
        return Trouble(
            "ImagePull",
            f"{name} cannot get its image {image} ({reason}): {message[:_LONGEST]}; correct the operator's image or "
            "the study's template, or add imagePullSecrets to it",
        )
    if reason in _CONFIGURATION:
        text = f"{name} cannot start ({reason}): {message[:_LONGEST]}"
        return Trouble("PodConfiguration", f"{text}; create what is missing, or correct the template")
    return None


def ended(exit_code: int | None, reason: str, message: str) -> str:
    """In words, how a container ended that left no result, and what helps.

    Args:
        exit_code, reason, message: of the kubelet.
    """
    if reason == "OOMKilled":
        return "its container ran out of main memory (OOMKilled); raise resources.limits.memory in the template"
    if reason in ("StartError", "ContainerCannotRun"):
        return f"its container could not start: {message[:_LONGEST]}; correct the image or the template"
    if exit_code == ExitCode.NO_SPACE:
        return "no space was left to write to, not even for its record; make room on its node or raise the quota"
    return f"its container ended with exit code {exit_code} ({reason}) and left no result; see its log"


def _match(table: tuple[tuple[str, str, str], ...], message: str) -> tuple[str, str] | None:
    for pattern, reason, remedy in table:
        found = re.search(pattern, message)
        if found is not None:
            return reason, remedy.format(*found.groups())
    return None
