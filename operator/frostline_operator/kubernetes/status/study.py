"""What people see of a study: its conditions and events, its status, and its figures for /metrics.

All of it says what the state says, so it is computed anew only where the state, or the cluster's devices, have changed,
and written only where it differs from what was written before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.state import MemoryClass, Observation, RunState, StudyState
from frostline_operator.engine.summary import Summary, summarize
from frostline_operator.kubernetes.client.api import STUDIES, Api, ApiError, Manifest
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.conditions import Conditions, study_status, timestamp
from frostline_operator.kubernetes.status.events import Recorder
from frostline_operator.kubernetes.status.figures import Progress, StudyFigures, figures, progress
from frostline_operator.runtime.protocol import Trouble
from frostline_operator.scores.scores import Availability

_STATUS_SECONDS = 5.0
"""The status is not written more often while only amounts change."""
_OPTIONAL = ("best", "completionTime", "startTime")


@dataclass(frozen=True)
class Situation:
    """What a tick has come to, as far as people are told."""

    seen: Observation
    """With each class's devices, whoever has them."""
    troubles: Mapping[str, Trouble]
    """By run, why it does not run."""
    no_devices: str
    """What to say where there is no device at all."""
    waiting_for: str | None
    """What the engine waits for."""
    from_prometheus: bool = False
    scores: Availability | None = None
    """Whether values come through Prometheus, None where that is not known yet."""


class Board:
    """The public side of one study.

    Args:
        api: where its status is written.
        study: whose.
        recorder: of its events.
        status: as the API server has it.
    """

    def __init__(self, api: Api, study: StudyRef, recorder: Recorder, status: Manifest) -> None:
        self.status = dict(status)
        """As it was written last."""
        self.figures: StudyFigures | None = None
        """For /metrics; replaced whole, so that it may be read from any thread."""
        self.spec: HPOStudySpec | None = None
        """Of the study, once it was accepted."""
        self._api, self._study, self._recorder = api, study, recorder
        self._progress: Progress | None = None
        self._written_at = 0.0
        self._shown: StudyState | None = None
        self._classes: tuple[MemoryClass, ...] | None = None
        self._found: Summary | None = None

    def conditions(self, generation: int) -> Conditions:
        """Those of the study, to be changed and written."""
        return Conditions(self.status.get("conditions") or [], generation)

    def say(self, conditions: Conditions, kind: str, status: bool, reason: str, message: str, now: float) -> bool:
        """A condition, and where it is news an event of the same words."""
        news = conditions.set(kind, status, reason, message, now)
        if news:
            self._recorder.say(kind if reason in ("Valid", "Computed") else reason, message)
        return news

    def show(self, now_is: Situation, conditions: Conditions, generation: int) -> None:
        """Say what has changed since the last time."""
        seen = now_is.seen
        found, moved = self._summary(seen)
        news = self._conditions(conditions, now_is, found)
        old, now = self.status, seen.now
        due = moved or news or generation != old.get("observedGeneration") or now - self._written_at > _STATUS_SECONDS
        if not due:
            return
        phase, message = _phase(now_is, conditions)
        status = study_status(seen, found, phase, message, conditions, generation)
        if seen.state.finished is not None:
            status["completionTime"] = old.get("completionTime") or timestamp(now)
            _settle_clock(status, old)
        self._progress = progress(seen, found, status["budget"])
        self.write(status, conditions, generation)
        self._shown = seen.state.copy()

    def _summary(self, seen: Observation) -> tuple[Summary, bool]:
        """The summary, and whether anything that it is made of has changed since it was last shown."""
        shown, state = self._shown, seen.state
        moved = shown is None or shown.runs != state.runs or shown.trials != state.trials
        if self._found is None or moved or seen.classes != self._classes:
            self._found, self._classes = summarize(seen), seen.classes
        return self._found, moved

    def write(self, status: Manifest, conditions: Conditions, generation: int) -> None:
        """Write the status where it differs from what was written last, and keep the figures of it."""
        phase, said = str(status.get("phase", "Pending")), conditions.listed()
        self.figures = figures(self._study, self.spec, phase, said, self._progress)
        wanted = {**status, "observedGeneration": generation, "conditions": said}
        patch: Manifest = {key: value for key, value in wanted.items() if self.status.get(key) != value}
        patch |= {key: None for key in self.status if key not in wanted and key in _OPTIONAL and "rungs" in status}
        self._written_at = time.time()
        if not patch:
            return
        try:
            self._api.patch(STUDIES, self._study.namespace, self._study.name, {"status": patch}, part="status")
        except ApiError as error:
            if error.status == 404:
                return  # it has just been deleted
            raise
        self.status = {key: value for key, value in {**self.status, **patch}.items() if value is not None}

    def _conditions(self, conditions: Conditions, now_is: Situation, found: Summary) -> bool:
        seen, now, news = now_is.seen, now_is.seen.now, False
        for said in found.conditions:
            news |= self.say(conditions, said.type, said.status, said.reason, said.message, now)
        for kind in {"FidelityUntrusted", "FidelityReduced"} - {said.type for said in found.conditions}:
            news |= conditions.clear(kind, "Resolved", "no longer so", now)
        troubles = _troubles(now_is)
        if seen.state.finished is None and not seen.classes:
            news |= self.say(conditions, "RunsBlocked", True, "NoDevices", now_is.no_devices, now)
        elif troubles:
            worst = min(troubles, key=lambda t: (t.waits, t.reason))
            more = f" (and {len(troubles) - 1} more runs wait)" if len(troubles) > 1 else ""
            news |= self.say(conditions, "RunsBlocked", True, worst.reason, worst.message + more, now)
        else:
            news |= conditions.clear("RunsBlocked", "Running", "nothing is held up", now)
        news |= self._scores(conditions, now_is)
        return news | self._progressing(conditions, now_is, bool(troubles))

    def _scores(self, conditions: Conditions, now_is: Situation) -> bool:
        found, now = now_is.scores, now_is.seen.now
        if not now_is.from_prometheus:
            return conditions.clear("MetricsAvailable", "Scrape", "values are read from the trainers", now)
        if found is None:
            return False
        return self.say(conditions, "MetricsAvailable", found.status, found.reason, found.message, now)

    def _progressing(self, conditions: Conditions, now_is: Situation, blocked: bool) -> bool:
        seen, now = now_is.seen, now_is.seen.now
        finished = seen.state.finished
        if finished is None:
            going = sum(1 for run in seen.state.active_runs if run.state is RunState.RUNNING)
            if seen.spec.suspend:
                return self.say(conditions, "Progressing", False, "Suspended", "suspended by spec.suspend", now)
            stuck = blocked and not going
            words = now_is.waiting_for or (
                f"{going} runs are running" if not stuck else "no run can run; see RunsBlocked"
            )
            return conditions.set("Progressing", not stuck, "RunsBlocked" if stuck else "Running", words, now)
        conditions.set("Progressing", False, finished.reason, finished.message, now)
        if finished.reason == "Failed":
            conditions.set("Complete", False, finished.reason, finished.message, now)
            return conditions.set("Failed", True, finished.reason, finished.message, now)
        return conditions.set("Complete", True, finished.reason, finished.message, now)


def _troubles(now_is: Situation) -> Sequence[Trouble]:
    """Those of runs that are still wanted."""
    active = {run.name for run in now_is.seen.state.active_runs}
    return [trouble for name, trouble in sorted(now_is.troubles.items()) if name in active]


def _phase(now_is: Situation, conditions: Conditions) -> tuple[str, str]:
    state = now_is.seen.state
    if state.finished is not None:
        return ("Failed" if state.finished.reason == "Failed" else "Complete"), state.finished.message
    active = len(state.active_runs)
    if now_is.seen.spec.suspend:
        return "Suspended", f"{active} runs write their checkpoints" if active else "suspended"
    blocked = next((c for c in conditions.listed() if c["type"] == "RunsBlocked" and c["status"] == "True"), None)
    if blocked is not None:
        return "Running", str(blocked["message"])
    return "Running", now_is.waiting_for or f"{active} runs are under way"


def _settle_clock(status: Manifest, old: Mapping[str, Any]) -> None:
    """The wall clock of a study that is over stands still."""
    before = {line["name"]: line for line in old.get("budget") or []}
    if old.get("completionTime"):
        status["budget"] = [
            before.get(line["name"], line) if line["name"] == "wallClock" else line for line in status["budget"]
        ]
        status["budgetUsed"] = old.get("budgetUsed", status.get("budgetUsed", ""))
