"""Counts by labels, from several threads."""

from __future__ import annotations

import threading
from collections import Counter


class Tally:
    """How often what happened; only ever grows."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()

    def add(self, *labels: str) -> None:
        """Once more."""
        with self._lock:
            self._counts[labels] += 1

    def counts(self) -> dict[tuple[str, ...], int]:
        """So far."""
        with self._lock:
            return dict(self._counts)
