"""One study on a cluster: each tick compares what is wanted with what is there, and acts. Level-triggered.

It knows nothing that is not in the API server: whatever it keeps in memory can be read again, and is, after every
restart and whenever somebody else wrote.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.state import Observation
from frostline_operator.kubernetes.acceptance import accepted
from frostline_operator.kubernetes.caches import Caches
from frostline_operator.kubernetes.cleanup import Sweeper, template_of
from frostline_operator.kubernetes.client.api import Api, Manifest
from frostline_operator.kubernetes.cluster import KubernetesCluster, WriteBudget
from frostline_operator.kubernetes.fleet import Fleet
from frostline_operator.kubernetes.journal import Journal, StaleError
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.objects.classes import DeviceClass
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.profiler import Impossible, NotYet, Profiler, in_words
from frostline_operator.kubernetes.settings import Memory, OperatorSettings
from frostline_operator.kubernetes.status.conditions import Conditions
from frostline_operator.kubernetes.status.events import Recorder
from frostline_operator.kubernetes.status.figures import StudyFigures
from frostline_operator.kubernetes.status.publishing import Publisher
from frostline_operator.kubernetes.status.study import Board, Situation
from frostline_operator.kubernetes.status.trials import TrialWriter
from frostline_operator.kubernetes.store import KubernetesStore
from frostline_operator.runtime.loop import StudyLoop
from frostline_operator.scores.asking import Asker
from frostline_operator.scores.queries import TargetLabels
from frostline_operator.scores.scores import ScoredStudy, Scores, ScoreSettings
from frostline_operator.scores.scrape import Scraper
from frostline_trainer.contract import ModelProfile

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
"""Between looks at a study that waits for a person, or is over."""
_TRIALS_SECONDS = 30.0
"""A study that is over says so once its HPOTrials do, or after this long if they cannot be written."""


@dataclass(frozen=True)
class Shared:
    """What all studies of an operator have in common."""

    api: Api
    caches: Caches
    fleet: Fleet
    scraper: Scraper
    publisher: Publisher
    asker: Asker | None
    """None where the operator knows of no Prometheus."""
    settings: OperatorSettings


class StudyController:
    """One study.

    Args:
        body: the HPOStudy as the API server has it.
        shared: with the other studies.
    """

    def __init__(self, body: Manifest, shared: Shared) -> None:
        metadata = body["metadata"]
        self.study = StudyRef(
            metadata["namespace"], metadata["name"], metadata["uid"], dict(metadata.get("labels") or {})
        )
        self._shared = shared
        self._recorder = Recorder(shared.api, self.study)
        self._journal = Journal(shared.api, self.study)
        self._store = KubernetesStore(self._journal, self._recorder)
        self._trials = TrialWriter(shared.api, self.study)
        self._sweeper = Sweeper(shared.api, shared.caches, self.study, shared.settings, self._recorder)
        self._board = Board(shared.api, self.study, self._recorder, dict(body.get("status") or {}))
        settings = ScoreSettings(
            shared.settings.prometheus.interval_seconds,
            shared.settings.linger_seconds,
            shared.settings.tick_seconds,
            TargetLabels(shared.settings.prometheus.namespace_label, shared.settings.prometheus.pod_label),
        )
        scored = ScoredStudy(self.study.name, self.study.namespace, self.study.uid)
        self._scores = Scores(scored, shared.scraper, shared.asker, settings)
        self._writes = WriteBudget()
        self._spec: HPOStudySpec | None = None
        self._checked = -1
        self._problem: str | None = None
        self._profile: ModelProfile | None = None
        self._loop: StudyLoop | None = None
        self._cluster: KubernetesCluster | None = None
        self._loaded = False
        self._over: float | None = None
        self._lock = threading.Lock()
        self._going = False

    @property
    def figures(self) -> StudyFigures | None:
        """For /metrics, from any thread."""
        return self._board.figures

    def tick(self, body: Manifest) -> float:
        """One round. Returns the seconds until the next one, unless something wakes the study earlier.

        Raises:
            ApiError: the API server cannot be reached or does not let the operator do its work; try again later.
        """
        with self._lock:
            return _IDLE_SECONDS if self._going else self._guarded(body)

    def _guarded(self, body: Manifest) -> float:
        try:
            return self._tick(body)
        except StaleError:
            log.warning("%s/%s was written by somebody else; reading it again", self.study.namespace, self.study.name)
            self._forget()
            return 0.5

    def delete(self, body: Manifest) -> int:
        """Stop everything of a study that is to go. Returns how many pods there still are, cleaning up included."""
        with self._lock:  # a tick under way must not start what is just being stopped
            self._going = True
        self._trials.close()
        left = self._any_cluster().stop_all()
        if left == 0 and not self._cleaned(body):
            return 1
        if left == 0 and _keeps(body, names.KEEP_TRIALS):
            self._trials.orphan()
        if left == 0:
            self._shared.fleet.forget(self.study.uid)
            self._scores.close()
        return left

    def _cleaned(self, body: Manifest) -> bool:
        """Whether nothing is left of its checkpoints, or they are to stay."""
        if self._shared.settings.cleanup_seconds == 0 or _keeps(body, names.KEEP_CHECKPOINTS):
            return True
        if not (self._loop.state if self._loop is not None else self._store.load()).runs:
            return True
        return self._sweeper.remove_all(template_of(body), time.time())

    # --- one round ---

    def _tick(self, body: Manifest) -> float:
        now = time.time()
        generation = int(body["metadata"].get("generation", 0))
        conditions = self._board.conditions(generation)
        if not self._loaded:
            self._store.load()
            self._loaded = True
        if generation != self._checked:
            read = accepted(body, self._journal, self._shared.settings)
            self._problem = read if isinstance(read, str) else None
            self._spec = self._spec if isinstance(read, str) else read
            self._board.spec = self._spec
            self._checked = generation
        if self._spec is None or self._problem is not None:
            return self._refuse(conditions, generation, self._problem or "", now)
        self._board.say(conditions, "Accepted", True, "Valid", "the study is valid", now)
        if not self._profiled(conditions, generation, now):
            return self._shared.settings.tick_seconds if not conditions.holds("Failed") else _IDLE_SECONDS
        loop, cluster = self._running()
        self._sweeper.keeps = _keeps(body, names.KEEP_CHECKPOINTS)
        loop.tick(self._spec)
        self._shared.fleet.settle(self.study.uid, self._spec, loop.state)
        cluster.tidy(loop.state)
        sweeps = not self._sweeper.keeps and self._shared.settings.cleanup_seconds > 0
        if not self._trials.show(loop.state, make_plan(self._spec, loop.profile), sweeps):
            over = loop.state.finished is not None
            self._shared.publisher.submit(self._trials, at_once=over)
            if over and now - self._over_since(now) < _TRIALS_SECONDS:
                return 0.2  # whoever waits for the study's end finds its trials as they ended
        self._board.show(self._situation(loop, now), conditions, generation)
        if self._writes.exceeded:
            return 0.0
        if loop.done:
            return _IDLE_SECONDS if loop.swept and not cluster.untidy() else 1.0
        if self._spec.suspend and not loop.state.active_runs:
            return _IDLE_SECONDS
        return self._shared.settings.tick_seconds

    def _over_since(self, now: float) -> float:
        self._over = now if self._over is None else self._over
        return self._over

    def _situation(self, loop: StudyLoop, now: float) -> Situation:
        assert self._spec is not None
        classes, skipped = self._shared.fleet.classes(self._spec)
        whole = tuple(made.whole for made in classes.values())
        seen = Observation(self.study.name, self._spec, loop.profile, whole, loop.state, now)
        no_devices = self._shared.fleet.no_devices(skipped)
        source = self._scores.from_prometheus
        scores = self._scores.availability(loop.state) if source else None
        return Situation(seen, loop.troubles, no_devices, loop.waiting_for, source, scores)

    def _refuse(self, conditions: Conditions, generation: int, problem: str, now: float) -> float:
        self._board.say(conditions, "Accepted", False, "Invalid", problem, now)
        conditions.clear("Progressing", "Invalid", "the study is not accepted", now)
        phase = self._board.status.get("phase", "Pending")
        self._board.write({"phase": phase, "message": problem}, conditions, generation)
        return _IDLE_SECONDS

    def _profiled(self, conditions: Conditions, generation: int, now: float) -> bool:
        assert self._spec is not None
        if self._profile is not None:
            return True
        known = self._journal.fact("profile")
        if known is not None:
            self._profile = ModelProfile.model_validate(known)
            return True
        profiler = Profiler(self._shared.api, self._shared.caches, self.study, self._shared.settings)
        ready = self._shared.fleet.ready_nodes()
        found = profiler.profile(self._spec, self._memory(), now, ready, self._largest_class())
        match found:
            case ModelProfile():
                self._profile = found
                self._journal.set_fact("profile", found.model_dump(mode="json", by_alias=True))
                self._board.say(conditions, "Profiled", True, "Computed", in_words(found), now)
                return True
            case Impossible(message):
                self._board.say(conditions, "Profiled", False, "Impossible", message, now)
                self._board.say(conditions, "Failed", True, "ProfileImpossible", message, now)
                conditions.set("Progressing", False, "Failed", message, now)
                self._board.write({"phase": "Failed", "reason": "Failed", "message": message}, conditions, generation)
                return False
            case NotYet(trouble):
                reason = "Computing" if trouble is None else trouble.reason
                text = "a Job computes what the model costs and needs" if trouble is None else trouble.message
                self._board.say(conditions, "Profiled", False, reason, text, now)
                conditions.set("Progressing", trouble is None, reason, text, now)
                self._board.write({"phase": "Profiling", "message": text}, conditions, generation)
                return False

    def _memory(self) -> Memory:
        """Whose memory to foretell: nobody's, where the only class has no limit."""
        assert self._spec is not None
        classes, _ = self._shared.fleet.classes(self._spec)
        limited = any(made.usable_bytes is not None for made in classes.values()) or not classes
        return self._shared.settings.memory if limited else "none"

    def _largest_class(self) -> DeviceClass | None:
        assert self._spec is not None
        classes, _ = self._shared.fleet.classes(self._spec)
        return max(classes.values(), key=lambda made: (made.usable_bytes or 0, made.name), default=None)

    def _any_cluster(self) -> KubernetesCluster:
        if self._cluster is None:
            shared = self._shared
            self._cluster = KubernetesCluster(
                self.study,
                shared.api,
                shared.caches,
                shared.fleet,
                self._scores,
                self._sweeper,
                self._writes,
                shared.settings,
            )
        return self._cluster

    def _running(self) -> tuple[StudyLoop, KubernetesCluster]:
        """The loop around the engine, made at the first tick."""
        assert self._spec is not None and self._profile is not None
        cluster = self._any_cluster()
        if self._loop is None:
            self._loop = StudyLoop(
                self.study.name,
                self.study.uid,
                self._profile,
                cluster,
                self._store,
                time.time,
            )
        return self._loop, cluster

    def _forget(self) -> None:
        """Read everything again at the next tick."""
        self._loaded = False
        self._loop = None
        self._checked = -1


def _keeps(body: Manifest, annotation: str) -> bool:
    """Whether a study's annotation says that something of it is to stay."""
    return bool((body["metadata"].get("annotations") or {}).get(annotation) == "true")
