"""One study on a cluster: each round compares what is wanted with what is there, and acts. Level-triggered.

A round has phases: the study is accepted, its model is profiled, and it is run until it has finished. Each phase writes
into one draft of the study's status, which is published by one patch at the end of the round. Whatever the controller
keeps in memory is in the API server too: it is read again after a restart, and whenever somebody else wrote.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.state import Observation
from frostline_operator.kubernetes.acceptance import accepted, last_accepted
from frostline_operator.kubernetes.cleanup import Sweeper, template_of
from frostline_operator.kubernetes.client.api import Manifest
from frostline_operator.kubernetes.cluster import KubernetesCluster, WriteBudget
from frostline_operator.kubernetes.fleet import Fleet
from frostline_operator.kubernetes.journal import Journal, JournalError, StaleError
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.objects.classes import DeviceClass
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.profiler import Impossible, NotYet, Profiler, in_words
from frostline_operator.kubernetes.settings import Memory, OperatorSettings
from frostline_operator.kubernetes.status.figures import StudyFigures
from frostline_operator.kubernetes.status.study import Draft, Situation
from frostline_operator.kubernetes.status.trials import Publisher, TrialWriter
from frostline_operator.kubernetes.status.writer import StatusWriter
from frostline_operator.kubernetes.store import KubernetesStore
from frostline_operator.runtime.loop import StudyLoop
from frostline_operator.scores.scores import Scores
from frostline_trainer.contract import ModelProfile

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
"""Between rounds of a study that waits for a person, or is over."""
_TRIALS_SECONDS = 30.0
"""A study that is over says so once its HPOTrials do, or after this long if they cannot be written."""
_SOON_SECONDS = 0.2
_TIDY_SECONDS = 1.0
_STALE_SECONDS = 0.5


@dataclass(frozen=True)
class Requeue:
    """When a study is reconciled again, unless something of it changes before."""

    after: float
    """Seconds."""
    why: str
    """What is waited for."""


@dataclass(frozen=True)
class Collaborators:
    """What a controller works with; all but the first two are of one study."""

    fleet: Fleet
    publisher: Publisher
    journal: Journal
    store: KubernetesStore
    cluster: KubernetesCluster
    writes: WriteBudget
    """The same that the cluster has."""
    scores: Scores
    profiler: Profiler
    sweeper: Sweeper
    trials: TrialWriter
    status: StatusWriter


class StudyController:
    """Reconciles one study.

    Args:
        study: which.
        collaborators: what it works with.
        settings: of the operator.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        study: StudyRef,
        collaborators: Collaborators,
        settings: OperatorSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.study = study
        self._with = collaborators
        self._settings = settings
        self._clock = clock
        self._spec: HPOStudySpec | None = None
        """The last one that was accepted."""
        self._checked = -1
        """The generation that was accepted or refused."""
        self._problem: str | None = None
        self._profile: ModelProfile | None = None
        self._loop: StudyLoop | None = None
        self._loaded = False
        self._over_since: float | None = None
        self._lock = threading.Lock()
        self._deleted = False

    @property
    def figures(self) -> StudyFigures | None:
        """For /metrics, from any thread."""
        return self._with.status.figures

    def reconcile(self, body: Manifest) -> Requeue:
        """One round.

        Args:
            body: the HPOStudy as the API server has it.

        Raises:
            ApiError: the API server cannot be reached or does not let the operator do its work; try again later.
        """
        with self._lock:
            if self._deleted:
                return Requeue(_IDLE_SECONDS, "the study is being deleted")
            try:
                return self._round(body)
            except StaleError:
                where = f"{self.study.namespace}/{self.study.name}"
                log.warning("%s was written by somebody else; reading it again", where)
                self._forget()
                return Requeue(_STALE_SECONDS, "somebody else wrote its journal")

    def delete(self, body: Manifest) -> int:
        """Stop everything of a study that is to go. Returns how many pods there still are, cleaning up included.

        Args:
            body: the HPOStudy as the API server has it.

        Raises:
            ApiError: as for `reconcile`.
        """
        with self._lock:  # a round under way must not start what is just being stopped
            self._deleted = True
        self._with.trials.close()
        left = self._with.cluster.stop_all()
        if left == 0 and not self._cleaned(body):
            return 1
        if left == 0 and _keeps(body, names.KEEP_TRIALS):
            self._with.trials.orphan()
        if left == 0:
            self._with.fleet.forget(self.study.uid)
            self._with.scores.close()
        return left

    def _cleaned(self, body: Manifest) -> bool:
        """Whether nothing is left of its checkpoints, or they are to stay."""
        if self._settings.cleanup_seconds == 0 or _keeps(body, names.KEEP_CHECKPOINTS):
            return True
        try:
            if not (self._loop.state if self._loop is not None else self._with.store.load()).runs:
                return True
        except JournalError as error:
            log.warning("%s; it is deleted with all of its checkpoints", error)
        return self._with.sweeper.remove_all(template_of(body), self._clock())

    # --- one round ---

    def _round(self, body: Manifest) -> Requeue:
        draft = self._with.status.draft(int(body["metadata"].get("generation", 0)), self._clock())
        try:
            if not self._loaded:
                self._with.store.load()
                self._loaded = True
            requeue = self._round_of(body, draft)
        except JournalError as error:
            # Runs under way end by themselves; nothing is begun anew that may have been paid for already
            self._forget()
            draft.lose_journal(str(error))
            requeue = Requeue(_IDLE_SECONDS, "a part of its journal is missing or cannot be read")
        self._with.status.publish(draft)
        return requeue

    def _round_of(self, body: Manifest, draft: Draft) -> Requeue:
        spec = self._accept(body, draft)
        if spec is None:
            return self._wind_down()
        profile = self._profiled(spec, draft)
        if profile is None:
            if draft.conditions.holds("Failed"):
                return Requeue(_IDLE_SECONDS, "the model cannot be profiled")
            return Requeue(self._settings.tick_seconds, "the model is being profiled")
        return self._run(spec, profile, body, draft)

    def _wind_down(self) -> Requeue:
        """Stop, book and give back what runs while an edit is not accepted, by the spec that was accepted before it."""
        waits = Requeue(_IDLE_SECONDS, "a person has to correct the study")
        spec = self._spec or last_accepted(self._with.journal)
        profile = self._profile or self._read_profile()
        if not self._with.journal.begun or spec is None or profile is None:
            return waits
        loop = self._loop_of(profile)
        halted = spec.model_copy(update={"suspend": True})
        loop.tick(halted)
        self._with.fleet.settle(self.study.uid, halted, loop.state)
        self._with.cluster.tidy(loop.state)
        if any(run.state.open for run in loop.state.runs.values()):
            return Requeue(self._settings.tick_seconds, "runs are stopped until a person has corrected the study")
        return waits

    def _loop_of(self, profile: ModelProfile) -> StudyLoop:
        part = self._with
        if self._loop is None:
            self._loop = StudyLoop(self.study.name, self.study.uid, profile, part.cluster, part.store, self._clock)
        return self._loop

    def _accept(self, body: Manifest, draft: Draft) -> HPOStudySpec | None:
        """The study's spec, None where it cannot be run as it is written."""
        if draft.generation != self._checked:
            answer = accepted(body, self._with.journal, self._settings)
            self._problem = answer if isinstance(answer, str) else None
            self._spec = self._spec if isinstance(answer, str) else answer
            self._with.status.spec = self._spec
            self._checked = draft.generation
            if not self._with.journal.begun:
                self._profile = None  # it may be of another model than the spec has now
        if self._spec is None or self._problem is not None:
            draft.refuse(self._problem or "")
            return None
        draft.accept()
        return self._spec

    def _profiled(self, spec: HPOStudySpec, draft: Draft) -> ModelProfile | None:
        """What the study's model costs, None where that is not known yet."""
        if self._profile is None:
            begun = self._with.journal.begun  # before that, what the journal has may be of another spec
            self._profile = (self._read_profile() if begun else None) or self._compute_profile(spec, draft)
        if self._profile is not None:
            draft.profile(in_words(self._profile))
        return self._profile

    def _read_profile(self) -> ModelProfile | None:
        document = self._with.journal.fact("profile")
        return None if document is None else ModelProfile.model_validate(document)

    def _compute_profile(self, spec: HPOStudySpec, draft: Draft) -> ModelProfile | None:
        classes, _ = self._with.fleet.classes(spec)
        answer = self._with.profiler.profile(
            spec, self._memory(classes), draft.now, self._with.fleet.ready_nodes(), _largest(classes)
        )
        match answer:
            case ModelProfile():
                self._with.journal.set_fact("profile", answer.model_dump(mode="json", by_alias=True))
                draft.clear("Failed", "Corrected", "what was wrong has been changed")
                return answer
            case Impossible(message, reason):
                draft.fail_profile(reason, message)
            case NotYet(trouble):
                draft.await_profile(trouble)
        return None

    def _run(self, spec: HPOStudySpec, profile: ModelProfile, body: Manifest, draft: Draft) -> Requeue:
        """One tick of the engine, and what follows from it."""
        part, loop = self._with, self._loop_of(profile)
        part.sweeper.keeps = _keeps(body, names.KEEP_CHECKPOINTS)
        loop.tick(spec)
        part.fleet.settle(self.study.uid, spec, loop.state, loop.paused)
        part.cluster.tidy(loop.state)
        if self._trials_lag(spec, loop, draft.now):
            return Requeue(_SOON_SECONDS, "the HPOTrials of a study that is over are being written")
        part.status.describe(draft, self._situation(spec, loop, draft.now))
        if part.writes.exceeded:
            return Requeue(0.0, "more is to be written than one round may")
        if loop.done:
            return self._finish(loop)
        if spec.suspend and not loop.state.active_runs:
            return Requeue(_IDLE_SECONDS, "the study is suspended")
        return Requeue(self._settings.tick_seconds, "runs are under way")

    def _finish(self, loop: StudyLoop) -> Requeue:
        """What is left to do for a study that is over."""
        if loop.swept and not self._with.cluster.untidy():
            return Requeue(_IDLE_SECONDS, "the study is over")
        return Requeue(_TIDY_SECONDS, "checkpoints and Jobs of a study that is over are being removed")

    def _trials_lag(self, spec: HPOStudySpec, loop: StudyLoop, now: float) -> bool:
        """Have HPOTrials written; True where the study's end is not to be told before they are.

        Whoever waits for the study's end finds its trials as they ended.
        """
        sweeps = not self._with.sweeper.keeps and self._settings.cleanup_seconds > 0
        if self._with.trials.show(loop.state, make_plan(spec, loop.profile), sweeps):
            return False
        over = loop.state.finished is not None
        self._with.publisher.submit(self._with.trials, at_once=over)
        if not over:
            return False
        self._over_since = now if self._over_since is None else self._over_since
        return now - self._over_since < _TRIALS_SECONDS

    def _situation(self, spec: HPOStudySpec, loop: StudyLoop, now: float) -> Situation:
        classes, skipped = self._with.fleet.classes(spec)
        whole = tuple(made.whole for made in classes.values())
        observation = Observation(self.study.name, spec, loop.profile, whole, loop.state, now)
        no_devices = self._with.fleet.no_devices(skipped)
        source = self._with.scores.from_prometheus
        scores = self._with.scores.availability(loop.state) if source else None
        return Situation(observation, loop.troubles, no_devices, loop.waiting_for, source, scores)

    def _memory(self, classes: dict[str, DeviceClass]) -> Memory:
        """Whose memory to foretell: nobody's, where the only class has no limit."""
        limited = any(one.usable_bytes is not None for one in classes.values()) or not classes
        return self._settings.memory if limited else "none"

    def _forget(self) -> None:
        """Read everything again in the next round."""
        self._loaded = False
        self._loop = None
        self._checked = -1


def _largest(classes: dict[str, DeviceClass]) -> DeviceClass | None:
    return max(classes.values(), key=lambda one: (one.usable_bytes or 0, one.name), default=None)


def _keeps(body: Manifest, annotation: str) -> bool:
    """Whether a study's annotation says that something of it is to stay."""
    return bool((body["metadata"].get("annotations") or {}).get(annotation) == "true")
