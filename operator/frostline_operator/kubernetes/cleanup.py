"""Removing a study's checkpoints from where only pods can reach: small Jobs of the trainer's image.

While a study runs, what it no longer needs goes in batches; at its end all but the best trial's; and with the study the
whole folder. None of it ever holds up anything else: a Job that cannot run is given up, which an event says.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from frostline_operator.api.study import PodTemplate
from frostline_operator.kubernetes.caches import Caches
from frostline_operator.kubernetes.client.api import JOBS, Api, ApiError, Manifest
from frostline_operator.kubernetes.objects import names, views
from frostline_operator.kubernetes.objects.jobs import StudyRef, build_clean_job
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.kubernetes.status.events import Recorder, of_engine

log = logging.getLogger(__name__)

_BATCH = 32
"""So many checkpoints are worth a pod while the study runs."""
_MOST = 800
"""Of one Job: their names are its arguments."""
_AGAIN_SECONDS = 600.0
"""After a Job that failed."""


class Sweeper:
    """The checkpoints of one study.

    Args:
        api: where Jobs are made.
        caches: of Jobs.
        study: whose.
        settings: of the operator.
        recorder: of the study's events.
    """

    def __init__(
        self, api: Api, caches: Caches, study: StudyRef, settings: OperatorSettings, recorder: Recorder
    ) -> None:
        self._api, self._caches, self._study, self._settings = api, caches, study, settings
        self._recorder = recorder
        self.keeps = False
        """A person wants all checkpoints to stay."""
        self._gone: set[str] = set()
        """Removed already; after a restart they are removed again, which does nothing."""
        self._under_way: tuple[str, list[str]] | None = None
        self._not_before = 0.0
        self._since: float | None = None

    def sweep(self, folders: Sequence[str], over: bool, template: PodTemplate, now: float) -> bool:
        """Remove these in the end; True once nothing is left to do for now.

        Args:
            folders: all that may go, those that went before included.
            over: the study has ended, so that even a few are worth a Job.
            template: of the study's pods.
            now: seconds since the epoch.

        Raises:
            ApiError: the API server cannot be reached.
        """
        if self.keeps or self._settings.cleanup_seconds == 0:
            return True
        if self._under_way is not None:
            self._book(*self._under_way, now)
            return self._under_way is None
        left = [folder for folder in folders if folder not in self._gone][:_MOST]
        if not left or (len(left) < _BATCH and not over) or now < self._not_before:
            return True
        digest = hashlib.sha256("\n".join(left).encode()).hexdigest()[:8]
        name = f"{self._study.name}-sweep-{digest}"
        if self._make(name, left, template):
            self._under_way = (name, left)
        else:
            self._not_before = now + _AGAIN_SECONDS
        return False

    def remove_all(self, template: PodTemplate, now: float) -> bool:
        """Remove the study's whole folder; True once that is done, or given up after `cleanupSeconds`."""
        self._since = now if self._since is None else self._since
        where = (self._study.namespace, self._study.name)
        name = f"{self._study.name}-clean-{self._study.uid[:8]}"
        job = self._api.get(JOBS, self._study.namespace, name)
        if job is None:
            return not self._make(name, None, template)
        if not self._made(job):
            log.warning("%s/%s: a Job %s of somebody else is in the way of removing its checkpoints", *where, name)
            return True
        late = now - self._since > self._settings.cleanup_seconds
        if not late and not views.is_over(job):
            return False
        if late or not views.succeeded(job):
            log.warning(
                "%s/%s: its checkpoints below %s could not be removed", self._study.namespace, self._study.name,
                self._where,
            )  # fmt: skip
        self._api.delete(JOBS, self._study.namespace, name)
        return True

    @property
    def _where(self) -> str:
        study = self._study
        return names.checkpoint_folder(self._settings.checkpoints, study.namespace, study.name, study.uid)

    def _make(self, name: str, only: list[str] | None, template: PodTemplate) -> bool:
        job = build_clean_job(self._study, name, self._where, only, self._settings, template)
        try:
            self._api.create(JOBS, self._study.namespace, job)
        except ApiError as error:
            if error.passing:
                raise
            if error.reason == "AlreadyExists":
                return True
            self._fail(f"{name}: {error}")
            return False
        return True

    def _book(self, name: str, folders: list[str], now: float) -> None:
        job = self._caches.job(self._study.namespace, name) or self._api.get(JOBS, self._study.namespace, name)
        if job is not None and not names.is_of_study(job, self._study.namespace, self._study.uid):
            job = None
        if job is not None and not views.is_over(job):
            return
        self._under_way = None
        if job is not None and views.succeeded(job):
            self._gone.update(folders)
        else:
            self._not_before = now + _AGAIN_SECONDS
            self._fail(f"the Job {name} did not end well; it is tried again")
        if job is not None:
            self._api.delete(JOBS, self._study.namespace, name)

    def _made(self, job: Manifest) -> bool:
        """Whether it is the Job that removes the whole folder. It has no owner, so that it may outlive the study; its
        name has the study's uid, and nobody makes Jobs in the study's namespace but those who may delete the study."""
        metadata = job["metadata"]
        labels = names.labels(self._study.name, self._study.uid, "cleanup")
        return not metadata.get("ownerReferences") and labels.items() <= (metadata.get("labels") or {}).items()

    def _fail(self, message: str) -> None:
        text = f"checkpoints that nobody needs could not be removed: {message}"
        self._recorder.record(of_engine("CheckpointsLeft", text))


def template_of(body: Manifest) -> PodTemplate:
    """A study's template, also where its spec was never accepted."""
    try:
        return PodTemplate.model_validate((body.get("spec") or {}).get("template") or {})
    except ValueError:
        return PodTemplate()
