"""What is wrong with a study is said with what helps, and can be put right in the study itself."""

import json
import time

from tests.e2e.operating import Studies, small


def test_a_misspelt_study_is_corrected_by_applying_it_again(studies: Studies) -> None:
    wrong = small(parameters=[{"name": "learning_rate_", "type": "Float", "min": 1e-4, "max": 1e-1, "scale": "Log"}])
    studies.apply("misspelt", wrong)
    refused = studies.wait_condition("misspelt", "Accepted", "False", 60)
    assert "learning_rate_" in refused["message"]
    studies.apply("misspelt", small())
    studies.wait_condition("misspelt", "Accepted", "True", 30)
    status = studies.complete("misspelt")
    assert status["reason"] == "Completed"
    late = studies.client.try_kubectl(
        "-n", studies.namespace, "patch", "hpostudy", "misspelt", "--type=merge", "-p", '{"spec":{"search":{"seed":9}}}'
    )
    assert late.returncode != 0 and "search.seed cannot change once a study runs" in late.stderr


def test_a_profile_that_fails_is_tried_rarely_says_why_and_is_mended_by_an_edit(studies: Studies) -> None:
    broken = {
        "spec": {"containers": [{"name": "trainer", "command": ["/bin/sh", "-c", "echo no such library >&2; exit 3"]}]}
    }
    studies.apply("broken", small(template=broken))
    began = time.monotonic()
    failed = studies.wait_condition("broken", "Profiled", "False", 60)
    studies.until(
        "broken", "it says what failed", lambda: studies.condition("broken", "Profiled")["reason"] == "ProfileFailed"
    )
    failed = studies.condition("broken", "Profiled")
    assert failed["message"].startswith("attempt 1 of 6") and "no such library" in failed["message"]
    studies.until("broken", "attempt 2", lambda: "attempt 2" in studies.condition("broken", "Profiled")["message"], 60)
    assert time.monotonic() - began > 10
    events = studies.client.find("events", studies.namespace, "")
    made = [
        e for e in events if e["reason"] == "SuccessfulCreate" and e["involvedObject"]["name"].startswith("broken-p")
    ]
    assert sum(e.get("count", 1) for e in made) <= 3, "one every three seconds, formerly"
    studies.workloads.kubectl(
        "patch", "hpostudy", "broken", "--type=json", "-p", json.dumps([{"op": "remove", "path": "/spec/template"}])
    )
    assert studies.complete("broken")["reason"] == "Completed"


def test_a_claim_that_is_missing_in_the_namespace_is_named(studies: Studies) -> None:
    claim = {"name": "more", "persistentVolumeClaim": {"claimName": "not-there"}}
    studies.apply("claimless", small(template={"spec": {"volumes": [claim]}}))
    studies.until(
        "claimless",
        "it says what is missing",
        lambda: studies.condition("claimless", "Profiled").get("reason") == "PodConfiguration",
        60,
    )
    message = studies.condition("claimless", "Profiled")["message"]
    assert "create the PersistentVolumeClaim not-there in the study's namespace" in message


def test_a_quota_on_jobs_is_said_of_profiles_as_of_runs(studies: Studies) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    studies.workloads.apply({"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    try:
        studies.apply("limited", small())
        studies.until(
            "limited",
            "it says which quota",
            lambda: studies.condition("limited", "Profiled").get("reason") == "QuotaExceeded",
            60,
        )
        assert "raise the quota" in studies.condition("limited", "Profiled")["message"]
    finally:
        studies.workloads.kubectl("delete", "resourcequota", "few")
    studies.complete("limited")
