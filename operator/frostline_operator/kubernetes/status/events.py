"""Events on a study, for `kubectl describe`: what a person would want to know, and not again and again."""

from __future__ import annotations

import logging
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from frostline_operator.api.study import API_VERSION, GROUP
from frostline_operator.kubernetes.client.api import RECORDED_EVENTS, Api, ApiError
from frostline_operator.kubernetes.objects.jobs import StudyRef

log = logging.getLogger(__name__)

Type = Literal["Normal", "Warning"]

CONTROLLER = f"{GROUP}/operator"
_PER_MINUTE = 30
_QUIET_SECONDS = 600.0
"""The same words are not recorded again for so long."""
_LONGEST = 1000
"""Characters; the API takes 1,024."""


@dataclass(frozen=True)
class Event:
    """Something that has happened to a study."""

    type: Type
    reason: str
    action: str
    """What the operator did or could not do."""
    message: str


_ENGINE: dict[str, tuple[Type, str]] = {
    "FailTrial": ("Warning", "Train"),
    "RunLost": ("Warning", "Train"),
    "NoSpace": ("Warning", "Train"),
    "Paused": ("Warning", "StartRun"),
    "RunFault": ("Warning", "Train"),
    "RunOutOfMemory": ("Warning", "Train"),
    "Deadline": ("Warning", "StopRun"),
    "SourceDisagreement": ("Warning", "Reconcile"),
    "CheckpointsLeft": ("Warning", "RemoveCheckpoints"),
}
"""Type and action of the events of the loop and of cleaning up, by reason."""

_CONDITIONS: dict[str, tuple[bool, str]] = {
    "Accepted": (True, "Accept"),
    "Profiled": (True, "Profile"),
    "Progressing": (True, "Run"),
    "RunsBlocked": (False, "StartRun"),
    "RunsLost": (False, "Train"),
    "FidelityUntrusted": (False, "Rank"),
    "FidelityReduced": (False, "Place"),
    "MetricsAvailable": (True, "ReadScores"),
    "Complete": (True, "Finish"),
    "Failed": (False, "Finish"),
}
"""Of each condition: the status that is good news, and the action."""
_CALM = frozenset({"Computing", "Suspended", "Queued"})
"""Reasons for which the other status is nothing wrong either."""


def of_engine(reason: str, message: str) -> Event:
    """An event of the loop or of cleaning up."""
    kind, action = _ENGINE.get(reason, ("Normal", reason))
    return Event(kind, reason, action, message)


def of_condition(condition: str, status: bool, reason: str, message: str) -> Event:
    """The event that a condition has changed; its reason is the condition's, or its type where that says more."""
    good, action = _CONDITIONS.get(condition, (True, condition))
    kind: Type = "Normal" if status is good or reason in _CALM else "Warning"
    return Event(kind, condition if reason in ("Valid", "Computed") else reason, action, message)


class Recorder:
    """The events of one study.

    Args:
        api: where they go.
        study: what they are about.
    """

    def __init__(self, api: Api, study: StudyRef) -> None:
        self._api = api
        self._study = study
        self._recorded: dict[Event, float] = {}
        self._recent: list[float] = []

    def record(self, event: Event) -> None:
        """Make an event. None is worth a failure of anything else."""
        now = time.monotonic()
        self._recorded = {one: at for one, at in self._recorded.items() if now - at < _QUIET_SECONDS}
        self._recent = [at for at in self._recent if now - at < 60]
        if event in self._recorded or len(self._recent) >= _PER_MINUTE:
            return
        self._recorded[event] = now
        self._recent.append(now)
        study = self._study
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{study.name}.{uuid.uuid4().hex[:16]}", "namespace": study.namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": CONTROLLER,
            "reportingInstance": socket.gethostname()[:128],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": "HPOStudy",
                "name": study.name,
                "namespace": study.namespace,
                "uid": study.uid,
            },
            "action": event.action,
            "reason": event.reason,
            "note": event.message[:_LONGEST],
            "type": event.type,
        }
        try:
            self._api.create(RECORDED_EVENTS, study.namespace, body)
        except ApiError as error:
            log.debug("event %s on %s/%s: %s", event.reason, study.namespace, study.name, error)
