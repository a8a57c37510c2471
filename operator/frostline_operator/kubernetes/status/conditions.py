"""Conditions of an object, which keep the time of their last change. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Manifest = dict[str, Any]

LONGEST_MESSAGE = 2000
"""Of a condition: ten troubles at length are no help."""


class Conditions:
    """The conditions of a study or a trial.

    Args:
        current: as they are in the API server.
        generation: of the object that new statements are about.
    """

    def __init__(self, current: Sequence[Mapping[str, Any]], generation: int) -> None:
        self._by_type = {str(condition["type"]): dict(condition) for condition in current}
        self._generation = generation

    def set(self, kind: str, status: bool | None, reason: str, message: str, now: float) -> bool:
        """Say something; True if that is news (another status or reason)."""
        word = "Unknown" if status is None else str(status)
        old = self._by_type.get(kind)
        same = old is not None and old["status"] == word
        since = old["lastTransitionTime"] if old is not None and same else timestamp(now)
        self._by_type[kind] = {
            "type": kind,
            "status": word,
            "reason": reason,
            "message": message[:LONGEST_MESSAGE],
            "lastTransitionTime": since,
            "observedGeneration": self._generation,
        }
        return not same or old is None or old["reason"] != reason

    def clear(self, kind: str, reason: str, message: str, now: float) -> bool:
        """Say that something that was said no longer holds; nothing where it never was."""
        old = self._by_type.get(kind)
        return old is not None and old["status"] != "False" and self.set(kind, False, reason, message, now)

    def holds(self, kind: str) -> bool:
        """Whether a condition is True."""
        return self._by_type.get(kind, {}).get("status") == "True"

    def listed(self) -> list[Manifest]:
        """In the order in which they were first said."""
        return list(self._by_type.values())


def timestamp(seconds: float) -> str:
    """As Kubernetes writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
