"""Events on a study, for `kubectl describe`: what a person would want to know, and not again and again."""

from __future__ import annotations

import logging
import time
import uuid

from frostline_operator.api.study import API_VERSION
from frostline_operator.kubernetes.client.api import EVENTS, Api, ApiError
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.conditions import timestamp

log = logging.getLogger(__name__)

_WARNINGS = ("Failed", "Fault", "Lost", "OutOfMemory", "Disagreement", "Deadline", "Refused", "Pull", "Quota", "Node",
             "Unschedulable", "Untrusted", "Reduced", "Configuration", "Invalid", "Checkpoints")  # fmt: skip
_PER_MINUTE = 30
_QUIET_SECONDS = 600.0
"""The same words are not said again for so long."""
_LONGEST = 1000


class Recorder:
    """The events of one study.

    Args:
        api: where they go.
        study: what they are about.
    """

    def __init__(self, api: Api, study: StudyRef) -> None:
        self._api = api
        self._study = study
        self._said: dict[tuple[str, str], float] = {}
        self._recent: list[float] = []

    def say(self, reason: str, message: str) -> None:
        """Make an event. None is worth a failure of anything else."""
        now = time.monotonic()
        self._said = {words: at for words, at in self._said.items() if now - at < _QUIET_SECONDS}
        self._recent = [at for at in self._recent if now - at < 60]
        if (reason, message) in self._said or len(self._recent) >= _PER_MINUTE:
            return
        self._said[(reason, message)] = now
        self._recent.append(now)
        study, at = self._study, timestamp(time.time())
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{study.name}.{uuid.uuid4().hex[:16]}", "namespace": study.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": "HPOStudy",
                "name": study.name,
                "namespace": study.namespace,
                "uid": study.uid,
            },
            "reason": reason,
            "message": message[:_LONGEST],
            "type": "Warning" if any(word in reason for word in _WARNINGS) else "Normal",
            "source": {"component": "frostline"},
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }
        try:
            self._api.create(EVENTS, study.namespace, body)
        except ApiError as error:
            log.debug("event %s on %s/%s: %s", reason, study.namespace, study.name, error)
