"""`Cluster` on Kubernetes: runs are Jobs. One object per study, over caches that all studies share."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.state import MemoryClass, Run, StudyState
from frostline_operator.kubernetes.caches import Caches
from frostline_operator.kubernetes.cleanup import Sweeper
from frostline_operator.kubernetes.client.api import CONFIG_MAPS, JOBS, Api, ApiError, Manifest
from frostline_operator.kubernetes.fleet import Fleet
from frostline_operator.kubernetes.objects import diagnosis, names, views
from frostline_operator.kubernetes.objects.jobs import METRICS_PORT, StudyRef, build_run_document, build_run_job
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.runtime.backoff import Backoff
from frostline_operator.runtime.protocol import ClusterView, RunSettings, RunView, Trouble
from frostline_operator.scores.scores import Scores
from frostline_trainer.contract import RunSpec

log = logging.getLogger(__name__)

_MOST_WRITES = 8
"""Jobs that one tick makes, deletes or marks: the next one comes at once, but has looked at the study before."""


class WriteBudget:
    """How many Jobs one tick may still make, delete or mark."""

    def __init__(self, most: int = _MOST_WRITES) -> None:
        self._most = self._left = most

    def renew(self) -> None:
        """A tick begins."""
        self._left = self._most

    def take(self) -> bool:
        """Whether one more write may be made now."""
        self._left -= 1
        return self._left >= 0

    @property
    def exceeded(self) -> bool:
        """Whether this tick has left writes to the next one."""
        return self._left < 0


@dataclass
class _Refusal:
    """A start that the API server did not take."""

    trouble: Trouble
    next_try: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(2.0, 30.0))


@dataclass
class _Attempt:
    """A Job of the study's, as it was when it was first seen: its pods are told by its uid, also when it is gone."""

    job: Manifest
    pods: set[str] = field(default_factory=set)
    """Names of its pods."""

    @property
    def as_controller(self) -> names.Controller:
        return names.Controller("Job", self.job["metadata"]["name"], self.job["metadata"]["uid"])


class KubernetesCluster:
    """The Jobs of one study.

    Args:
        study: whose.
        api, caches, fleet: shared by all studies.
        scores: where the study's values come from.
        sweeper: of the study's checkpoints.
        writes: how much one tick may write.
        settings: of the operator.
    """

    def __init__(
        self,
        study: StudyRef,
        api: Api,
        caches: Caches,
        fleet: Fleet,
        scores: Scores,
        sweeper: Sweeper,
        writes: WriteBudget,
        settings: OperatorSettings,
    ) -> None:
        self.study = study
        self._api, self._caches, self._fleet, self._scores = api, caches, fleet, scores
        self._sweeper, self._writes, self._settings = sweeper, writes, settings
        self._refusals: dict[str, _Refusal] = {}
        self._attempts: dict[str, _Attempt] = {}
        """By run."""

    def classes(self, spec: HPOStudySpec, state: StudyState) -> tuple[MemoryClass, ...]:
        """What the study may use now: see `Fleet.offer`."""
        return self._fleet.offer(self.study.uid, spec, state)

    def observe(self, spec: HPOStudySpec, state: StudyState) -> ClusterView:
        """Jobs and pods from the caches, values as they came in; a request only where something is missing."""
        now = time.time()
        self._scores.collect(spec, state, now)
        self._writes.renew()
        ready = self._fleet.ready_nodes()
        troubles = {name: refusal.trouble for name, refusal in self._refusals.items()}
        active = [self._look_at(run, state, now, ready, troubles) for run in state.active_runs]
        awaiting = [RunView(run.name, "Ended", self._scores.late(run)) for run in state.awaiting_runs]
        return ClusterView((*active, *awaiting), troubles, self._scores.patience())

    def _look_at(
        self,
        run: Run,
        state: StudyState,
        now: float,
        ready: dict[str, bool] | None,
        troubles: dict[str, Trouble],
    ) -> RunView:
        attempt = self._attempts.get(run.name)
        job = self._caches.job(self.study.namespace, run.name)
        if job is None and (run.state != "Pending" or attempt is not None):
            job = self._api.get(JOBS, self.study.namespace, run.name)
        if job is not None and not self._is_ours(job):
            job = None
        if job is not None and (attempt is None or attempt.job["metadata"]["uid"] != job["metadata"]["uid"]):
            attempt = self._attempts[run.name] = _Attempt(job)
        pods = [] if attempt is None else self._pods(attempt)
        view = views.view(run, job, pods, now)
        lost = self._given_up(views.newest(pods), now)
        if lost is not None and view.phase != "Ended":
            view = replace(view, phase="Ended", message=lost)
        why = None if pods else self._caches.refused(self.study.namespace, run.name)
        trouble = views.trouble(job, pods, now, ready, why)
        if trouble is not None and view.phase in ("Starting", "Running"):
            troubles[run.name] = trouble
        if view.phase == "Ended":
            view = replace(view, samples=self._scores.late(run), saved=self._scores.last_saved(run))
            self._forget(run.name)
            troubles.pop(run.name, None)
            return view
        pod = views.newest(pods)
        where = None if pod is None or pod.get("_gone") else views.address(pod, METRICS_PORT)
        if where is None:
            return view
        exposition = self._scores.of(run, [state.trials[index].name for index in run.trials], where)
        return replace(view, samples=exposition.samples, saved=exposition.saved)

    def _pods(self, attempt: _Attempt) -> list[Manifest]:
        """The pods of a run's Job, those that are gone where none is left."""
        pods = self._caches.pods(attempt.job)
        attempt.pods.update(pod["metadata"]["name"] for pod in pods)
        if pods:
            return pods
        gone = (self._caches.pod_gone(self.study.namespace, name) for name in attempt.pods)
        return [pod for pod in gone if pod is not None and names.controller(pod) == attempt.as_controller]

    def _given_up(self, pod: Mapping[str, Any] | None, now: float) -> str | None:
        if pod is None or pod.get("_gone"):
            return None
        silent = self._fleet.silent_since(str(pod.get("spec", {}).get("nodeName", "")))
        return views.given_up(pod, silent, now, self._settings.node_lost_seconds)

    def run_settings(self, spec: HPOStudySpec, run: Run) -> RunSettings:
        """Checkpoints under the operator's folder or URL; memory is kept to where a person says how much there is."""
        classes, _ = self._fleet.classes(spec)
        chosen = classes.get(run.memory_class)
        study = self.study
        return RunSettings(
            checkpoint=names.checkpoint_folder(self._settings.checkpoints, study.namespace, study.name, study.uid),
            metrics_port=METRICS_PORT,
            linger_seconds=self._scores.linger_seconds(),
            memory_limit=chosen.usable_bytes if chosen is not None and chosen.declared else None,
        )

    def start(self, spec: HPOStudySpec, run: Run, document: RunSpec) -> Trouble | None:
        """Create the run's Job unless it is there. What is refused is tried again, ever more rarely."""
        job = self._caches.job(self.study.namespace, run.name)
        refusal = self._refusals.get(run.name)
        if job is not None and self._is_ours(job):
            return None
        if refusal is not None and time.monotonic() < refusal.next_try:
            return refusal.trouble
        if not self._writes.take():
            return None
        classes, _ = self._fleet.classes(spec)
        chosen = classes.get(run.memory_class)
        if chosen is None:
            return self._refuse(run.name, Trouble("NoNode", f"{run.name}: no node of class {run.memory_class} is left"))
        try:
            large = build_run_document(self.study, run, document)
            if large is not None:
                self._create(CONFIG_MAPS, large)
            job = self._create(JOBS, build_run_job(self.study, run, document, chosen, self._settings, spec.template))
        except ApiError as error:
            if error.passing:
                raise
            return self._refuse(run.name, diagnosis.refusal(run.name, str(error)))
        if job is not None and not self._is_ours(job):
            return self._refuse(
                run.name, Trouble("NameTaken", f"a Job {run.name} of another study is there; delete it")
            )
        self._refusals.pop(run.name, None)
        if job is not None:
            self._caches.put_job(job)
            self._attempts.setdefault(run.name, _Attempt(job))
        return None

    def _create(self, resource: Any, body: Manifest) -> Manifest | None:
        """Create, or find what an earlier attempt made."""
        try:
            return self._api.create(resource, self.study.namespace, body)
        except ApiError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                return self._api.get(resource, self.study.namespace, body["metadata"]["name"])
            raise

    def _refuse(self, run: str, trouble: Trouble) -> Trouble:
        refusal = self._refusals.setdefault(run, _Refusal(trouble))
        refusal.trouble = trouble
        refusal.next_try = time.monotonic() + refusal.backoff.next()
        return trouble

    def stop(self, run: Run) -> None:
        """Delete the Job: its pod gets SIGTERM and its grace, and no other pod can come of it."""
        self._refusals.pop(run.name, None)
        job = self._caches.job(self.study.namespace, run.name)
        if job is None or not self._is_ours(job) or job["metadata"].get("deletionTimestamp"):
            return
        if self._writes.take():
            self._api.delete(JOBS, self.study.namespace, run.name, "Foreground")

    def release(self, run: Run) -> None:
        """POST /release."""
        self._scores.release(run)

    def tidy(self, state: StudyState) -> None:
        """What is left of runs whose end is in the journal: Jobs that ended stay for a while, others go at once."""
        for job in self._jobs():
            name, run = job["metadata"]["name"], (job["metadata"].get("labels") or {}).get(names.RUN)
            booked = None if run is None else state.runs.get(run)
            if run is None or (booked is not None and booked.state.active) or job["metadata"].get("deletionTimestamp"):
                continue
            if not self._writes.take():
                return
            try:
                if views.is_over(job):
                    keep = {"ttlSecondsAfterFinished": self._settings.keep_jobs_seconds}
                    body = {"metadata": {"labels": {names.BOOKED: "true"}}, "spec": keep}
                    self._api.patch(JOBS, self.study.namespace, name, body)
                else:
                    self._finish_or_delete(job, booked)
            except ApiError as error:
                if error.passing:
                    raise
                log.warning("tidying %s: %s", name, error)

    def _finish_or_delete(self, job: Manifest, booked: Run | None) -> None:
        """A Job whose pod has ended is about to say so itself; only one that could go on must be stopped."""
        pod = views.newest(self._caches.pods(job))
        if booked is not None and pod is not None and views.has_ended(pod):
            return
        self._api.delete(JOBS, self.study.namespace, job["metadata"]["name"], "Foreground")

    def sweep(self, spec: HPOStudySpec, folders: Sequence[str], over: bool) -> bool:
        """Pods remove them, see `Sweeper`."""
        return self._sweeper.sweep(folders, over, spec.template, time.time())

    def untidy(self) -> bool:
        """Whether Jobs are left that `tidy` will have to see to."""
        return any(not job["metadata"].get("deletionTimestamp") for job in self._jobs())

    def stop_all(self) -> int:
        """Delete every Job of the study; returns how many of its pods are still there, those given up left out."""
        jobs = {job["metadata"]["uid"]: job for job in self._jobs() if _runs(job)}
        for job in jobs.values():
            if not job["metadata"].get("deletionTimestamp"):
                self._api.delete(JOBS, self.study.namespace, job["metadata"]["name"], "Foreground")
        now = time.time()
        jobs |= {attempt.job["metadata"]["uid"]: attempt.job for attempt in self._attempts.values()}
        pods = [pod for job in jobs.values() for pod in self._caches.pods(job) if self._given_up(pod, now) is None]
        return sum(1 for pod in pods if views.phase(pod) not in ("Succeeded", "Failed"))

    def _jobs(self) -> list[Manifest]:
        """The study's Jobs that are not booked."""
        return self._caches.jobs(self.study.namespace, self.study.uid)

    def _forget(self, run: str) -> None:
        self._scores.forget(run)
        self._attempts.pop(run, None)
        self._refusals.pop(run, None)

    def _is_ours(self, job: Manifest) -> bool:
        return names.is_of_study(job, self.study.namespace, self.study.uid)


def _runs(job: Manifest) -> bool:
    """Whether a Job is of a run, or of what runs need; not one that cleans up."""
    return bool((job["metadata"].get("labels") or {}).get(names.COMPONENT) != "cleanup")
