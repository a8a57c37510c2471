"""`Store` on Kubernetes: the state in the journal, events on the study, samples in memory until their run has ended.

A sample that is lost with its operator is unknown, never a failure: the durable record of a run is its result.
"""

from __future__ import annotations

from collections.abc import Sequence

from frostline_operator.engine.reconcile import Sample
from frostline_operator.engine.state import StudyState
from frostline_operator.kubernetes.journal import Journal
from frostline_operator.kubernetes.status.events import Recorder, of_engine
from frostline_operator.scores.curves import curves, thinned

_MOST_SAMPLES = 4096
"""Of one run; of more, every second or so is kept. A trainer shows some four of each of sixteen trials."""
_SILENT = ("Promote", "StopRun", "Finish")
"""Of the first two there are as many as trials, and the HPOTrials say it better; the last one is a condition."""


class KubernetesStore:
    """One study's store.

    Args:
        journal: of the study.
        recorder: of its events.
    """

    def __init__(self, journal: Journal, recorder: Recorder) -> None:
        self._journal = journal
        self._recorder = recorder
        self._samples: dict[str, dict[tuple[str, int], Sample]] = {}

    def load(self) -> StudyState:
        """From the journal."""
        return self._journal.load()

    def save(self, state: StudyState) -> None:
        """One record in the journal, with the learning curves of the runs whose end is in it."""
        over = [name for name in self._samples if name in state.runs and not state.runs[name].state.open]
        self._journal.save(state, {name: curves(self._samples[name].values()) for name in over})
        for name in over:
            del self._samples[name]

    def add_samples(self, run: str, samples: Sequence[Sample]) -> None:
        """Kept until the run is over and booked."""
        if not samples:
            return
        kept = self._samples.setdefault(run, {})
        kept.update({(s.trial, s.tokens): s for s in samples})
        if len(kept) > _MOST_SAMPLES:
            by_trial: dict[str, list[int]] = {}
            for trial, tokens in sorted(kept):
                by_trial.setdefault(trial, []).append(tokens)
            each = max(2, _MOST_SAMPLES // 2 // len(by_trial))
            some = ((trial, tokens) for trial, values in by_trial.items() for tokens in thinned(values, each))
            self._samples[run] = {key: kept[key] for key in some}

    def samples(self, run: str) -> list[Sample]:
        """In order of tokens."""
        samples = self._samples.get(run, {})
        return [samples[key] for key in sorted(samples)]

    def add_event(self, at: float, reason: str, message: str) -> None:
        """An event on the study, but for those that every trial has."""
        if reason not in _SILENT:
            self._recorder.record(of_engine(reason, message))
