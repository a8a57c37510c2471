"""Publishes the status of one HPOStudy: one patch per round, then the round's events and the figures for /metrics.

All of it says what the state says, so it is computed anew only where the state, or the cluster's devices, have changed,
and written only where it differs from what was written before.
"""

from __future__ import annotations

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.state import MemoryClass, Observation, StudyState
from frostline_operator.engine.summary import Summary, summarize
from frostline_operator.kubernetes.client.api import STUDIES, Api, ApiError, Manifest
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.conditions import Conditions
from frostline_operator.kubernetes.status.events import Recorder
from frostline_operator.kubernetes.status.figures import Progress, StudyFigures, figures, progress
from frostline_operator.kubernetes.status.study import Draft, Situation, set_conditions, study_status

_STATUS_SECONDS = 5.0
"""The status is not written more often while only amounts change."""
_OPTIONAL = ("best", "completionTime", "startTime")


class StatusWriter:
    """The status of one study.

    Args:
        api: where it is written.
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
        self._described: StudyState | None = None
        """What the status that was written last is about."""
        self._classes: tuple[MemoryClass, ...] | None = None
        self._last: Summary | None = None

    def draft(self, generation: int, now: float) -> Draft:
        """The status at the beginning of a round.

        Args:
            generation: of the study that the round is about.
            now: seconds since the epoch.
        """
        return Draft(Conditions(self.status.get("conditions") or [], generation), self.status, generation, now)

    def describe(self, draft: Draft, situation: Situation) -> None:
        """The status of a study whose model is profiled; its fields stay as they are until they are due."""
        observation = situation.observation
        summary, moved = self._summary(observation)
        set_conditions(draft, situation, summary)
        edited = draft.generation != self.status.get("observedGeneration")
        if moved or draft.news or edited or draft.now - self._written_at > _STATUS_SECONDS:
            draft.fields = study_status(draft, situation, summary)
            draft.described = observation.state.copy()
            self._progress = progress(observation, summary, draft.fields["budget"])

    def _summary(self, observation: Observation) -> tuple[Summary, bool]:
        """The summary, and whether anything that it is made of has changed since the status was last written."""
        before, state = self._described, observation.state
        moved = before is None or before.runs != state.runs or before.trials != state.trials
        if self._last is None or moved or observation.classes != self._classes:
            self._last, self._classes = summarize(observation), observation.classes
        return self._last, moved

    def publish(self, draft: Draft) -> None:
        """Write what the round has changed, by one patch, and record its events.

        Raises:
            ApiError: the API server did not take the patch; nothing is recorded.
        """
        if draft.fields is None and not draft.news:
            return
        fields = draft.fields if draft.fields is not None else self.status
        conditions = draft.conditions.listed()
        self.figures = figures(self._study, self.spec, str(fields.get("phase", "Pending")), conditions, self._progress)
        wanted = {**fields, "observedGeneration": draft.generation, "conditions": conditions}
        patch: Manifest = {key: value for key, value in wanted.items() if self.status.get(key) != value}
        if draft.described is not None:
            patch |= {key: None for key in _OPTIONAL if key in self.status and key not in wanted}
        if patch and not self._patch(patch):
            return
        self._written_at, self._described = draft.now, draft.described or self._described
        for event in draft.events:
            self._recorder.record(event)

    def _patch(self, patch: Manifest) -> bool:
        """Whether the study is still there to be written."""
        try:
            self._api.patch(STUDIES, self._study.namespace, self._study.name, {"status": patch}, part="status")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        self.status = {key: value for key, value in {**self.status, **patch}.items() if value is not None}
        return True
