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
from frostline_operator.kubernetes.objects import names, views
from frostline_operator.kubernetes.objects.classes import DeviceClass
from frostline_operator.kubernetes.objects.jobs import StudyRef, build_profile_job
from frostline_operator.kubernetes.settings import Memory, OperatorSettings
from frostline_operator.runtime.protocol import Trouble
from frostline_trainer.contract import ModelProfile

log = logging.getLogger(__name__)

_DATA = "profile.json"


@dataclass(frozen=True)
class NotYet:
    """The Job is under way."""

    trouble: Trouble | None = None


@dataclass(frozen=True)
class Impossible:
    """The model or the data cannot be built; the trainer says why."""

    message: str


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
            found = read_profile(list((kept.get("data") or {}).values()))
            if found is not None:
                self._own(kept)
                return found
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
        job = self._caches.job(self._study.namespace, name) or self._api.get(JOBS, self._study.namespace, name)
        if job is None or not names.is_of_study(job, self._study.namespace, self._study.uid):
            body = build_profile_job(self._study, name, document, memory, self._settings, spec.template, device)
            try:
                self._api.create(JOBS, self._study.namespace, body)
            except ApiError as error:
                if error.passing:
                    raise
                return NotYet(Trouble("Refused", f"{name}: {error}; correct the template"))
            return NotYet()
        pods = self._caches.pods(job)
        pod = views.newest(pods)
        if pod is None and views.is_over(job):  # somebody took its pod away: the next look makes a new Job
            self._api.delete(JOBS, self._study.namespace, name)
            return NotYet()
        if pod is None or views.phase(pod) not in ("Succeeded", "Failed"):
            return NotYet(views.trouble(job, pods, now, ready))
        output = self._api.logs(self._study.namespace, pod["metadata"]["name"], names.CONTAINER)
        found = read_profile(output.splitlines())
        if found is None or views.phase(pod) == "Failed":
            return self._failed(name, pod, output)
        self._keep(key, found)
        self._api.delete(JOBS, self._study.namespace, name)
        return found

    def _failed(self, name: str, pod: Mapping[str, Any], output: str) -> NotYet | Impossible:
        statuses = pod.get("status", {}).get("containerStatuses") or [{}]
        ended = (statuses[0].get("state") or {}).get("terminated") or {}
        message = _message(output)
        if ended.get("exitCode") == 43:
            return Impossible(message)
        # Evicted, killed, no image: the study is not at fault. The next look makes a new Job.
        self._api.delete(JOBS, self._study.namespace, name)
        reason = ended.get("reason") or pod.get("status", {}).get("reason") or "Failed"
        return NotYet(Trouble("ProfileFailed", f"the profile's Job ended with {reason}: {message}; it is tried again"))

    def _keep(self, key: str, found: ModelProfile) -> None:
        data = {_DATA: found.model_dump_json(by_alias=True)}
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


def in_words(found: ModelProfile) -> str:
    """For the study's condition: what is known."""
    known = "memory is known at each number of trainable layers"
    if found.memory is None:
        known = "memory is not foretold: what does not fit shows by running out of it"
    return "; ".join([f"{found.layers} layers", known, *found.notes])


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
