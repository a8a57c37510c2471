"""What a study's model costs and needs: computed once per model by a Job, and kept in a ConfigMap by its hash."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pydantic

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.profiling import profile_document
from frostline_operator.kubernetes.caches import Caches
from frostline_operator.kubernetes.client.api import CONFIG_MAPS, JOBS, Api, ApiError, Manifest
from frostline_operator.kubernetes.objects import diagnosis, names, views
from frostline_operator.kubernetes.objects.classes import DeviceClass
from frostline_operator.kubernetes.objects.jobs import StudyRef, build_profile_job
from frostline_operator.kubernetes.settings import Memory, OperatorSettings
from frostline_operator.kubernetes.status.conditions import timestamp
from frostline_operator.runtime.backoff import Backoff
from frostline_operator.runtime.protocol import Trouble
from frostline_trainer.contract import ExitCode, ModelProfile

log = logging.getLogger(__name__)

_DATA = "profile.json"
_MOST_ATTEMPTS = 6
"""Jobs in a row that may fail, as for a Job's own backoffLimit; over five minutes and their own time."""
_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 300.0
"""Seconds between a failure and the next attempt."""


@dataclass(frozen=True)
class NotYet:
    """The Job is under way."""

    trouble: Trouble | None = None


@dataclass(frozen=True)
class Impossible:
    """There is no profile to be had before somebody changes something."""

    message: str
    reason: str = "Impossible"
    """Impossible: the model or the data cannot be built, says the trainer. ProfileFailed: the Job failed too often."""


@dataclass(frozen=True)
class _Failure:
    """How a Job ended without a profile."""

    at: float
    """Seconds since the epoch."""
    message: str
    final: bool = False
    """The study itself is at fault, says the trainer."""


class Profiler:
    """Finds or makes the profile of one study's model.

    Args:
        api: where Jobs and ConfigMaps are.
        caches: of Jobs and pods.
        study: that needs the profile.
        settings: of the operator.
    """

    def __init__(self, api: Api, caches: Caches, study: StudyRef, settings: OperatorSettings) -> None:
        self._api = api
        self._caches = caches
        self._study = study
        self._settings = settings
        self._outcome: tuple[str, ModelProfile | _Failure] | None = None
        """What the pod of this uid came to: its log is read once."""
        self._attempt: tuple[str, int] = ("", 0)
        """Name of the Job that was made last, and which attempt it was."""

    def profile(
        self,
        spec: HPOStudySpec,
        memory: Memory,
        now: float,
        ready: Mapping[str, bool] | None,
        device: DeviceClass | None = None,
    ) -> ModelProfile | NotYet | Impossible:
        """The profile, or how far its Job is. Every call may be repeated.

        Args:
            spec: of the study.
            memory: whose memory to foretell.
            now: seconds since the epoch.
            ready: nodes, and whether they are; None where they may not be read.
            device: the class on whose devices a custom entrypoint is measured where it cannot be traced; built-in
                families need none.
        """
        document = profile_document(spec)
        key = profile_key(document, memory, self._settings, spec)
        kept = self._api.get(CONFIG_MAPS, self._study.namespace, f"frostline-profile-{key}")
        if kept is not None:
            profile = read_profile(list((kept.get("data") or {}).values()))
            if profile is not None:
                self._own(kept)
                self._clear()
                return profile
        needed = device if spec.model.family == "Custom" and memory == "cuda" else None
        return self._compute(spec, document, memory, key, now, ready, needed)

    def _compute(
        self,
        spec: HPOStudySpec,
        document: str,
        memory: Memory,
        key: str,
        now: float,
        ready: Mapping[str, bool] | None,
        device: DeviceClass | None,
    ) -> ModelProfile | NotYet | Impossible:
        name = f"{self._study.name}-profile-{key[:8]}"

        def create(attempt: int) -> NotYet:
            body = build_profile_job(self._study, name, document, memory, self._settings, spec.template, device)
            body["metadata"]["annotations"] = {names.ATTEMPT: str(attempt)}
            return self._create(body, attempt)

        job = self._caches.job(self._study.namespace, name) or self._api.get(JOBS, self._study.namespace, name)
        if job is None or not names.is_of_study(job, self._study.namespace, self._study.uid):
            self._clear()
            return create(self._attempt[1] if self._attempt[0] == name else 1)
        outcome = self._look(job, now, ready)
        if isinstance(outcome, NotYet):
            return outcome
        if isinstance(outcome, ModelProfile):
            self._keep(key, outcome)
            self._clear()
            return outcome
        attempt = int((job["metadata"].get("annotations") or {}).get(names.ATTEMPT, 1))
        answer = after_failure(name, attempt, outcome)
        if isinstance(answer, Impossible):
            return answer
        trouble, due = answer
        if now < due:
            return NotYet(trouble)
        self._api.delete(JOBS, self._study.namespace, name)
        return create(attempt + 1)

    def _create(self, body: Manifest, attempt: int) -> NotYet:
        name = body["metadata"]["name"]
        self._attempt = (name, attempt)
        try:
            self._caches.put_job(self._api.create(JOBS, self._study.namespace, body))
        except ApiError as error:
            if error.passing:
                raise
            if error.reason == "AlreadyExists":  # the one before it is still being deleted
                return NotYet()
            return NotYet(diagnosis.refusal(name, str(error)))
        return NotYet()

    def _look(self, job: Manifest, now: float, ready: Mapping[str, bool] | None) -> ModelProfile | _Failure | NotYet:
        """What has become of a Job."""
        name = job["metadata"]["name"]
        pods = self._caches.pods(job)
        pod = views.newest(pods)
        if pod is None and views.is_over(job):
            return _Failure(views.ended_at(job) or now, "its pod is gone")
        if pod is None or views.phase(pod) not in ("Succeeded", "Failed"):
            why = None if pods else self._caches.refused(self._study.namespace, name)
            return NotYet(views.trouble(job, pods, now, ready, why))
        if self._outcome is None or self._outcome[0] != pod["metadata"]["uid"]:
            self._outcome = (pod["metadata"]["uid"], self._read(pod, now))
        return self._outcome[1]

    def _read(self, pod: Mapping[str, Any], now: float) -> ModelProfile | _Failure:
        """The profile that a pod has printed, or why it has not."""
        try:
            output = self._api.logs(self._study.namespace, pod["metadata"]["name"], names.CONTAINER)
        except ApiError as error:
            if error.passing:
                raise
            output = ""  # it never ran, or its node is gone
        profile = read_profile(output.splitlines())
        if profile is not None and views.phase(pod) == "Succeeded":
            return profile
        ended = views.terminated(pod) or {}
        said = _message(output)
        if ended.get("exitCode") == int(ExitCode.STUDY_FAULT):
            return _Failure(now, said, final=True)
        message = views.epitaph(pod, ended or None) + (f": {said}" if said else "")
        return _Failure(views.parse_time(ended.get("finishedAt")) or now, message)

    def _clear(self) -> None:
        """Delete the study's Jobs of profiles: they have served, or belong to a spec that has changed since."""
        for job in self._caches.jobs(self._study.namespace, self._study.uid):
            metadata = job["metadata"]
            if metadata["labels"].get(names.COMPONENT) == "profile" and not metadata.get("deletionTimestamp"):
                self._api.delete(JOBS, self._study.namespace, metadata["name"])

    def _keep(self, key: str, profile: ModelProfile) -> None:
        data = {_DATA: profile.model_dump_json(by_alias=True)}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"frostline-profile-{key}",
                "labels": {names.MANAGED_BY[0]: names.MANAGED_BY[1], names.COMPONENT: "profile"},
                "ownerReferences": [self._owner()],
            },
            "data": data,
        }
        try:
            self._api.create(CONFIG_MAPS, self._study.namespace, body)
        except ApiError as error:
            if error.status != 409:
                raise

    def _own(self, kept: Manifest) -> None:
        """A profile goes with the last of the studies that use it."""
        owners = kept["metadata"].get("ownerReferences") or []
        if any(owner["uid"] == self._study.uid for owner in owners):
            return
        metadata = {
            "resourceVersion": kept["metadata"]["resourceVersion"],
            "ownerReferences": [*owners, self._owner()],
        }
        try:
            self._api.patch(CONFIG_MAPS, self._study.namespace, kept["metadata"]["name"], {"metadata": metadata})
        except ApiError as error:
            if error.status != 409:
                raise

    def _owner(self) -> Manifest:
        owner = names.owner(self._study.name, self._study.uid)
        return {key: value for key, value in owner.items() if key not in ("controller", "blockOwnerDeletion")}


def after_failure(name: str, attempt: int, failure: _Failure) -> tuple[Trouble, float] | Impossible:
    """What follows from a Job that failed: when it is tried again, or that it is not.

    Args:
        name: of the Job.
        attempt: which one it was, from 1.
        failure: how it ended.
    """
    if failure.final:
        return Impossible(failure.message)
    text = f"attempt {attempt} of {_MOST_ATTEMPTS} to profile the model failed: {failure.message}"
    if attempt >= _MOST_ATTEMPTS:
        return Impossible(
            f"{text}; it is not tried again before the study or the operator's settings are corrected, or the Job "
            f"{name} is deleted",
            "ProfileFailed",
        )
    due = failure.at + Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, failures=attempt - 1).next()
    return Trouble("ProfileFailed", f"{text}; it is tried again at {timestamp(due)}"), due


def in_words(profile: ModelProfile) -> str:
    """For the study's condition: what is known."""
    memory_text = "memory is known at each number of trainable layers"
    if profile.memory is None:
        memory_text = "memory is not foretold: what does not fit shows by running out of it"
    return "; ".join([f"{profile.layers} layers", memory_text, *profile.notes])


def profile_key(document: str, memory: Memory, settings: OperatorSettings, spec: HPOStudySpec) -> str:
    """Under which a profile is kept: what it depends on, and the trainer that computes it."""
    made = json.dumps(
        [document, memory, settings.image, settings.template.model_dump(), spec.template.model_dump()], sort_keys=True
    )
    return hashlib.sha256(made.encode()).hexdigest()[:16]


def read_profile(texts: list[str]) -> ModelProfile | None:
    """The profile among lines of output or values of a ConfigMap, None where it is not among them."""
    for text in reversed(texts):
        if text.startswith("{"):
            try:
                return ModelProfile.model_validate_json(text)
            except pydantic.ValidationError:
                continue
    return None


def _message(output: str) -> str:
    for line in reversed(output.strip().splitlines()):
        if line.startswith("{"):
            try:
                return str(json.loads(line)["message"])[:500]
            except (ValueError, KeyError):
                continue
    return "\n".join(output.strip().splitlines()[-5:])[:500]
