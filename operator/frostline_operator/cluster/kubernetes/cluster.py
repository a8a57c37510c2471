"""`Cluster` on Kubernetes: runs are Jobs. One object per study, over caches that all studies share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frostline_operator.api.quantity import parse_duration
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.cluster.kubernetes import names, views
from frostline_operator.cluster.kubernetes.api import CONFIG_MAPS, EVENTS, JOBS, PODS, Api, ApiError, Manifest
from frostline_operator.cluster.kubernetes.classes import DeviceClass
from frostline_operator.cluster.kubernetes.fleet import Fleet
from frostline_operator.cluster.kubernetes.informer import Informer
from frostline_operator.cluster.kubernetes.jobs import METRICS_PORT, StudyRef, build_run_document, build_run_job
from frostline_operator.cluster.kubernetes.settings import OperatorSettings
from frostline_operator.cluster.kubernetes.views import Trouble
from frostline_operator.cluster.kubernetes.watching import Watcher
from frostline_operator.cluster.protocol import RunSettings, RunView
from frostline_operator.engine.reconcile import Patience, Sample
from frostline_operator.engine.state import MemoryClass, Run, StudyState
from frostline_trainer.contract import RunSpec

log = logging.getLogger(__name__)

_WITHOUT_POD_SECONDS = 5.0
"""A Job without a pod for so long has been refused one; its events say why."""
_MOST_PAUSE = 30.0


class Caches:
    """Local copies of what all studies look at.

    Args:
        api: to watch with.
        namespaces: where; none means everywhere.
        woken: called with the uid of a study that something happened to.
    """

    def __init__(self, api: Api, namespaces: Sequence[str], woken: Callable[[str], None]) -> None:
        places: list[str | None] = list(namespaces) or [None]
        ours = f"{names.MANAGED_BY[0]}={names.MANAGED_BY[1]},{names.STUDY_UID}"

        def wake(group: Any) -> None:
            woken(group[0])

        self._jobs = [
            Informer(api, JOBS, place, f"{ours},!{names.BOOKED}", index=_group, changed=wake) for place in places
        ]
        self._pods = [
            Informer(api, PODS, place, ours, index=_group, trim=views.trimmed, changed=wake) for place in places
        ]

    def start(self) -> None:
        """Begin to watch."""
        for informer in (*self._jobs, *self._pods):
            informer.start()

    def stop(self) -> None:
        """Watch no more."""
        for informer in (*self._jobs, *self._pods):
            informer.stop()

    @property
    def synced(self) -> bool:
        """Whether the first lists are in."""
        return all(informer.synced.is_set() for informer in (*self._jobs, *self._pods))

    def job(self, namespace: str, name: str) -> Manifest | None:
        """A Job, if the copy has it."""
        return next((found for i in self._jobs if (found := i.get((namespace, name))) is not None), None)

    def jobs(self, uid: str) -> list[Manifest]:
        """A study's Jobs that are not booked."""
        return [job for i in self._jobs for job in i.of((uid,))]

    def pods(self, uid: str) -> list[Manifest]:
        """A study's pods, and the last states of those that are gone."""
        return [pod for i in self._pods for pod in i.of((uid,))]

    def pod_gone(self, namespace: str, name: str) -> Manifest | None:
        """The last state of a pod that is no more."""
        found = next((f for i in self._pods if (f := i.gone((namespace, name))) is not None), None)
        return None if found is None else {**found, "_gone": True}

    def put_job(self, job: Manifest) -> None:
        """What a create has answered."""
        self._jobs[0].put(job)


def _group(item: Manifest) -> tuple[str] | None:
    uid = (item["metadata"].get("labels") or {}).get(names.STUDY_UID)
    return None if uid is None else (uid,)


@dataclass
class _Refusal:
    """A start that the API server did not take."""

    trouble: Trouble
    next_try: float
    pause: float


class KubernetesCluster:
    """The Jobs of one study.

    Args:
        study: whose.
        spec: of the study; replaced when it changes.
        api, caches, fleet, watcher: shared by all studies.
        settings: of the operator.
    """

    def __init__(
        self,
        study: StudyRef,
        spec: HPOStudySpec,
        api: Api,
        caches: Caches,
        fleet: Fleet,
        watcher: Watcher,
        settings: OperatorSettings,
    ) -> None:
        self.study = study
        self.spec = spec
        self.troubles: dict[str, Trouble] = {}
        """Runs that do not run, and why, as of the last look."""
        self._api, self._caches, self._fleet, self._watcher = api, caches, fleet, watcher
        self._settings = settings
        self._refusals: dict[str, _Refusal] = {}
        self._pods_of: dict[str, set[str]] = {}
        self._trials_of: dict[str, list[str]] = {}
        self._explained: dict[str, float] = {}
        self._state: StudyState = StudyState()

    def bind(self, state: StudyState) -> None:
        """The state whose devices are to be counted as this study's."""
        self._state = state

    def classes(self) -> tuple[MemoryClass, ...]:
        """What the study may use now: see `Fleet.offer`."""
        return self._fleet.offer(self.study.uid, self.spec, self._state)

    def look(self, runs: Sequence[Run]) -> list[RunView]:
        """Jobs and pods from the caches, values from the watcher; a request only where something is missing."""
        now = time.time()
        ready = self._fleet.ready_nodes()
        pods: dict[str, list[Manifest]] = {}
        for pod in self._caches.pods(self.study.uid):
            run_name = pod["metadata"]["labels"].get(names.RUN, "")
            pods.setdefault(run_name, []).append(pod)
            self._pods_of.setdefault(run_name, set()).add(pod["metadata"]["name"])
        self.troubles = {name: refusal.trouble for name, refusal in self._refusals.items()}
        return [self._look_at(run, pods.get(run.name, []), now, ready) for run in runs]

    def _look_at(self, run: Run, pods: list[Manifest], now: float, ready: dict[str, bool]) -> RunView:
        if not pods:
            remembered = (self._caches.pod_gone(self.study.namespace, n) for n in self._pods_of.get(run.name, ()))
            pods = [pod for pod in remembered if pod is not None]
        job = self._caches.job(self.study.namespace, run.name)
        if job is None and (run.state != "Pending" or pods):
            job = self._api.get(JOBS, self.study.namespace, run.name)
        if job is not None and not self._is_ours(job):
            job = None
        seen = views.view(run, job, pods, now)
        found = views.trouble(job, pods, now, ready) or self._without_pod(job, pods, now)
        if found is not None and seen.phase in ("Starting", "Running"):
            self.troubles[run.name] = found
        if seen.phase == "Ended":
            self._forget(run.name)
            return seen
        pod = views.newest(pods)
        where = None if pod is None or pod.get("_gone") else views.address(pod, METRICS_PORT)
        return seen if where is None else self._with_samples(run, seen, where)

    def _with_samples(self, run: Run, seen: RunView, where: str) -> RunView:
        trials = self._trials_of.get(run.name) or [self._state.trials[index].name for index in run.trials]
        interval = parse_duration(self.spec.metrics.interval or "5s")
        self._watcher.watch(self.study.uid, run.name, where, trials, interval)
        shown = self._watcher.take(self.study.uid, run.name)
        samples: tuple[Sample, ...] = ()
        if shown is not None:
            samples = shown.samples
            if set(trials) <= shown.finished:
                self._watcher.release(self.study.uid, run.name)
        return RunView(run.name, seen.phase, samples, seen.result, seen.held_seconds, seen.message)

    def _without_pod(self, job: Manifest | None, pods: list[Manifest], now: float) -> Trouble | None:
        """A Job that is refused its pod (a quota, an admission webhook) says so in events only."""
        if job is None or pods or job["spec"].get("suspend"):
            return None
        name = job["metadata"]["name"]
        made = views.parse_time(job["metadata"].get("creationTimestamp")) or now
        if now - made < _WITHOUT_POD_SECONDS:
            return None
        known = self.troubles.get(name)
        if now - self._explained.get(name, 0.0) < _MOST_PAUSE / 3 and known is not None:
            return known
        self._explained[name] = now
        chosen = f"involvedObject.name={name},involvedObject.kind=Job,reason=FailedCreate"
        events, _ = self._api.list(EVENTS, self.study.namespace, fields=chosen)
        if not events:
            return Trouble("NoPod", f"{name} has no pod yet")
        return refused(name, str(events[-1].get("message", "")))

    def patience(self) -> Patience | None:
        """Records count at once."""
        return None

    def late_samples(self, runs: Sequence[Run]) -> Mapping[str, Sequence[Sample]]:
        """Of runs that have ended."""
        return {}

    def run_settings(self, run: Run) -> RunSettings:
        """Checkpoints under the operator's folder or URL; memory is kept to where a person says how much there is."""
        classes, _ = self._fleet.classes(self.spec)
        chosen = classes.get(run.memory_class)
        study = self.study
        return RunSettings(
            checkpoint=names.checkpoint_folder(self._settings.checkpoints, study.namespace, study.name, study.uid),
            metrics_port=METRICS_PORT,
            linger_seconds=self._settings.linger_seconds,
            memory_limit=chosen.usable_bytes if chosen is not None and chosen.declared else None,
        )

    def start(self, run: Run, spec: RunSpec) -> None:
        """Create the run's Job unless it is there. A refusal becomes a trouble and is tried again, ever more rarely."""
        self._trials_of[run.name] = [trial.name for trial in spec.trials]
        known = self._caches.job(self.study.namespace, run.name)
        refusal = self._refusals.get(run.name)
        if (known is not None and self._is_ours(known)) or (refusal and time.monotonic() < refusal.next_try):
            return
        classes, _ = self._fleet.classes(self.spec)
        chosen = classes.get(run.memory_class)
        if chosen is None:
            self._refuse(run.name, Trouble("NoNode", f"{run.name}: no node of class {run.memory_class} is left"))
            return
        try:
            document = build_run_document(self.study, run, spec)
            if document is not None:
                self._create(CONFIG_MAPS, document)
            job = build_run_job(self.study, run, spec, chosen, self._settings, self.spec.template)
            made = self._create(JOBS, job)
        except ApiError as error:
            if error.passing:
                raise
            self._refuse(run.name, refused(run.name, str(error)))
            return
        if made is not None and not self._is_ours(made):
            self._refuse(run.name, Trouble("NameTaken", f"a Job {run.name} of another study is there; delete it"))
            return
        self._refusals.pop(run.name, None)
        if made is not None:
            self._caches.put_job(made)

    def _create(self, resource: Any, body: Manifest) -> Manifest | None:
        """Create, or find what an earlier attempt made."""
        try:
            return self._api.create(resource, self.study.namespace, body)
        except ApiError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                return self._api.get(resource, self.study.namespace, body["metadata"]["name"])
            raise

    def _refuse(self, run: str, trouble: Trouble) -> None:
        before = self._refusals.get(run)
        pause = min(_MOST_PAUSE, 2.0 if before is None else before.pause * 2)
        self._refusals[run] = _Refusal(trouble, time.monotonic() + pause, pause)
        self.troubles[run] = trouble

    def stop(self, run: Run) -> None:
        """Delete the Job: its pod gets SIGTERM and its grace, and no other pod can come of it."""
        self._refusals.pop(run.name, None)
        job = self._caches.job(self.study.namespace, run.name)
        if job is None or not self._is_ours(job) or job["metadata"].get("deletionTimestamp"):
            return
        self._api.delete(JOBS, self.study.namespace, run.name, "Foreground")

    def release(self, run: Run) -> None:
        """POST /release."""
        self._watcher.release(self.study.uid, run.name)

    def tidy(self, state: StudyState) -> None:
        """What is left of runs whose end is in the journal: Jobs that ended stay for a while, others go at once."""
        for job in self._caches.jobs(self.study.uid):
            name, run = job["metadata"]["name"], job["metadata"]["labels"].get(names.RUN)
            known = None if run is None else state.runs.get(run)
            if run is None or (known is not None and known.state.active) or job["metadata"].get("deletionTimestamp"):
                continue
            try:
                if views.is_over(job):
                    keep = {"ttlSecondsAfterFinished": self._settings.keep_jobs_seconds}
                    body = {"metadata": {"labels": {names.BOOKED: "true"}}, "spec": keep}
                    self._api.patch(JOBS, self.study.namespace, name, body)
                else:
                    self._finish_or_delete(job, known)
            except ApiError as error:
                if error.passing:
                    raise
                log.warning("tidying %s: %s", name, error)

    def _finish_or_delete(self, job: Manifest, known: Run | None) -> None:
        """A Job whose pod has ended is about to say so itself; only one that could go on must be stopped."""
        pods = [
            p for p in self._caches.pods(self.study.uid) if p["metadata"]["labels"].get(names.RUN) == known_name(job)
        ]
        pod = views.newest(pods)
        if known is not None and pod is not None and views.has_ended(pod):
            return
        self._api.delete(JOBS, self.study.namespace, job["metadata"]["name"], "Foreground")

    def untidy(self) -> bool:
        """Whether Jobs are left that `tidy` will have to see to."""
        return bool(self._caches.jobs(self.study.uid))

    def whole(self, made: DeviceClass) -> MemoryClass:
        """A class with all of its devices, whoever has them: for what is shown, not for what is decided."""
        return MemoryClass(made.name, made.usable_bytes, made.total)

    def stop_all(self) -> int:
        """Delete every Job of the study; returns how many of its pods are still there."""
        for job in self._caches.jobs(self.study.uid):
            if not job["metadata"].get("deletionTimestamp"):
                self._api.delete(JOBS, self.study.namespace, job["metadata"]["name"], "Foreground")
        alive = [p for p in self._caches.pods(self.study.uid) if views.phase(p) not in ("Succeeded", "Failed")]
        return len(alive)

    def _forget(self, run: str) -> None:
        self._watcher.forget(self.study.uid, run)
        for known in (self._pods_of, self._trials_of, self._refusals, self._explained):
            known.pop(run, None)
        self.troubles.pop(run, None)

    def _is_ours(self, job: Manifest) -> bool:
        return bool((job["metadata"].get("labels") or {}).get(names.STUDY_UID) == self.study.uid)


def known_name(job: Manifest) -> str:
    """The run that a Job is of."""
    return str(job["metadata"]["labels"].get(names.RUN, ""))


def refused(name: str, message: str) -> Trouble:
    """A create that was refused, with what would help."""
    text = message[:500]
    if "exceeded quota" in message:
        return Trouble("QuotaExceeded", f"{name}: {text}; raise the quota, or lower search.parallelism")
    if "admission webhook" in message or "denied" in message or "violates PodSecurity" in message:
        return Trouble("AdmissionRefused", f"{name}: {text}; change what refuses it, or the template")
    return Trouble("Refused", f"{name}: {text}; correct the template, or the operator's permissions")
