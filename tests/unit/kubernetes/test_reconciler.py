"""A study's rounds: accepted, profiled, run, finished, and deleted; one patch of the status per round."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from frostline_operator.kubernetes.client.api import CONFIG_MAPS, JOBS, PODS, ApiError, Manifest
from tests.unit.kubernetes.fakes import eventually
from tests.unit.kubernetes.studies import STUDY, Operated

FORMAT_LABEL = "hpo.frostline.dev/study-journal-format"


@pytest.fixture
def study() -> Iterator[Operated]:
    operated = Operated()
    yield operated
    operated.close()


def status_writes(study: Operated) -> int:
    return sum(1 for verb, plural, _ in study.api.writes if (verb, plural) == ("patch", "hpostudies"))


def test_a_study_that_cannot_be_run_waits_for_a_person(study: Operated) -> None:
    study.edit(parameters=[])
    requeue = study.reconcile()
    assert (requeue.after, requeue.why) == (30.0, "a person has to correct the study")
    assert study.condition("Accepted")["status"] == "False"
    assert "parameters" in study.condition("Accepted")["message"]
    assert study.jobs("profile") == []
    before = len(study.api.writes)
    study.reconcile()
    assert len(study.api.writes) == before


def test_a_profile_comes_first_and_runs_follow_it(study: Operated) -> None:
    requeue = study.reconcile()
    assert requeue.why == "the model is being profiled"
    assert study.status["phase"] == "Profiling" and study.jobs() == []
    assert (study.condition("Profiled")["reason"], study.condition("Progressing")["status"]) == ("Computing", "True")
    study.end_profile()
    study.reconcile()
    assert study.condition("Profiled")["status"] == "True"
    assert study.status["phase"] == "Running" and len(study.jobs()) == 2
    assert study.jobs("profile") == []


def test_each_round_writes_the_status_at_most_once_and_a_calm_one_not_at_all(study: Operated) -> None:
    for _ in range(2):
        before = status_writes(study)
        study.reconcile()
        assert status_writes(study) - before <= 1
    study.end_profile()
    before = status_writes(study)
    study.reconcile()
    assert status_writes(study) - before == 1
    study.now += 1.0
    before = len(study.api.writes)
    study.reconcile()
    assert len(study.api.writes) == before


def test_what_could_not_be_written_is_written_in_the_next_round_with_its_events(study: Operated) -> None:
    study.edit(parameters=[])
    study.api.fail = ApiError(500, "InternalError", "not now")
    with pytest.raises(ApiError, match="not now"):
        study.reconcile()
    assert study.status == {} and study.events() == []
    study.reconcile()
    assert study.condition("Accepted")["reason"] == "Invalid"
    assert [event["reason"] for event in study.events()] == ["Invalid"]


def test_a_study_whose_profile_is_in_the_journal_says_so_whatever_its_status_said_before(study: Operated) -> None:
    study.reconcile()
    study.end_profile()
    study.api.refuse = lambda verb, resource, body: refuse_jobs(resource.plural)
    with pytest.raises(ApiError):
        study.reconcile()  # the operator ends between the journal's record and the status
    assert study.condition("Profiled")["reason"] == "Computing"
    study.api.refuse = lambda verb, resource, body: None
    study.restarted()
    study.reconcile()
    assert study.condition("Profiled")["status"] == "True"


def refuse_jobs(plural: str) -> None:
    if plural == "jobs":
        raise ApiError(503, "ServiceUnavailable", "the operator is about to end")


def test_a_journal_that_somebody_else_wrote_is_read_again(study: Operated) -> None:
    study.reconcile()
    [chunk] = study.config_maps("s-01234567-journal")
    study.api.put(CONFIG_MAPS, chunk)
    study.end_profile()
    assert study.reconcile().why == "somebody else wrote its journal"
    study.reconcile()
    assert study.status["phase"] == "Running"


def test_a_deleted_study_stops_its_runs_waits_for_their_pods_and_starts_nothing_more(study: Operated) -> None:
    study.profile()
    [first, _] = study.jobs()
    eventually(lambda: study.caches.job(STUDY.namespace, first["metadata"]["name"]) is not None)
    pod = study.add_pod(first, phase="Running")
    study.reconcile()
    eventually(lambda: len(study.caches.jobs(STUDY.namespace, STUDY.uid)) == 2)
    assert study.controller.delete(study.body) == 1
    assert study.jobs() == []
    assert study.reconcile().why == "the study is being deleted" and study.jobs() == []
    study.api.delete(PODS, STUDY.namespace, pod)
    eventually(lambda: study.caches.pods(first) == [])
    assert study.controller.delete(study.body) == 1, "its checkpoints are being removed"
    [clean] = study.jobs("cleanup")
    study.api.put(JOBS, {**clean, "status": {"conditions": [{"type": "Complete", "status": "True"}]}})
    assert study.controller.delete(study.body) == 0


def test_a_suspended_study_without_runs_is_looked_at_rarely(study: Operated) -> None:
    study.edit(suspend=True)
    study.profile()
    assert study.reconcile().why == "the study is suspended"
    assert study.status["phase"] == "Suspended" and study.jobs() == []


def test_an_invalid_study_can_be_corrected(study: Operated) -> None:
    right = study.body["spec"]["parameters"]
    study.edit(parameters=[{**right[0], "name": "learning_rat"}])
    study.reconcile()
    assert study.condition("Accepted")["status"] == "False"
    study.edit(parameters=right)
    study.profile()
    assert study.condition("Accepted")["status"] == "True" and len(study.jobs()) == 2


def test_before_the_first_run_anything_may_be_changed_and_the_model_is_profiled_anew(study: Operated) -> None:
    study.reconcile()
    [before] = study.jobs("profile")
    study.edit(model={"family": "CausalLM", "config": {"model_type": "gpt2", "n_layer": 3}})
    study.reconcile()
    assert study.condition("Accepted")["status"] == "True"
    [after] = study.jobs("profile")
    assert after["metadata"]["name"] != before["metadata"]["name"], "the Job of the former model is gone"


def test_from_the_first_run_on_results_of_different_studies_are_not_mixed(study: Operated) -> None:
    study.profile()
    for controller in (study.controller, study.restarted()):
        study.controller = controller
        study.edit(training={"batchSize": 6, "sequenceLength": 2})
        study.reconcile()
        refused = study.condition("Accepted")
        assert (
            refused["status"] == "False" and "spec.training changed although the study has begun" in refused["message"]
        )
        study.edit(training={"batchSize": 5, "sequenceLength": 2})
        study.reconcile()
        assert study.condition("Accepted")["status"] == "True"


@pytest.mark.parametrize("restarted", [False, True], ids=["same operator", "operator restarted"])
def test_an_edit_that_is_refused_stops_and_books_what_runs_until_it_is_corrected(
    study: Operated, restarted: bool
) -> None:
    study.profile()
    assert len(study.jobs()) == 2
    right = study.body["spec"]["parameters"]
    study.edit(parameters=[])
    if restarted:
        study.restarted()
    assert study.reconcile().why == "runs are stopped until a person has corrected the study"
    assert study.jobs() == []
    eventually(lambda: study.caches.jobs(STUDY.namespace, STUDY.uid) == [])
    study.now += 10
    assert study.reconcile().why == "a person has to correct the study"
    assert study.status["phase"] == "Invalid"
    study.edit(parameters=right)
    study.reconcile()
    assert study.status["phase"] == "Running" and len(study.jobs()) == 2


def test_a_profile_that_came_before_the_study_was_changed_is_not_used_for_it(study: Operated) -> None:
    study.edit(suspend=True)
    study.reconcile()
    study.end_profile()
    study.api.refuse = lambda verb, resource, body: refuse_a_start(verb, resource.plural, body)
    with pytest.raises(ApiError):
        study.reconcile()  # the profile is in the journal, the study's beginning is not
    study.api.refuse = lambda verb, resource, body: None
    study.edit(model={"family": "CausalLM", "config": {"model_type": "gpt2", "n_layer": 3}})
    study.restarted()
    assert study.reconcile().why == "the model is being profiled"


def refuse_a_start(verb: str, plural: str, body: Manifest) -> None:
    if plural == "configmaps" and "startedAt" in str(body):
        raise ApiError(503, "ServiceUnavailable", "the operator is about to end")


def test_a_study_whose_journal_is_lost_says_so_starts_nothing_anew_and_goes_on_once_it_is_back(study: Operated) -> None:
    study.profile()
    [chunk] = study.config_maps("s-01234567-journal")
    jobs = len(study.jobs())
    study.api.delete(CONFIG_MAPS, "space", chunk["metadata"]["name"])
    study.restarted()
    assert study.reconcile().after == 30.0
    said = study.condition("Progressing")
    assert (said["status"], said["reason"]) == ("False", "JournalUnreadable")
    assert "all of its ConfigMaps are missing" in said["message"] and "restore it" in study.status["message"]
    assert len(study.jobs()) == jobs
    study.api.put(CONFIG_MAPS, chunk)
    study.reconcile()
    assert study.condition("Progressing")["status"] == "True" and len(study.jobs()) == jobs


@pytest.mark.parametrize("damage", [{"data": {"000000": "{"}}, {"metadata": {"labels": {FORMAT_LABEL: "99"}}}])
def test_a_journal_that_cannot_be_read_holds_up_no_deletion(study: Operated, damage: Manifest) -> None:
    study.profile()
    [chunk] = study.config_maps("s-01234567-journal")
    study.api.patch(CONFIG_MAPS, "space", chunk["metadata"]["name"], damage)
    study.restarted()
    study.reconcile()
    assert study.condition("Progressing")["reason"] == "JournalUnreadable"
    left = []
    for _ in range(50):
        left.append(study.controller.delete(study.body))
        if left[-1] == 0:
            break
        for job in study.jobs("cleanup"):
            done = {"conditions": [{"type": "Complete", "status": "True"}]}
            study.api.patch(JOBS, "space", job["metadata"]["name"], {"status": done})
        time.sleep(0.01)
    assert left[-1] == 0 and study.jobs() == [] and study.jobs("cleanup") == []
