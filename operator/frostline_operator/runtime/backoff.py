"""Back-off: how long to wait before something that failed is tried again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Backoff:
    """Pauses that double with each failure in a row.

    Args:
        first: seconds after the first failure.
        longest: seconds at most.
        patient: failures in a row that get the first pause, before it doubles.
        failures: in a row, so far.
    """

    first: float
    longest: float
    patient: int = 1
    failures: int = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        doublings = min(max(0, self.failures + 1 - self.patient), 60)
        self.failures += 1
        return min(self.longest, self.first * 2.0**doublings)

    def reset(self) -> None:
        """It has succeeded."""
        self.failures = 0
