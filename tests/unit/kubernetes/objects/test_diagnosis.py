"""Messages of real API servers, schedulers and kubelets, and the reason and remedy that each is given."""

from __future__ import annotations

import pytest

from frostline_operator.kubernetes.objects.diagnosis import ended, not_started, refusal, unscheduled

FORBIDDEN = 'pods "x" is forbidden: '


@pytest.mark.parametrize(
    ("message", "reason", "remedy"),
    [
        (
            'jobs.batch "s-b0-r0-000" is forbidden: exceeded quota: few, requested: count/jobs.batch=1, used: '
            "count/jobs.batch=2, limited: count/jobs.batch=2",
            "QuotaExceeded", "raise the quota",
        ),
        (
            f"Error creating: {FORBIDDEN}exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1",
            "QuotaExceeded", "lower search.parallelism",
        ),
        (
            f"{FORBIDDEN}failed quota: q: must specify limits.memory for: trainer; requests.memory for: trainer",
            "AdmissionRefused", "set them in the template",
        ),
        (
            f"{FORBIDDEN}maximum memory usage per Container is 1Gi, but limit is 2Gi",
            "AdmissionRefused", "or the LimitRange",
        ),
        (
            f'{FORBIDDEN}violates PodSecurity "restricted:latest": hostPath volumes (volume "checkpoints")',
            "AdmissionRefused", "relax the namespace",
        ),
        ('admission webhook "validate.kyverno.svc-fail" denied the request: no', "AdmissionRefused", "what refuses it"),
        (
            "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: false",
            "AdmissionRefused", "the policy",
        ),
        (
            f'{FORBIDDEN}error looking up service account team/robot: serviceaccount "robot" not found',
            "PodConfiguration", "create the ServiceAccount",
        ),
        (
            'jobs.batch is forbidden: User "system:serviceaccount:f:operator" cannot create resource "jobs" in API '
            'group "batch" in the namespace "team"',
            "Refused", "give the operator's ServiceAccount this right",
        ),
        (
            'Job.batch "x" is invalid: spec.template.spec.containers[0].image: Required value',
            "Refused", "correct the template",
        ),
        (
            'jobs.batch "x" is forbidden: unable to create new content in namespace team because it is '
            "being terminated",
            "Refused", "being deleted",
        ),
    ],
)  # fmt: skip
def test_what_the_api_server_does_not_take(message: str, reason: str, remedy: str) -> None:
    found = refusal("x", message)
    assert found.reason == reason
    assert found.message.startswith(f"x: {message}; ") and remedy in found.message


@pytest.mark.parametrize(
    ("message", "reason", "remedy"),
    [
        (
            '0/3 nodes are available: persistentvolumeclaim "checkpoints" not found. preemption: 0/3 nodes are '
            "available: 3 Preemption is not helpful for scheduling.",
            "PodConfiguration", "create the PersistentVolumeClaim checkpoints in the study's namespace",
        ),
        (
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/3 nodes are "
            "available: 3 Preemption is not helpful for scheduling.",
            "PodConfiguration", "kubectl describe pvc",
        ),
        ("0/3 nodes are available: 3 node(s) had volume node affinity conflict.", "Unschedulable", "bound to other"),
        ("0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {a: b}.",
         "Unschedulable", "free or add a node"),
        ("0/2 nodes are available: 2 Insufficient memory.", "Unschedulable", "lower requests of memory"),
        ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.", "Unschedulable", "template"),
        ("", "Unschedulable", "free or add a node"),
    ],
)  # fmt: skip
def test_what_the_scheduler_has_no_node_for(message: str, reason: str, remedy: str) -> None:
    found = unscheduled("p", message)
    assert found.reason == reason and remedy in found.message


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("ImagePullBackOff", 'Back-off pulling image "ghcr.io/x:1"', "ImagePull"),
        ("ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never', "ImagePull"),
        ("InvalidImageName", 'Failed to apply default image tag "X": couldn\'t parse image name', "ImagePull"),
        ("CreateContainerConfigError", 'secret "token" not found', "PodConfiguration"),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", "PodConfiguration"),
        ("ContainerCreating", "", None),
        ("PodInitializing", "", None),
    ],
)
def test_what_keeps_a_container_from_starting(reason: str, message: str, expected: str | None) -> None:
    found = not_started("p", "ghcr.io/x:1", reason, message)
    assert (found.reason if found else None) == expected
    if found is not None:
        assert message in found.message and "correct" in found.message


def test_how_a_container_ended_and_what_helps() -> None:
    assert "raise resources.limits.memory" in ended(137, "OOMKilled", "")
    assert "no such file; correct the image" in ended(128, "StartError", "no such file")
    assert "exit code 1 (Error)" in ended(1, "Error", "") and "see its log" in ended(1, "Error", "")
