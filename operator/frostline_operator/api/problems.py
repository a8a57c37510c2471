"""What is wrong with a manifest, in words a person can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing to change in a manifest."""

    file: str
    line: int | None
    """Counted from 1. None where there is no line: the file cannot be read, or the manifest came from a cluster."""
    path: str
    """The field as the person wrote it, such as `spec.parameters[lr].min`; empty for the manifest as a whole."""
    message: str
    """What is wrong, and after a semicolon what to do about it."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class StudyError(Exception):
    """A manifest that cannot be used: every problem found in it, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(
            sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line or 0, p.path, p.message))
        )
        super().__init__("\n".join(map(str, self.problems)))


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that was most likely meant, or None: spelling counts, upper case and separators do not."""
    plain: dict[str, str] = {}
    for candidate in known:
        plain.setdefault(_plain(candidate), candidate)
    if _plain(word) in plain:
        return plain[_plain(word)]
    found = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=cutoff)
    if not found and len(_plain(word)) >= 3:
        found = [c for c in plain if len(c) >= 3 and (c.startswith(_plain(word)) or _plain(word).startswith(c))]
    return plain[found[0]] if found else None


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "").replace(" ", "")


def listed(words: Sequence[str], last: str = "or") -> str:
    """The words as a person lists them: `a`, `a or b`, `a, b or c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def shown(value: object) -> str:
    """A value as it would be written in YAML, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}...'"
