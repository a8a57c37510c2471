"""What a Job and its pod say about a run: pure functions from manifests to what the loop, and people, need to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pydantic

from frostline_operator.engine.state import Run, RunState
from frostline_operator.kubernetes.objects import diagnosis, names
from frostline_operator.runtime.protocol import RunView, Trouble
from frostline_trainer.contract import ExitCode, RunResult

Manifest = Mapping[str, Any]

PATIENCE_SECONDS = 10.0
"""A pod may be Pending so long before anybody is told."""
_LARGEST_RECORD = 16 * 1024
"""Characters of a termination message that are read; a kubelet keeps 4,096 bytes of it."""
_WITHOUT_POD_SECONDS = 5.0
"""A Job without a pod for so long has been refused one; its events say why."""


def view(run: Run, job: Manifest | None, pods: Sequence[Manifest], now: float) -> RunView:
    """What can be seen of a run.

    Args:
        run: as the engine knows it.
        job: its Job, None where there is certainly none.
        pods: its pods, those included that are gone.
        now: seconds since the epoch.
    """
    pod = newest(pods)
    ended = None if pod is None else terminated(pod)
    if pod is not None and (ended is not None or phase(pod) in ("Succeeded", "Failed")):
        result = None if ended is None else read_result(str(ended.get("message") or ""))
        lasted = 0.0 if ended is None else _between(ended.get("startedAt"), ended.get("finishedAt"), now)
        seconds = result.seconds if result is not None else lasted
        message = "" if result is not None else epitaph(pod, ended)
        full = result is None and ended is not None and ended.get("exitCode") == ExitCode.NO_SPACE
        return RunView(run.name, "Ended", result=result, held_seconds=seconds, message=message, no_space=full)
    running = None if pod is None else _running_since(pod)
    held = _between(running, None, now)
    if pod is not None and not pod.get("_gone"):
        return RunView(run.name, "Starting" if running is None else "Running", held_seconds=held)
    # Nobody saw a pod end that is gone with its node: until now, at most, it held its device
    if run.deadline_seconds is not None:
        held = min(held, run.deadline_seconds)
    if job is None:
        if run.state is RunState.PENDING and pod is None:
            return RunView(run.name, "Absent")
        return RunView(run.name, "Ended", held_seconds=held, message="its Job was deleted")
    failed = _condition(job, "Failed") or _condition(job, "FailureTarget")
    over = failed or _condition(job, "Complete") or job["metadata"].get("deletionTimestamp")
    if over or (pod is not None and job.get("spec", {}).get("suspend")):
        message = failed.get("message", "") if failed else "its pod is gone"
        return RunView(run.name, "Ended", held_seconds=held, message=str(message))
    return RunView(run.name, "Starting")


def trouble(
    job: Manifest | None,
    pods: Sequence[Manifest],
    now: float,
    ready: Mapping[str, bool] | None,
    refused: str | None = None,
) -> Trouble | None:
    """What keeps a Job from its work, None where nothing does or it is too early to say.

    Args:
        job: of a run or a profile.
        pods: of the Job.
        now: seconds since the epoch.
        ready: nodes, and whether they are; None where they may not be read.
        refused: why the Job gets no pod (a quota, an admission webhook), which only events say.
    """
    pod = newest(pods)
    if pod is None or pod.get("_gone"):
        return None if job is None else _without_pod(job, bool(pods), now, refused)
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "")
    for status in pod.get("status", {}).get("containerStatuses") or []:
        waiting = status.get("state", {}).get("waiting") or {}
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        found = diagnosis.not_started(name, str(status.get("image", "")), reason, message)
        if found is not None:
            return found
    if ready is not None and node and not ready.get(node, False) and phase(pod) in ("Running", "Pending", "Unknown"):
        text = "is gone" if node not in ready else "does not answer"
        return Trouble(
            "NodeNotReady",
            f"{name} is on node {node}, which {text}; its trials go on once the node is back, or elsewhere once the "
            "operator gives the node up (nodeLostSeconds)",
        )
    scheduled = _pod_condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False" and _age(pod, now) > PATIENCE_SECONDS:
        return diagnosis.unscheduled(name, str(scheduled.get("message", "")))
    return None


def _without_pod(job: Manifest, had_one: bool, now: float, refused: str | None) -> Trouble | None:
    name = job["metadata"]["name"]
    if job.get("spec", {}).get("suspend"):
        queue = (job["metadata"].get("labels") or {}).get(names.QUEUE, "")
        by = f"Kueue's queue {queue} has not admitted it yet" if queue else "somebody suspended it; resume it"
        return Trouble("Queued", f"{name}: {by}", waits=bool(queue))
    if had_one or _age(job, now) < _WITHOUT_POD_SECONDS:
        return None
    return Trouble("NoPod", f"{name} has no pod yet") if refused is None else diagnosis.refusal(name, refused)


def given_up(pod: Manifest, silent_since: float | None, now: float, patience: float) -> str | None:
    """Why a pod is taken to be lost although the API server still has it, None where it is not.

    Nothing that its node does is seen any more, nor does it obey: it may have lost power, or the network only.

    Args:
        pod: of a run.
        silent_since: since when its node has not been ready, None where it is or that is not known.
        now: seconds since the epoch.
        patience: seconds that a node may be silent.
    """
    if has_ended(pod):
        return None
    node = pod.get("spec", {}).get("nodeName", "")
    if silent_since is not None and now - silent_since > patience:
        return f"its node {node} has not answered for {now - silent_since:.0f} s; it is given up"
    due = parse_time(pod["metadata"].get("deletionTimestamp"))  # Kubernetes' own deadline, the grace included
    if due is not None and node and now - due > patience:
        return f"it was to end {now - due:.0f} s ago, and its node {node} does not say that it has; it is given up"
    return None


def newest(pods: Sequence[Manifest]) -> Manifest | None:
    """The pod made last: there is but one, unless somebody interfered."""
    return max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)


def phase(pod: Manifest) -> str:
    """Of the pod, as Kubernetes has it."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def has_ended(pod: Manifest) -> bool:
    """Whether a pod's trainer is done, though the pod's phase may lag behind."""
    return terminated(pod) is not None or phase(pod) in ("Succeeded", "Failed")


def is_over(job: Manifest) -> bool:
    """Whether a Job has ended, well or not."""
    return _condition(job, "Complete") is not None or _condition(job, "Failed") is not None


def succeeded(job: Manifest) -> bool:
    """Whether a Job has ended well."""
    return _condition(job, "Complete") is not None


def ended_at(job: Manifest) -> float | None:
    """When a Job ended, in seconds since the epoch; None before its end."""
    said = _condition(job, "Complete") or _condition(job, "Failed")
    return None if said is None else parse_time(said.get("lastTransitionTime"))


def address(pod: Manifest, port: int) -> str | None:
    """Where the pod's metrics are, None while it has no address or does not run."""
    ip = pod.get("status", {}).get("podIP")
    if not ip or phase(pod) != "Running" or _running_since(pod) is None:
        return None
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def read_result(message: str) -> RunResult | None:
    """The durable record in a termination message, None where it is no such thing."""
    if len(message) > _LARGEST_RECORD:
        return None
    try:
        return RunResult.model_validate_json(message)
    except pydantic.ValidationError:
        return None


def trimmed(pod: dict[str, Any]) -> dict[str, Any]:
    """A pod without what nobody here looks at; there may be thousands."""
    metadata, status = pod["metadata"], pod.get("status", {})
    kept = (
        "name", "namespace", "uid", "labels", "ownerReferences", "creationTimestamp", "deletionTimestamp",
        "resourceVersion",
    )  # fmt: skip
    return {
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"nodeName": pod.get("spec", {}).get("nodeName", "")},
        "status": {
            key: status[key]
            for key in ("phase", "podIP", "conditions", "containerStatuses", "reason", "message")
            if key in status
        },
    }


def pod_digest(pod: Manifest) -> object:
    """What of a pod is worth a look at its study: how far its container is, where it runs, and what keeps it."""
    container, waits = _container(pod), _pod_condition(pod, "PodScheduled") or {}
    return (
        phase(pod),
        container.get("state"),
        pod.get("spec", {}).get("nodeName", ""),
        pod.get("status", {}).get("podIP"),
        pod["metadata"].get("deletionTimestamp"),
        waits.get("status"),
    )


def job_digest(job: Manifest) -> object:
    """What of a Job is worth a look at its study: not how many of its pods are active, which the pods say."""
    said = [(c.get("type"), c.get("status")) for c in job.get("status", {}).get("conditions") or []]
    return said, job.get("spec", {}).get("suspend"), job["metadata"].get("deletionTimestamp")


def _container(pod: Manifest) -> Manifest:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    found: Manifest = next((s for s in statuses if s.get("name") == names.CONTAINER), {})
    return found


def terminated(pod: Manifest) -> Manifest | None:
    """The end of the trainer's container, None before it."""
    found: Manifest | None = (_container(pod).get("state") or {}).get("terminated")
    return found


def _running_since(pod: Manifest) -> str | None:
    running = (_container(pod).get("state") or {}).get("running")
    return None if running is None else str(running.get("startedAt", ""))


def epitaph(pod: Manifest, ended: Manifest | None) -> str:
    """In words, how a pod ended that left no record."""
    disrupted = _pod_condition(pod, "DisruptionTarget")
    if disrupted is not None and disrupted.get("status") == "True":
        return f"its pod was disrupted ({disrupted.get('reason', '')}): {disrupted.get('message', '')}"
    if ended is None:
        status = pod.get("status", {})
        return f"its pod ended without running ({status.get('reason', '')}): {status.get('message', '')}"
    return diagnosis.ended(ended.get("exitCode"), str(ended.get("reason", "")), str(ended.get("message", "")))


def _condition(job: Manifest, kind: str) -> Manifest | None:
    conditions = job.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == kind and c.get("status") == "True"), None)


def _pod_condition(pod: Manifest, kind: str) -> Manifest | None:
    return next((c for c in pod.get("status", {}).get("conditions") or [] if c.get("type") == kind), None)


def _age(item: Manifest, now: float) -> float:
    return _between(item["metadata"].get("creationTimestamp"), None, now)


def _between(since: object, until: object, now: float) -> float:
    start = parse_time(since)
    end = parse_time(until) or now
    return 0.0 if start is None else max(0.0, end - start)


def parse_time(text: object) -> float | None:
    """Seconds since the epoch of a Kubernetes timestamp."""
    if not isinstance(text, str) or not text:
        return None
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
