"""A study's controller with all that it works with, on an API server in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from frostline_operator.kubernetes.caches import Caches
from frostline_operator.kubernetes.cleanup import Sweeper
from frostline_operator.kubernetes.client.api import CONFIG_MAPS, JOBS, PODS, RECORDED_EVENTS, STUDIES, Api, Manifest
from frostline_operator.kubernetes.cluster import KubernetesCluster, WriteBudget
from frostline_operator.kubernetes.fleet import Fleet
from frostline_operator.kubernetes.journal import Journal, has_begun
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.profiler import Profiler
from frostline_operator.kubernetes.reconciler import Collaborators, Requeue, StudyController
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.kubernetes.status.events import Recorder
from frostline_operator.kubernetes.status.trials import Publisher, TrialWriter
from frostline_operator.kubernetes.status.writer import StatusWriter
from frostline_operator.kubernetes.store import KubernetesStore
from frostline_operator.scores.queries import TargetLabels
from frostline_operator.scores.scores import ScoredStudy, Scores, ScoreSettings
from frostline_operator.scores.scrape import Scraper
from tests.unit.engine.world import PROFILE, study
from tests.unit.kubernetes.fakes import FakeApi, eventually

STUDY = StudyRef("space", "s", "01234567-89ab", {})


class Operated:
    """One study, its operator's parts, and the cluster that they act on."""

    def __init__(self, settings: dict[str, Any] | None = None, **spec: Any) -> None:
        self.api = FakeApi()
        self.now = 1e9
        self._pods = 0
        self.settings = OperatorSettings(checkpoints="s3://bucket/here", cpu_slots=2, **(settings or {}))
        document = study(**spec).model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
        self.api.put(
            STUDIES,
            {
                "apiVersion": "hpo.frostline.dev/v1alpha1",
                "kind": "HPOStudy",
                "metadata": {"name": STUDY.name, "namespace": STUDY.namespace, "uid": STUDY.uid, "generation": 1},
                "spec": document,
            },
        )
        api = cast(Api, self.api)
        self.caches = Caches(api, [STUDY.namespace], lambda uid: None)
        self.fleet = Fleet(api, self.settings, self.caches.owns)
        self.caches.start()
        self.fleet.start()
        eventually(lambda: self.caches.synced and self.fleet.synced)
        self.controller = self.restarted()

    def restarted(self) -> StudyController:
        """A controller that knows nothing but what the API server has."""
        api = cast(Api, self.api)
        recorder, journal, writes = Recorder(api, STUDY), Journal(api, STUDY, has_begun(self.body)), WriteBudget()
        scored = ScoredStudy(STUDY.name, STUDY.namespace, STUDY.uid)
        scores = Scores(scored, Scraper(lambda uid: None), None, ScoreSettings(5.0, 0.0, 1.0, TargetLabels()))
        sweeper = Sweeper(api, self.caches, STUDY, self.settings, recorder)
        collaborators = Collaborators(
            fleet=self.fleet,
            publisher=Publisher(),
            journal=journal,
            store=KubernetesStore(journal, recorder),
            cluster=KubernetesCluster(STUDY, api, self.caches, self.fleet, scores, sweeper, writes, self.settings),
            writes=writes,
            scores=scores,
            profiler=Profiler(api, self.caches, STUDY, self.settings),
            sweeper=sweeper,
            trials=TrialWriter(api, STUDY),
            status=StatusWriter(api, STUDY, recorder, self.status),
        )
        self.controller = StudyController(STUDY, collaborators, self.settings, lambda: self.now)
        return self.controller

    def close(self) -> None:
        self.api.close()
        self.caches.stop()
        self.fleet.stop()

    @property
    def body(self) -> Manifest:
        found = self.api.get(STUDIES, STUDY.namespace, STUDY.name)
        assert found is not None
        return found

    @property
    def status(self) -> Manifest:
        return dict(self.body.get("status") or {})

    def condition(self, kind: str) -> Manifest:
        return next((c for c in self.status.get("conditions", []) if c["type"] == kind), {})

    def reconcile(self) -> Requeue:
        return self.controller.reconcile(self.body)

    def edit(self, **spec: Any) -> None:
        """As kubectl patch would: what is given replaces whole sections, None removes them."""
        body = self.body
        kept = {k: v for k, v in {**body["spec"], **spec}.items() if v is not None}
        generation = body["metadata"]["generation"] + 1
        self.api.put(STUDIES, {**body, "spec": kept, "metadata": {**body["metadata"], "generation": generation}})

    def jobs(self, component: str = "trainer") -> list[Manifest]:
        jobs, _ = self.api.list(JOBS, STUDY.namespace, f"{names.COMPONENT}={component}")
        return jobs

    def events(self) -> list[Manifest]:
        return self.api.list(RECORDED_EVENTS, STUDY.namespace)[0]

    def add_pod(self, job: Manifest, **status: Any) -> str:
        """A pod of a Job; returns its name."""
        self._pods += 1
        name = f"{job['metadata']['name']}-{self._pods}"
        owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
        owner |= {key: job["metadata"][key] for key in ("name", "uid")}
        metadata = {
            "name": name,
            "namespace": STUDY.namespace,
            "labels": job["spec"]["template"]["metadata"]["labels"],
            "creationTimestamp": self.time,
            "ownerReferences": [owner],
        }
        self.api.put(PODS, {"metadata": metadata, "spec": {}, "status": status})
        eventually(lambda: name in {p["metadata"]["name"] for p in self.caches.pods(job)})
        return name

    @property
    def time(self) -> str:
        """Now, as Kubernetes writes it."""
        return datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def end_profile(self, printed: str | None = None, exit_code: int = 0, reason: str = "") -> None:
        """Let the profile's pod end."""
        [job] = self.jobs("profile")
        eventually(lambda: self.caches.job(STUDY.namespace, job["metadata"]["name"]) is not None)
        terminated = {"exitCode": exit_code, "reason": reason or ("Error" if exit_code else "Completed")}
        ended = {"name": names.CONTAINER, "state": {"terminated": {**terminated, "finishedAt": self.time}}}
        name = f"{job['metadata']['name']}-{self._pods + 1}"
        self.api.printed[name] = PROFILE.model_dump_json(by_alias=True) if printed is None else printed
        self.add_pod(job, phase="Failed" if exit_code else "Succeeded", containerStatuses=[ended])

    def profile(self) -> None:
        """Reconcile until the model is profiled and runs begin."""
        self.reconcile()
        self.end_profile()
        self.reconcile()

    def config_maps(self, prefix: str) -> list[Manifest]:
        items, _ = self.api.list(CONFIG_MAPS, STUDY.namespace)
        return [item for item in items if item["metadata"]["name"].startswith(prefix)]
