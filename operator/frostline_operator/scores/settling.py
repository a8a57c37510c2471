"""Holding a value back until it has stayed the same for a while.

A query of one's own is evaluated at one moment, but the samples that it finds may be of several: two jobs that scrape
one pod, replicas, a recording rule. For up to one interval its answer can so be an old objective at new tokens, and
nothing but time tells that from the value.
"""

from __future__ import annotations

from collections.abc import Iterable

from frostline_operator.scores.queries import Seen

Key = tuple[str | None, str, int, int]


def key_of(seen: Seen) -> Key:
    """What a value is of: run, trial, rung and tokens."""
    return (seen.run, seen.sample.trial, seen.sample.rung, seen.sample.tokens)


def same(one: Seen | None, other: Seen) -> bool:
    """Whether both say the same, where NaN is like NaN; the training loss goes on changing and does not matter."""
    if one is None:
        return False
    return (repr(one.sample.objective), one.finished) == (repr(other.sample.objective), other.finished)


class Settling:
    """Values that may still become others.

    A value that is no longer shown settles all the same: pods end, and their series with them.
    """

    def __init__(self) -> None:
        self._held: dict[Key, tuple[Seen, float]] = {}

    def put(self, seen: Iterable[Seen], now: float) -> None:
        """Hold what is seen now; another value than the one that is held begins anew."""
        for one in seen:
            held = self._held.get(key_of(one))
            if held is None or not same(held[0], one):
                self._held[key_of(one)] = (one, now)

    def take(self, now: float, seconds: float) -> list[Seen]:
        """Hand over what has been the same for so many seconds."""
        settled = [key for key, (_, since) in self._held.items() if now - since >= seconds]
        return [self._held.pop(key)[0] for key in settled]
