"""What Jobs and pods say about runs."""

from dataclasses import replace
from typing import Any

import pytest

from frostline_operator.engine.state import Amounts, Run, RunState
from frostline_operator.kubernetes.objects.views import (
    address,
    given_up,
    has_ended,
    read_result,
    trimmed,
    trouble,
    view,
)
from frostline_trainer.contract import ExitCode, RunResult, TrialResult

NOW = 1_800_000_100.0
MADE = "2027-01-15T08:00:00Z"  # 1_800_000_000
LATER = "2027-01-15T08:00:30Z"


def run(state: RunState = RunState.RUNNING) -> Run:
    return Run("s-b0-r0-000", 0, 0, 1, 100, 0, (0,), "8Gi", state, Amounts())


def job(*conditions: str, deleted: bool = False, suspend: bool = False, **labels: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "s-b0-r0-000", "labels": labels, "creationTimestamp": MADE}
    if deleted:
        metadata["deletionTimestamp"] = LATER
    listed = [{"type": c, "status": "True", "message": "why"} for c in conditions]
    return {"metadata": metadata, "spec": {"suspend": suspend}, "status": {"conditions": listed}}


def pod(phase: str = "Running", state: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    statuses = [] if state is None else [{"name": "trainer", "image": "img", "state": state}]
    return {
        "metadata": {"name": "p", "creationTimestamp": MADE, "labels": {}},
        "spec": {"nodeName": more.pop("node", "n")},
        "status": {"phase": phase, "podIP": "10.0.0.7", "containerStatuses": statuses, **more},
    }


RUNNING = {"running": {"startedAt": MADE}}
RESULT = RunResult(
    run="s-b0-r0-000", layers=1, exit_code=ExitCode.DONE, seconds=12.5,
    trials=[TrialResult(name="s-0000", reason="Completed", objective=0.25, tokens=100)],
)  # fmt: skip


def ended(code: int = 0, message: str = "", reason: str = "Completed") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason,
                           "startedAt": MADE, "finishedAt": LATER}}  # fmt: skip


@pytest.mark.parametrize(
    ("state", "the_job", "pods", "phase"),
    [
        (RunState.PENDING, None, [], "Absent"),
        (RunState.PENDING, job(), [], "Starting"),
        (RunState.PENDING, job(), [pod("Pending")], "Starting"),
        (RunState.PENDING, job(), [pod("Running", RUNNING)], "Running"),
        (RunState.RUNNING, job(), [pod("Running", RUNNING)], "Running"),
        (RunState.RUNNING, None, [pod("Running", RUNNING)], "Running"),
        (RunState.RUNNING, None, [], "Ended"),
        (RunState.STOPPING, None, [], "Ended"),
        (RunState.RUNNING, job("Failed"), [], "Ended"),
        (RunState.RUNNING, job("Complete"), [], "Ended"),
        (RunState.STOPPING, job(deleted=True), [], "Ended"),
        (RunState.STOPPING, job(deleted=True), [pod("Running", RUNNING)], "Running"),
        (RunState.RUNNING, job("Complete"), [pod("Succeeded", ended())], "Ended"),
        (RunState.RUNNING, job(), [pod("Running", ended())], "Ended"),
        (RunState.RUNNING, job(), [{**pod("Running", RUNNING), "_gone": True}], "Starting"),
        (RunState.RUNNING, job(suspend=True), [{**pod("Running", RUNNING), "_gone": True}], "Ended"),
        (RunState.PENDING, job(suspend=True), [], "Starting"),
    ],
)
def test_phases(state: RunState, the_job: dict[str, Any] | None, pods: list[dict[str, Any]], phase: str) -> None:
    assert view(run(state), the_job, pods, NOW).phase == phase


@pytest.mark.parametrize("the_job", [None, job("Failed"), job(deleted=True)])
def test_a_pod_that_vanished_with_its_node_is_charged_for_the_time_it_held_its_device(
    the_job: dict[str, Any] | None,
) -> None:
    gone = {**pod("Running", RUNNING), "_gone": True}
    there = view(run(), job(), [pod("Running", RUNNING)], NOW)
    seen = view(run(), the_job, [gone], NOW)
    assert seen.phase == "Ended" and seen.held_seconds == there.held_seconds > 0
    # Not for more than it was given, however late its end was noticed
    bounded = view(replace(run(), deadline_seconds=120.0), the_job, [gone], NOW + 99_999)
    assert bounded.held_seconds == 120.0


def test_a_record_is_read_and_says_how_long_it_took() -> None:
    seen = view(run(), job("Complete"), [pod("Succeeded", ended(0, RESULT.to_json()))], NOW)
    assert seen.result == RESULT
    assert seen.held_seconds == 12.5
    assert seen.message == ""


def test_without_a_record_the_pod_is_asked() -> None:
    seen = view(run(), None, [pod("Failed", ended(137, "garbage", "Error"))], NOW)
    assert seen.result is None
    assert seen.held_seconds == 30.0
    assert "exit code 137" in seen.message


def test_an_exit_code_says_that_there_was_no_space_for_a_record() -> None:
    full = view(run(), None, [pod("Failed", ended(ExitCode.NO_SPACE, "", "Error"))], NOW)
    assert full.no_space and "no space" in full.message
    assert not view(run(), None, [pod("Failed", ended(ExitCode.INFRASTRUCTURE, "", "Error"))], NOW).no_space


@pytest.mark.parametrize(
    ("the_pod", "words"),
    [
        (pod("Failed", ended(137, "", "OOMKilled")), "raise resources.limits.memory"),
        (pod("Failed", ended(128, "no such file", "StartError")), "no such file; correct the image"),
        (pod("Failed", None, reason="Evicted", message="disk"), "ended without running (Evicted): disk"),
        (
            pod("Failed", ended(143), conditions=[
                {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "evicted"}
            ]),
            "disrupted (EvictionByEvictionAPI)",
        ),
    ],
)  # fmt: skip
def test_what_a_person_is_told_of_an_end(the_pod: dict[str, Any], words: str) -> None:
    assert words in view(run(), None, [the_pod], NOW).message


def test_the_pod_made_last_counts() -> None:
    old = pod("Failed", ended(1))
    new = pod("Running", RUNNING)
    new["metadata"]["creationTimestamp"] = LATER
    assert view(run(), job(), [new, old], NOW).phase == "Running"


@pytest.mark.parametrize(
    ("the_job", "the_pod", "ready", "reason"),
    [
        (job(), pod("Pending", {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}), {"n": True}, "ImagePull"),
        (job(), pod("Pending", {"waiting": {"reason": "CreateContainerConfigError"}}), {"n": True}, "PodConfiguration"),
        (job(), pod("Running", RUNNING), {"n": False}, "NodeNotReady"),
        (job(), pod("Running", RUNNING), {}, "NodeNotReady"),
        (job(), pod("Running", RUNNING), {"n": True}, None),
        (
            job(), pod("Pending", node="", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/2"}]),
            {"n": True}, "Unschedulable",
        ),
        (job(suspend=True), None, {}, "Queued"),
        (job(), None, {}, "NoPod"),
    ],
)  # fmt: skip
def test_troubles_have_a_reason_and_a_remedy(
    the_job: dict[str, Any], the_pod: dict[str, Any] | None, ready: dict[str, bool], reason: str | None
) -> None:
    found = trouble(the_job, [] if the_pod is None else [the_pod], NOW, ready)
    assert (found.reason if found else None) == reason
    if found is not None:
        assert found.message.startswith(("p ", "s-b0-r0-000"))


def test_a_pod_that_has_just_been_made_is_no_trouble() -> None:
    fresh = pod("Pending", node="", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/2"}])
    assert trouble(job(), [fresh], NOW - 95, {}) is None


def test_waiting_for_kueue_is_nothing_wrong() -> None:
    queued = job(suspend=True, **{"kueue.x-k8s.io/queue-name": "gpus"})
    found = trouble(queued, [], NOW, {})
    assert found is not None and found.waits and "gpus" in found.message


def test_addresses() -> None:
    assert address(pod("Running", RUNNING), 9090) == "10.0.0.7:9090"
    assert address(pod("Pending"), 9090) is None
    six = pod("Running", RUNNING)
    six["status"]["podIP"] = "fd00::1"
    assert address(six, 9090) == "[fd00::1]:9090"


def test_trimmed_pods_tell_the_same() -> None:
    whole = pod("Succeeded", ended(0, RESULT.to_json()))
    whole["spec"]["containers"] = [{"name": "trainer", "env": ["large"] * 100}]
    assert view(run(), None, [trimmed(whole)], NOW) == view(run(), None, [whole], NOW)
    assert "containers" not in trimmed(whole)["spec"]


def test_a_trainer_that_is_done_has_ended_before_its_pod_says_so() -> None:
    assert has_ended(pod("Running", ended()))
    assert has_ended(pod("Failed"))
    assert not has_ended(pod("Running", RUNNING))


def test_a_run_on_a_silent_node_is_given_up_after_a_while() -> None:
    here = pod("Running", RUNNING)
    assert given_up(here, None, NOW, 300) is None
    assert given_up(here, NOW - 299, NOW, 300) is None
    assert "n has not answered for 301 s" in str(given_up(here, NOW - 301, NOW, 300))
    # What has ended has said so: its record counts, whatever became of the node
    assert given_up(pod("Running", ended(0, RESULT.to_json())), NOW - 999, NOW, 300) is None


def test_a_pod_that_was_to_end_long_ago_is_given_up_where_nodes_cannot_be_read() -> None:
    doomed = pod("Running", RUNNING)
    doomed["metadata"]["deletionTimestamp"] = LATER  # 70 s ago
    assert given_up(doomed, None, NOW, 300) is None
    assert "70 s ago" in str(given_up(doomed, None, NOW, 60))
    doomed["spec"]["nodeName"] = ""
    assert given_up(doomed, None, NOW, 60) is None


def test_unreadable_nodes_are_no_trouble() -> None:
    assert trouble(job(), [pod("Running", RUNNING)], NOW, {}) is not None
    assert trouble(job(), [pod("Running", RUNNING)], NOW, None) is None


def test_a_message_that_no_kubelet_keeps_is_no_record() -> None:
    text = RESULT.model_dump_json(by_alias=True)
    assert read_result(text) == RESULT
    assert read_result(text + " " * 20_000) is None
    assert read_result("[" * 10_000) is None
