"""How far the runs under way are, and how long they took to get there."""

from __future__ import annotations

import time

from frostline_operator.engine.remaining import Progress
from frostline_operator.engine.state import Run
from frostline_operator.local.session import Session


class ProgressMeter:
    """Watches a study's runs; whoever shows progress reads it at each look.

    Args:
        session: of the study.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._begun: dict[str, float | None] = {}
        """Clock at which a run was first met, by its name; None where it had trained before that."""

    def read(self) -> dict[str, Progress]:
        """Of each active run, by its name."""
        now, runs = time.monotonic(), self._session.loop.state.active_runs
        return {run.name: self._of(run, now) for run in runs}

    def _of(self, run: Run, now: float) -> Progress:
        share = share_done(self._session, run)
        begun = self._begun.setdefault(run.name, now if share == 0 else None)
        return Progress(share, None if begun is None else now - begun)


def share_done(session: Session, run: Run) -> float:
    """Share of its training that a run had done at its last validation."""
    newest = max((s.tokens for s in session.store.samples(run.name)), default=run.start_tokens)
    return min(1.0, max(0.0, (newest - run.start_tokens) / max(1, run.tokens - run.start_tokens)))
