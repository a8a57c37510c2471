"""Local copies of the Jobs and pods of all studies, and of what the cluster says of Jobs that get no pod.

A Job is a study's where the study controls it, a pod where such a Job does, both in the study's namespace. Labels only
keep the copies small: an object that has nothing but the label is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

from frostline_operator.kubernetes.client.api import EVENTS, JOBS, PODS, Api, Manifest
from frostline_operator.kubernetes.client.informer import Informer, key_of
from frostline_operator.kubernetes.objects import names, views


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
            woken(group[1])

        def wake_of_pod(group: Any) -> None:
            study = self._study_of(*group)
            if study is not None:
                woken(study)

        jobs = f"{ours},!{names.BOOKED}"
        self._jobs = {
            place: Informer(api, JOBS, place, jobs, index=_study_of_job, changed=wake, digest=views.job_digest)
            for place in places
        }
        self._pods = {
            place: Informer(
                api,
                PODS,
                place,
                ours,
                index=_job_of_pod,
                trim=views.trimmed,
                changed=wake_of_pod,
                digest=views.pod_digest,
            )
            for place in places
        }
        self._refused = {place: Informer(api, EVENTS, place, fields=_REFUSED, index=_job_of) for place in places}

    def start(self) -> None:
        """Begin to watch."""
        for informer in self._all():
            informer.start()

    def stop(self) -> None:
        """Watch no more."""
        for informer in self._all():
            informer.stop()

    @property
    def synced(self) -> bool:
        """Whether the first lists are in."""
        return all(informer.synced.is_set() for informer in (*self._jobs.values(), *self._pods.values()))

    def job(self, namespace: str, name: str) -> Manifest | None:
        """A Job, if the copy has it."""
        return _of(self._jobs, namespace).get((namespace, name))

    def jobs(self, namespace: str, uid: str) -> list[Manifest]:
        """The Jobs of a study in its namespace that are not booked."""
        return _of(self._jobs, namespace).of((namespace, uid))

    def pods(self, job: Manifest) -> list[Manifest]:
        """The pods of a Job that exist; see `pod_gone` for those that do not any more."""
        namespace, name = key_of(job)
        return _of(self._pods, namespace).of((namespace, name, job["metadata"].get("uid")))

    def owns(self, pod: Manifest) -> bool:
        """Whether a pod is of a Job of some study's, as far as that Job is not booked."""
        group = _job_of_pod(pod)
        return group is not None and self._study_of(*group) is not None

    def pod_gone(self, namespace: str, name: str) -> Manifest | None:
        """The last state of a pod that is no more."""
        pod = _of(self._pods, namespace).gone((namespace, name))
        return None if pod is None else {**pod, "_gone": True}

    def refused(self, namespace: str, job: str) -> str | None:
        """Why a Job gets no pod (a quota, an admission webhook), as events say: nothing else does."""
        said = _of(self._refused, namespace).of((namespace, job))
        newest = max(said, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
        return None if newest is None else str(newest.get("message", ""))

    def put_job(self, job: Manifest) -> None:
        """What a create has answered."""
        _of(self._jobs, job["metadata"]["namespace"]).put(job)

    def _study_of(self, namespace: str, name: str, uid: str) -> str | None:
        """The uid of the study that a Job is of, None where the copy does not have that Job."""
        job = self.job(namespace, name)
        group = _study_of_job(job) if job is not None and job["metadata"].get("uid") == uid else None
        return None if group is None else group[1]

    def _all(self) -> Iterator[Informer]:
        for informers in (self._jobs, self._pods, self._refused):
            yield from informers.values()


_REFUSED = "reason=FailedCreate,involvedObject.kind=Job"


def _of(informers: Mapping[str | None, Informer], namespace: str) -> Informer:
    """The copy of one namespace: its own, or the one of all namespaces."""
    return informers.get(namespace) or informers[None]


def _study_of_job(job: Manifest) -> tuple[str, str] | None:
    """Namespace, and uid of the study that controls a Job."""
    owner = names.controller(job)
    return None if owner is None or owner.kind != "HPOStudy" else (key_of(job)[0], owner.uid)


def _job_of_pod(pod: Manifest) -> tuple[str, str, str] | None:
    """Namespace, name and uid of the Job that controls a pod."""
    owner = names.controller(pod)
    return None if owner is None or owner.kind != "Job" else (key_of(pod)[0], owner.name, owner.uid)


def _job_of(event: Manifest) -> Hashable:
    return key_of(event)[0], str(event["involvedObject"].get("name", ""))
