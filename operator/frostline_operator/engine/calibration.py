"""What finished runs teach about a memory profile: one factor per model and GPU product.

A prediction is made without the card, so each run's measured peak is held against it. The factor multiplies
`MemoryProfile.required`. Its rules:

- **From measurements** it is the highest ratio of measured to predicted live bytes seen so far. A maximum does not
  depend on the order in which runs finish, and a single greedy configuration is what runs out of memory.
- **Never below 1 until `RUNS_TO_TRUST` runs agree**, then not below `LOWEST`: memory is given back slowly.
- **Running out of memory sets a floor** just high enough that the run which failed would no longer be said to fit.
  Later successes do not lower it: they say nothing about the run that failed.
- It never exceeds `HIGHEST`: a profile that wrong is not corrected but distrusted; what ran out is then avoided by
  itself (`placement.OutOfMemory`): the same z and trials are not tried again on an equal or smaller device.

Everything here is a pure function of its arguments, and nothing is kept: a correction is made anew from the study's
runs, for each memory class (`memory.corrections`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LOWEST = 0.95
"""Least factor: the profile's own margin (1.08 or more) is never eaten up by optimism."""
HIGHEST = 4.0
"""Largest factor."""
RUNS_TO_TRUST = 3
"""Measured runs before a factor below 1 is believed."""
STEP = 1.01
"""By how much a failed run's need is put above the memory that did not suffice."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What is known of one model on one GPU product."""

    highest: float = 0.0
    """Highest ratio of measured to predicted bytes; 0 before the first run."""
    runs: int = 0
    """Runs measured."""
    floor: float = 0.0
    """Set by runs that ran out of memory; 0 while none did."""
    failures: int = 0
    """Runs that ran out of memory although they were said to fit."""

    @property
    def factor(self) -> float:
        """What `MemoryProfile.required` is multiplied with, between `LOWEST` and `HIGHEST`."""
        measured = self.highest if self.runs >= RUNS_TO_TRUST else max(self.highest, 1.0)
        return min(HIGHEST, max(measured, self.floor, LOWEST))


def observed(correction: Correction, *, predicted: int, measured: int) -> Correction:
    """After a run that ended well: `predicted` is `peak_allocated` at its z, batch and trials, `measured` its peak.

    A run that measured nothing (`measured` 0, as on a CPU without a limit) changes nothing.
    """
    if predicted <= 0 or measured <= 0:
        return correction
    return replace(correction, highest=max(correction.highest, measured / predicted), runs=correction.runs + 1)


def exhausted(correction: Correction, *, required: int, limit: int) -> Correction:
    """After exit 42: `required` is the profile's own figure (correction 1), `limit` the bytes that did not suffice.

    From then on the same run is no longer said to fit `limit`, up to the bound `HIGHEST`.
    """
    if required <= 0 or limit <= 0:
        return correction
    if required * correction.factor > limit:  # it was not said to fit: nothing to learn
        return correction
    floor = min(HIGHEST, max(correction.floor, limit / required * STEP))
    return replace(correction, floor=floor, failures=correction.failures + 1)


def ratio(predicted: int | None, measured: int | None) -> float | None:
    """Measured over predicted, for trials and reports, to three digits; None where one of them is unknown."""
    return round(measured / predicted, 3) if predicted and measured else None
