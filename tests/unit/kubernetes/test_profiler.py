"""What a model costs is computed by a Job: once, again after a failure but ever more rarely, and not for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest

from frostline_operator.kubernetes.client.api import CONFIG_MAPS, JOBS, STUDIES, ApiError, Manifest, Resource
from frostline_operator.kubernetes.objects import names
from tests.unit.engine.world import PROFILE
from tests.unit.kubernetes.fakes import eventually
from tests.unit.kubernetes.studies import STUDY, Operated


@pytest.fixture
def study() -> Iterator[Operated]:
    operated = Operated()
    yield operated
    operated.close()


def attempts(study: Operated) -> int:
    return sum(
        1 for verb, plural, name in study.api.writes if (verb, plural) == ("create", "jobs") and "profile" in name
    )


def wait_for_caches(study: Operated) -> None:
    """Until the copy of the Jobs is that of the API server."""
    there = {(j["metadata"]["name"], j["metadata"]["uid"]) for j in study.jobs("profile")}
    eventually(
        lambda: {
            (j["metadata"]["name"], j["metadata"]["uid"]) for j in study.caches.jobs(STUDY.namespace, STUDY.uid)
        } == there
    )  # fmt: skip


def test_a_job_that_fails_is_made_again_ever_more_rarely_and_then_no_more(study: Operated) -> None:
    study.reconcile()
    began, made_at = study.now, [study.now]
    for _ in range(200):
        [job] = study.jobs("profile")
        if study.caches.pods(job) == []:
            study.end_profile("Traceback\nMemoryError: no room", 1)
        before = attempts(study)
        study.reconcile()
        wait_for_caches(study)
        if attempts(study) > before:
            made_at.append(study.now)
        study.now += 3
    pauses = [round(b - a) for a, b in pairwise(made_at)]
    assert len(made_at) == 6 and study.now - began == 600, "95 in five minutes, formerly"
    assert pauses == sorted(pauses) and 10 <= pauses[0] <= 14 and 160 <= pauses[-1] <= 166
    failed = study.condition("Failed")
    assert (failed["status"], failed["reason"]) == ("True", "ProfileFailed")
    assert "MemoryError: no room" in failed["message"] and "see its log" in failed["message"]
    assert "is not tried again before the study or the operator's settings are corrected" in failed["message"]
    assert (study.condition("Profiled")["reason"], study.status["phase"]) == ("ProfileFailed", "Failed")


def test_meanwhile_the_condition_says_what_failed_what_helps_and_when_it_is_tried_again(study: Operated) -> None:
    study.reconcile()
    study.end_profile("", 137, "OOMKilled")
    study.reconcile()
    said = study.condition("Profiled")
    assert (said["status"], said["reason"]) == ("False", "ProfileFailed")
    assert said["message"] == (
        "attempt 1 of 6 to profile the model failed: its container ran out of main memory (OOMKilled); raise "
        "resources.limits.memory in the template; it is tried again at 2001-09-09T01:46:50Z"
    )
    before = len(study.api.writes)
    study.now += 2
    study.reconcile()
    assert len(study.api.writes) == before, "nothing is written while it waits"


def test_attempts_are_counted_across_restarts_of_the_operator(study: Operated) -> None:
    study.reconcile()
    study.end_profile("", 137, "OOMKilled")
    study.reconcile()
    study.now += 11
    study.reconcile()
    wait_for_caches(study)
    study.restarted()
    [job] = study.jobs("profile")
    assert job["metadata"]["annotations"][names.ATTEMPT] == "2"
    study.end_profile("", 137, "OOMKilled")
    study.reconcile()
    assert study.condition("Profiled")["message"].startswith("attempt 2 of 6")


def test_a_study_that_is_at_fault_is_not_profiled_again(study: Operated) -> None:
    study.reconcile()
    study.end_profile(json.dumps({"message": "data.path: there is no file x"}), 43)
    study.now += 1000
    study.reconcile()
    assert attempts(study) == 1
    assert study.condition("Profiled")["reason"] == "Impossible"
    assert study.condition("Failed")["message"] == "data.path: there is no file x"


def test_a_corrected_template_is_profiled_at_once_and_the_failure_is_taken_back(study: Operated) -> None:
    study.reconcile()
    study.end_profile(json.dumps({"message": "no module named x"}), 43)
    study.reconcile()
    assert study.condition("Failed")["status"] == "True"
    study.edit(template={"spec": {"priorityClassName": "high"}})
    study.reconcile()
    wait_for_caches(study)
    assert study.condition("Failed")["status"] == "False" and len(study.jobs("profile")) == 1
    study.end_profile()
    study.reconcile()
    assert study.condition("Failed")["status"] == "False" and study.status["phase"] == "Running"
    assert study.jobs("profile") == [], "no Job of the wrong template stays"


def test_a_quota_on_jobs_is_called_one(study: Operated) -> None:
    def refuse(verb: str, resource: Resource, body: Manifest) -> None:
        if resource == JOBS:
            text = 'jobs.batch "x" is forbidden: exceeded quota: few, requested: count/jobs.batch=1, used: 2'
            raise ApiError(403, "Forbidden", text)

    study.api.refuse = refuse
    study.reconcile()
    said = study.condition("Profiled")
    assert said["reason"] == "QuotaExceeded" and "raise the quota" in said["message"]


def test_a_profile_that_is_kept_is_used_by_every_study_of_the_model_and_goes_with_the_last(study: Operated) -> None:
    study.profile()
    [kept] = study.config_maps("frostline-profile-")
    other = {"apiVersion": "v1", "kind": "HPOStudy", "name": "other", "uid": "another"}
    study.api.put(CONFIG_MAPS, {**kept, "metadata": {**kept["metadata"], "ownerReferences": [other]}})
    for chunk in study.config_maps("s-01234567-journal"):
        study.api.delete(CONFIG_MAPS, STUDY.namespace, chunk["metadata"]["name"])
    study.api.put(STUDIES, {key: value for key, value in study.body.items() if key != "status"})  # as a new study is
    made = attempts(study)
    study.restarted()
    study.reconcile()
    assert attempts(study) == made
    [kept] = study.config_maps("frostline-profile-")
    assert [owner["name"] for owner in kept["metadata"]["ownerReferences"]] == ["other", "s"]
    assert json.loads(kept["data"]["profile.json"])["layers"] == PROFILE.layers
