"""Who gets the devices that are free: higher priority first; among equals, who holds fewest, then who came first."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One study that would take devices of a memory class."""

    study: Hashable
    priority: int
    held: int
    """Devices of the class that it has."""
    wanted: int
    """So many more it would take."""
    order: int
    """Its place in line."""


def shares(free: int, claims: Sequence[Claim]) -> dict[Hashable, int]:
    """How many of the free devices each claimant may take; they are dealt one by one."""
    dealt: dict[Hashable, int] = {claim.study: 0 for claim in claims}
    for _ in range(free):
        open_claims = [claim for claim in claims if dealt[claim.study] < claim.wanted]
        if not open_claims:
            break
        first = min(open_claims, key=lambda c: (-c.priority, c.held + dealt[c.study], c.order))
        dealt[first.study] += 1
    return dealt
