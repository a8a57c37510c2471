"""Runs as Jobs: how they start, what is seen of them, and what is left of them in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.runspec import run_spec
from frostline_operator.engine.state import Run, RunState
from frostline_operator.kubernetes.caches import Caches
from frostline_operator.kubernetes.cleanup import Sweeper
from frostline_operator.kubernetes.client.api import JOBS, NODES, PODS, Api, ApiError, Manifest
from frostline_operator.kubernetes.cluster import KubernetesCluster, WriteBudget
from frostline_operator.kubernetes.fleet import Fleet
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.kubernetes.status.events import Recorder
from frostline_operator.runtime.protocol import RunView, Trouble
from frostline_operator.scores.queries import TargetLabels
from frostline_operator.scores.scores import ScoredStudy, Scores, ScoreSettings
from frostline_operator.scores.scrape import Scraper
from frostline_trainer.contract import ExitCode, RunResult, TrialResult
from tests.unit.engine.world import PROFILE, World, study
from tests.unit.kubernetes.fakes import FakeApi, eventually

STUDY = StudyRef("space", "s", "01234567-89ab", {})
MADE, LATER = "2027-01-15T08:00:00Z", "2027-01-15T08:00:30Z"


class Place:
    """One study's cluster on an API server in memory, and its state."""

    def __init__(self, api: FakeApi, **spec: Any) -> None:
        self.api = api
        settings = OperatorSettings(cpu_slots=20)
        as_api = cast(Api, api)
        self.caches = Caches(as_api, [], lambda uid: None)
        self.fleet = Fleet(as_api, settings, self.caches.owns)
        self.fleet.start()
        self.caches.start()
        eventually(lambda: self.caches.synced and self.fleet.synced)
        scores = Scores(
            ScoredStudy("s", "space", STUDY.uid),
            Scraper(lambda uid: None),
            None,
            ScoreSettings(15, 10, 2, TargetLabels()),
        )
        sweeper = Sweeper(as_api, self.caches, STUDY, settings, Recorder(as_api, STUDY))
        self.writes = WriteBudget()
        self.cluster = KubernetesCluster(STUDY, as_api, self.caches, self.fleet, scores, sweeper, self.writes, settings)
        self.world = World(study(**spec))
        self.world.tick()
        self.plan = make_plan(self.world.spec, PROFILE)

    def close(self) -> None:
        self.caches.stop()
        self.fleet.stop()

    @property
    def run(self) -> Run:
        return self.world.state.active_runs[0]

    def start(self, run: Run | None = None) -> Trouble | None:
        run = run or self.run
        spec, state = self.world.spec, self.world.state
        where = self.cluster.run_settings(spec, run)
        document = run_spec(
            "s",
            STUDY.uid,
            spec,
            self.plan,
            state,
            run,
            checkpoint=where.checkpoint,
            metrics_port=9090,
            linger_seconds=1,
        )
        return self.cluster.start(spec, run, document)

    def view(self) -> RunView:
        """Of the first run."""
        views = self.cluster.observe(self.world.spec, self.world.state).runs
        return next(view for view in views if view.run == self.run.name)

    def sees(self, phase: str) -> RunView:
        """Wait until the first run has come so far."""
        views: list[RunView] = []
        eventually(lambda: (views.append(self.view()), views[-1].phase == phase)[1])
        return views[-1]

    def job(self, name: str | None = None) -> Manifest:
        found = self.api.get(JOBS, "space", name or self.run.name)
        assert found is not None
        return found

    def pod(self, state: Manifest | None = None, phase: str = "Running", **metadata: Any) -> Manifest:
        """What the Job controller and a kubelet make of the first run's Job."""
        job = self.job()
        labels = {**job["spec"]["template"]["metadata"]["labels"], "batch.kubernetes.io/job-name": self.run.name}
        pod = {
            "metadata": {
                "name": f"{self.run.name}-x",
                "namespace": "space",
                "labels": labels,
                "creationTimestamp": MADE,
                "ownerReferences": [
                    {"kind": "Job", "name": self.run.name, "uid": job["metadata"]["uid"], "controller": True}
                ],
                **metadata,
            },
            "spec": {"nodeName": "n"},
            "status": {"phase": phase, "containerStatuses": [{"name": "trainer", "state": state}] if state else []},
        }
        return self.api.put(PODS, pod)

    def record(self, objective: float = 0.5) -> str:
        """What the first run's trainer leaves as its termination message."""
        trials = [
            TrialResult(
                name=self.world.state.trials[index].name,
                reason="Completed",
                objective=objective,
                tokens=self.run.tokens,
            )
            for index in self.run.trials
        ]
        return RunResult(
            run=self.run.name, layers=self.run.layers, exit_code=ExitCode.DONE, seconds=30.0, trials=trials
        ).model_dump_json(by_alias=True)

    def writes_of(self, verb: str, kind: str = "jobs") -> list[str]:
        return [name for done, plural, name in self.api.writes if (done, plural) == (verb, kind)]


RUNNING = {"running": {"startedAt": MADE}}


def ended(message: str) -> Manifest:
    return {"terminated": {"exitCode": 0, "message": message, "startedAt": MADE, "finishedAt": LATER}}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    yield fake
    fake.close()


@pytest.fixture
def place(api: FakeApi) -> Iterator[Place]:
    made = Place(api)
    yield made
    made.close()


def test_a_run_is_started_once_and_seen_from_its_start_to_its_record(place: Place) -> None:
    assert place.view().phase == "Absent"
    assert place.start() is None and place.start() is None
    assert place.writes_of("create") == [place.run.name]
    place.sees("Starting")
    place.pod(RUNNING)
    assert place.sees("Running").held_seconds >= 0
    place.pod(ended(place.record(0.25)), "Succeeded")
    seen = place.sees("Ended")
    assert seen.result is not None and seen.result.trials[0].objective == 0.25 and seen.held_seconds == 30.0


def test_a_record_outlives_its_pod(place: Place) -> None:
    place.start()
    place.pod(RUNNING)
    place.sees("Running")
    place.pod(ended(place.record()), "Succeeded")
    place.api.delete(PODS, "space", f"{place.run.name}-x")
    seen = place.sees("Ended")
    assert seen.result is not None and seen.result.trials[0].objective == 0.5


def impostor(place: Place, namespace: str, **metadata: Any) -> Manifest:
    """A pod that says of itself what a study's own says, and has a better record than any of these."""
    labels = {**names.labels("s", STUDY.uid, "trainer"), names.RUN: place.run.name}
    state = ended(place.record(-100.0))
    return place.api.put(
        PODS,
        {
            "metadata": {
                "name": "impostor", "namespace": namespace, "labels": labels, "creationTimestamp": LATER, **metadata
            },
            "spec": {"nodeName": "n"},
            "status": {"phase": "Succeeded", "containerStatuses": [{"name": "trainer", "state": state}]},
        },
    )  # fmt: skip


@pytest.mark.parametrize("namespace", ["space", "elsewhere"])
@pytest.mark.parametrize("claims", ["label", "study", "job", "another job"])
def test_a_pod_counts_only_where_a_job_of_the_study_controls_it(place: Place, namespace: str, claims: str) -> None:
    place.start()
    place.pod(RUNNING)
    place.sees("Running")
    uid = place.job()["metadata"]["uid"]
    owner = {
        "label": [],
        "study": [names.owner("s", STUDY.uid)],
        "job": [{"kind": "Job", "name": place.run.name, "uid": uid, "controller": namespace == "elsewhere"}],
        "another job": [{"kind": "Job", "name": place.run.name, "uid": "another", "controller": True}],
    }[claims]
    impostor(place, namespace, ownerReferences=owner)
    place.api.put(PODS, {"metadata": {"name": "last", "namespace": "space", "labels": names.labels("s", "u", "x")}})
    time.sleep(0.1)
    assert place.view().phase == "Running"
    place.pod(ended(place.record(0.25)), "Succeeded")
    seen = place.sees("Ended")
    assert seen.result is not None and seen.result.trials[0].objective == 0.25


@pytest.mark.parametrize("namespace", ["space", "elsewhere"])
def test_a_job_that_only_has_the_label_is_neither_deleted_nor_marked_nor_waited_for(
    place: Place, namespace: str
) -> None:
    labels = {**names.labels("s", STUDY.uid, "trainer"), names.RUN: "s-b0-r0-999"}
    place.api.put(JOBS, {"metadata": {"name": "bystander", "namespace": namespace, "labels": labels}, "spec": {}})
    place.start()
    eventually(lambda: place.caches.job("space", place.run.name) is not None)
    time.sleep(0.1)
    place.world.state.update_run(place.run.name, state=RunState.LOST)
    place.cluster.tidy(place.world.state)
    assert "bystander" not in place.writes_of("delete") + place.writes_of("patch")
    eventually(lambda: not place.cluster.untidy())
    assert place.cluster.stop_all() == 0
    assert place.api.get(JOBS, namespace, "bystander") is not None


@pytest.mark.parametrize("namespace", ["space", "elsewhere"])
def test_a_running_pod_that_only_has_the_label_does_not_hold_up_a_studys_deletion(place: Place, namespace: str) -> None:
    place.start()
    pod = impostor(place, namespace)
    place.api.put(PODS, {**pod, "status": {"phase": "Running", "containerStatuses": []}})
    time.sleep(0.1)
    assert place.cluster.stop_all() == 0


def test_a_gpu_pod_that_says_it_is_frostlines_holds_its_device_all_the_same(place: Place) -> None:
    metadata = {"labels": {"nvidia.com/gpu.memory": "8192", "nvidia.com/gpu.product": "A"}}
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "2"}}
    place.api.put(NODES, {"metadata": {"name": "n", **metadata}, "status": ready})
    container = {"name": "trainer", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    labels = names.labels("s", STUDY.uid, "trainer")
    place.api.put(
        PODS,
        {
            "metadata": {"name": "hidden", "namespace": "elsewhere", "labels": labels},
            "spec": {"nodeName": "n", "containers": [container]},
            "status": {"phase": "Running"},
        },
    )
    eventually(lambda: [(use.devices, use.foreign) for use in place.fleet.use()] == [(2, 1)])


def test_a_start_that_is_refused_is_said_and_not_tried_again_at_once(place: Place) -> None:
    tries = []

    def refuse(verb: str, resource: Any, body: Manifest) -> None:
        tries.append(verb)
        raise ApiError(403, "Forbidden", "exceeded quota: gpus")

    place.api.refuse = refuse
    trouble = place.start()
    assert trouble is not None and trouble.reason == "QuotaExceeded" and "raise the quota" in trouble.message
    assert place.start() == trouble and len(tries) == 1
    view = place.cluster.observe(place.world.spec, place.world.state)
    assert view.troubles == {place.run.name: trouble}


def test_an_api_server_that_is_away_is_no_refusal(place: Place) -> None:
    place.api.fail = ApiError(0, "Unreachable", "the API server does not answer")
    with pytest.raises(ApiError, match="does not answer"):
        place.start()
    assert place.start() is None


def test_a_job_of_another_study_with_the_runs_name_is_left_alone(place: Place) -> None:
    other = names.labels("other", "another-uid", "trainer")
    owner = names.owner("other", "another-uid")
    metadata = {"name": place.run.name, "namespace": "space", "labels": other, "ownerReferences": [owner]}
    place.api.put(JOBS, {"metadata": metadata, "spec": {}})
    trouble = place.start()
    assert trouble is not None and trouble.reason == "NameTaken"
    assert place.view().phase == "Absent"
    place.cluster.stop(place.run)
    assert place.writes_of("delete") == []


def test_one_tick_makes_so_many_jobs_and_leaves_the_rest_to_the_next(api: FakeApi) -> None:
    place = Place(api, search={"trials": 20, "parallelism": 12, "maxTrialsPerRun": 1})
    place.world.classes = tuple(place.cluster.classes(place.world.spec, place.world.state))
    place.world.tick()
    runs = place.world.state.active_runs
    assert len(runs) == 12
    place.view()
    for run in runs:
        place.start(run)
    assert len(place.writes_of("create")) == 8 and place.writes.exceeded
    place.view()
    for run in runs:
        place.start(run)
    assert len(place.writes_of("create")) == 12 and not place.writes.exceeded
    place.close()


def test_a_run_is_stopped_by_deleting_its_job_once(place: Place) -> None:
    place.start()
    place.cluster.stop(place.run)
    eventually(lambda: place.caches.job("space", place.run.name) is None)
    place.cluster.stop(place.run)
    assert place.writes_of("delete") == [place.run.name]


def test_a_job_that_is_over_and_booked_is_marked_and_kept_for_its_logs(place: Place) -> None:
    place.start()
    place.api.patch(JOBS, "space", place.run.name, {"status": {"conditions": [{"type": "Complete", "status": "True"}]}})
    eventually(lambda: bool((place.caches.job("space", place.run.name) or {}).get("status")))
    place.cluster.tidy(place.world.state)
    assert names.BOOKED not in place.job()["metadata"]["labels"], "its end is not in the journal yet"
    assert place.cluster.untidy()
    name = place.run.name
    place.world.state.update_run(name, state=RunState.SUCCEEDED)
    place.cluster.tidy(place.world.state)
    job = place.job(name)
    assert job["metadata"]["labels"][names.BOOKED] == "true" and job["spec"]["ttlSecondsAfterFinished"] == 300
    eventually(lambda: not place.cluster.untidy())


def test_a_job_that_could_go_on_after_its_run_was_booked_is_deleted(place: Place) -> None:
    place.start()
    place.world.state.update_run(place.run.name, state=RunState.LOST)
    place.cluster.tidy(place.world.state)
    assert len(place.writes_of("delete")) == 1


def test_deletion_waits_for_the_pods_of_runs(place: Place) -> None:
    place.start()
    place.pod(RUNNING)
    eventually(lambda: len(place.caches.pods(place.job())) == 1)
    assert place.cluster.stop_all() == 1
    assert place.writes_of("delete") == [place.run.name]
    place.api.delete(PODS, "space", f"{place.run.name}-x")
    eventually(lambda: place.cluster.stop_all() == 0)
