"""A study's progress as JSON lines on standard output, for programs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from frostline_operator.cli.progress import ProgressMeter
from frostline_operator.engine.remaining import seconds_left
from frostline_operator.engine.summary import summarize
from frostline_operator.local.session import Session


class JsonView:
    """Each event as a line, and every few seconds one on progress: objects with `time` and `event`."""

    def __init__(self, session: Session, every_seconds: float = 5.0) -> None:
        self._session = session
        self._meter = ProgressMeter(session)
        self._told = len(session.store.events())
        self._every = every_seconds
        self._last = -every_seconds

    def __enter__(self) -> JsonView:
        return self

    def __exit__(self, *_: object) -> None:
        self._events()

    def update(self) -> None:
        """Write what is new."""
        self._events()
        self._meter.read()  # at each look, so that it knows when a run was started
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._progress()

    def say(self, message: str) -> None:
        """A message of the command's own."""
        _write("message", time.time(), message=message)

    def _events(self) -> None:
        events = self._session.store.events()
        for at, reason, message in events[self._told :]:
            _write(reason, at, message=message)
        self._told = len(events)

    def _progress(self) -> None:
        observed = self._session.observe()
        summary = summarize(observed)
        progress = self._meter.read()
        _write(
            "progress",
            time.time(),
            trials=summary.trials,
            decided=summary.decided,
            running={name: round(done.share, 3) for name, done in progress.items()},
            best=None if summary.best is None else summary.best.value,
            secondsLeft=seconds_left(observed, summary, progress),
        )


def write_outcome(session: Session, report: Path, repeats: dict[str, Any] | None = None) -> None:
    """The last line: why the study ended, its best trial, the result that it repeats, and where the report is."""
    summary = summarize(session.observe())
    finished = session.loop.state.finished
    best: dict[str, Any] | None = None
    if summary.best is not None:
        trial = session.loop.state.trials[summary.best.trial]
        best = {
            "trial": trial.name,
            "value": summary.best.value,
            "rung": summary.best_rung,
            "assignment": trial.assignment,
        }
    _write(
        "outcome",
        time.time(),
        reason=None if finished is None else finished.reason,
        message="" if finished is None else finished.message,
        best=best,
        report=str(report),
        **({} if repeats is None else {"repeats": repeats}),
    )


def _write(event: str, at: float, **fields: Any) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    print(json.dumps({"time": stamp, "event": event, **fields}), flush=True)
