"""Local copies of the Jobs and pods of all studies, and of what the cluster says of Jobs that get no pod."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
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
            woken(group[0])

        self._jobs = [
            Informer(api, JOBS, place, f"{ours},!{names.BOOKED}", index=_group, changed=wake, digest=views.job_digest)
            for place in places
        ]
        self._pods = [
            Informer(api, PODS, place, ours, index=_group, trim=views.trimmed, changed=wake, digest=views.pod_digest)
            for place in places
        ]
        self._refused = [Informer(api, EVENTS, place, fields=_REFUSED, index=_job_of) for place in places]

    def start(self) -> None:
        """Begin to watch."""
        for informer in (*self._jobs, *self._pods, *self._refused):
            informer.start()

    def stop(self) -> None:
        """Watch no more."""
        for informer in (*self._jobs, *self._pods, *self._refused):
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

    def refused(self, namespace: str, job: str) -> str | None:
        """Why a Job gets no pod (a quota, an admission webhook), as events say: nothing else does."""
        said = [event for i in self._refused for event in i.of((namespace, job))]
        newest = max(said, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
        return None if newest is None else str(newest.get("message", ""))

    def put_job(self, job: Manifest) -> None:
        """What a create has answered."""
        self._jobs[0].put(job)


_REFUSED = "reason=FailedCreate,involvedObject.kind=Job"


def _group(item: Manifest) -> tuple[str] | None:
    uid = (item["metadata"].get("labels") or {}).get(names.STUDY_UID)
    return None if uid is None else (uid,)


def _job_of(event: Manifest) -> Hashable:
    return key_of(event)[0], str(event["involvedObject"].get("name", ""))
