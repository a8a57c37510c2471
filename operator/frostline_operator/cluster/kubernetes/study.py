"""One study on a cluster: each tick compares what is wanted with what is there, and acts. Level-triggered.

It knows nothing that is not in the API server: whatever it keeps in memory can be read again, and is, after every
restart and whenever somebody else wrote.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

from frostline_operator.api.loader import validate_study
from frostline_operator.api.problems import StudyError
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.cluster.kubernetes import names
from frostline_operator.cluster.kubernetes.api import STUDIES, Api, ApiError, Manifest
from frostline_operator.cluster.kubernetes.cluster import Caches, KubernetesCluster
from frostline_operator.cluster.kubernetes.events import Recorder
from frostline_operator.cluster.kubernetes.figures import Progress, StudyFigures, figures, progress
from frostline_operator.cluster.kubernetes.fixed import changed_sections, fixed_part
from frostline_operator.cluster.kubernetes.fleet import Fleet
from frostline_operator.cluster.kubernetes.jobs import StudyRef, pod_template
from frostline_operator.cluster.kubernetes.journal import Journal, StaleError
from frostline_operator.cluster.kubernetes.profiles import Impossible, NotYet, Profiler
from frostline_operator.cluster.kubernetes.scores import Scores
from frostline_operator.cluster.kubernetes.settings import Memory, OperatorSettings
from frostline_operator.cluster.kubernetes.status import Conditions, study_status, timestamp
from frostline_operator.cluster.kubernetes.store import KubernetesStore
from frostline_operator.cluster.kubernetes.trials import TrialWriter
from frostline_operator.cluster.kubernetes.watching import Watcher
from frostline_operator.cluster.loop import StudyLoop
from frostline_operator.cluster.prometheus.asking import Asker
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.state import Observation, RunState
from frostline_operator.engine.summary import summarize
from frostline_trainer.contract import ModelProfile

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
"""Between looks at a study that waits for a person, or is over."""
_STATUS_SECONDS = 5.0
"""The status is not written more often while only amounts change."""


@dataclass(frozen=True)
class Shared:
    """What all studies of an operator have in common."""

    api: Api
    caches: Caches
    fleet: Fleet
    watcher: Watcher
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
        self._scores = Scores(self.study, shared.watcher, shared.asker, shared.settings)
        self._spec: HPOStudySpec | None = None
        self._checked = -1
        self._problem: str | None = None
        self._profile: ModelProfile | None = None
        self._loop: StudyLoop | None = None
        self._cluster: KubernetesCluster | None = None
        self._loaded = False
        self._status: Manifest = dict(body.get("status") or {})
        self.figures: StudyFigures | None = None
        """For /metrics; replaced whole, so that it may be read from any thread."""
        self._progress_figures: Progress | None = None
        self._written_at = 0.0
        self._lock = threading.Lock()
        self._going = False

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
        """Stop everything of a study that is to go. Returns how many pods are still writing their checkpoints."""
        with self._lock:  # a tick under way must not start what is just being stopped
            self._going = True
        left = self._any_cluster().stop_all()
        if left == 0 and (body["metadata"].get("annotations") or {}).get(names.KEEP_TRIALS) == "true":
            self._trials.orphan()
        if left == 0:
            self._shared.fleet.forget(self.study.uid)
            self._shared.watcher.forget(self.study.uid)
            if self._shared.asker is not None:
                self._shared.asker.forget(self.study.uid)
        return left

    # --- one round ---

    def _tick(self, body: Manifest) -> float:
        now = time.time()
        generation = int(body["metadata"].get("generation", 0))
        conditions = Conditions(self._status.get("conditions") or [], generation)
        if not self._loaded:
            self._store.load()
            self._loaded = True
        if generation != self._checked:
            self._check(body)
            self._checked = generation
        if self._spec is None or self._problem is not None:
            return self._refuse(conditions, generation, self._problem or "", now)
        self._say(conditions, "Accepted", True, "Valid", "the study is valid", now)
        if not self._profiled(conditions, generation, now):
            return self._shared.settings.tick_seconds if not conditions.holds("Failed") else _IDLE_SECONDS
        loop, cluster = self._running()
        loop.spec = cluster.spec = self._spec
        before = loop.state.copy()
        cluster.bind(loop.state)
        loop.tick()
        self._shared.fleet.settle(self.study.uid, self._spec, loop.state)
        cluster.tidy(loop.state)
        plan = make_plan(self._spec, loop.profile)
        all_written = self._trials.write(loop.state, plan)
        moved = before.runs != loop.state.runs or before.trials != loop.state.trials
        self._show(loop, cluster, conditions, generation, now, moved)
        if loop.done:
            return _IDLE_SECONDS if all_written and not cluster.untidy() else 1.0
        if self._spec.suspend and not loop.state.active_runs:
            return _IDLE_SECONDS
        return self._shared.settings.tick_seconds if all_written else 0.1

    def _check(self, body: Manifest) -> None:
        """Read the spec; what CEL could not say is said here."""
        manifest = {key: body[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in body}
        try:
            spec = validate_study(json.loads(json.dumps(manifest)), self.study.name).spec
        except StudyError as error:
            self._problem = "\n".join(f"{p.path}: {p.message}" if p.path else p.message for p in error.problems)
            return
        known = self._journal.fact("spec")
        changed = changed_sections(known, spec) if known is not None else []
        if changed:
            self._problem = (
                f"{', '.join(changed)} changed although the study has begun; results of different studies cannot be "
                "mixed. Undo the change, or make a new study"
            )
            return
        lacking = self._without_checkpoints(spec)
        if lacking is not None:
            self._problem = lacking
            return
        if known is None:
            self._journal.set_fact("spec", fixed_part(spec))
        self._spec, self._problem = spec, None

    def _without_checkpoints(self, spec: HPOStudySpec) -> str | None:
        """Promoted trials go on from a checkpoint, perhaps on another node: it must be where all nodes see it."""
        root = self._shared.settings.checkpoints
        if "://" in root:
            return None
        pod = pod_template(self._shared.settings, spec.template)["spec"]
        container: Manifest = next((c for c in pod["containers"] if c.get("name") == names.CONTAINER), {})
        paths = [str(mount.get("mountPath", "")).rstrip("/") for mount in container.get("volumeMounts") or []]
        if any(path not in ("", "/tmp") and (root.rstrip("/") + "/").startswith(path + "/") for path in paths):
            return None
        return (
            f"there is no place for checkpoints: nothing is mounted at {root}; give the operator checkpointClaim or a "
            f"URL, or mount a shared volume there with spec.template (a volume named {names.CHECKPOINTS})"
        )

    def _refuse(self, conditions: Conditions, generation: int, problem: str, now: float) -> float:
        self._say(conditions, "Accepted", False, "Invalid", problem, now)
        conditions.clear("Progressing", "Invalid", "the study is not accepted", now)
        self._write({"phase": self._status.get("phase", "Pending"), "message": problem}, conditions, generation)
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
        found = profiler.profile(self._spec, self._memory(), now, self._shared.fleet.ready_nodes())
        match found:
            case ModelProfile():
                self._profile = found
                self._journal.set_fact("profile", found.model_dump(mode="json", by_alias=True))
                text = f"{found.layers} layers; " + (
                    "memory is known at each number of trainable layers"
                    if found.memory is not None
                    else "memory is not foretold: what does not fit shows by running out of it"
                )
                self._say(conditions, "Profiled", True, "Computed", text, now)
                return True
            case Impossible(message):
                self._say(conditions, "Profiled", False, "Impossible", message, now)
                self._say(conditions, "Failed", True, "ProfileImpossible", message, now)
                conditions.set("Progressing", False, "Failed", message, now)
                self._write({"phase": "Failed", "reason": "Failed", "message": message}, conditions, generation)
                return False
            case NotYet(trouble):
                reason = "Computing" if trouble is None else trouble.reason
                text = "a Job computes what the model costs and needs" if trouble is None else trouble.message
                self._say(conditions, "Profiled", False, reason, text, now)
                conditions.set("Progressing", trouble is None, reason, text, now)
                self._write({"phase": "Profiling", "message": text}, conditions, generation)
                return False

    def _memory(self) -> Memory:
        """Whose memory to foretell: nobody's, where the only class has no limit."""
        assert self._spec is not None
        classes, _ = self._shared.fleet.classes(self._spec)
        limited = any(made.usable_bytes is not None for made in classes.values()) or not classes
        return self._shared.settings.memory if limited else "none"

    def _any_cluster(self) -> KubernetesCluster:
        if self._cluster is None:
            shared = self._shared
            spec: Any = self._spec
            self._cluster = KubernetesCluster(
                self.study, spec, shared.api, shared.caches, shared.fleet, self._scores, shared.settings
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
                self._spec,
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

    # --- what people see ---

    def _show(
        self,
        loop: StudyLoop,
        cluster: KubernetesCluster,
        conditions: Conditions,
        generation: int,
        now: float,
        moved: bool,
    ) -> None:
        assert self._spec is not None
        classes, skipped = self._shared.fleet.classes(self._spec)
        whole = tuple(cluster.whole(made) for made in classes.values())
        seen = Observation(self.study.name, self._spec, loop.profile, whole, loop.state, now)
        news = self._conditions(conditions, loop, cluster, seen, [s.reason for s in skipped], now)
        old = self._status
        due = moved or news or generation != old.get("observedGeneration") or now - self._written_at > _STATUS_SECONDS
        if not due:
            return
        phase, message = self._phase(loop, conditions)
        status = study_status(seen, phase, message, conditions, generation)
        if loop.state.finished is not None:
            status["completionTime"] = old.get("completionTime") or timestamp(now)
            _settle_clock(status, old)
        self._progress_figures = progress(seen, summarize(seen), status["budget"])
        self._write(status, conditions, generation)

    def _phase(self, loop: StudyLoop, conditions: Conditions) -> tuple[str, str]:
        finished = loop.state.finished
        if finished is not None:
            return ("Failed" if finished.reason == "Failed" else "Complete"), finished.message
        assert self._spec is not None
        if self._spec.suspend:
            active = len(loop.state.active_runs)
            return "Suspended", f"{active} runs write their checkpoints" if active else "suspended"
        blocked = next((c for c in conditions.listed() if c["type"] == "RunsBlocked" and c["status"] == "True"), None)
        if blocked is not None:
            return "Running", str(blocked["message"])
        return "Running", loop.waiting_for or f"{len(loop.state.active_runs)} runs are under way"

    def _conditions(
        self,
        conditions: Conditions,
        loop: StudyLoop,
        cluster: KubernetesCluster,
        seen: Observation,
        skipped: list[str],
        now: float,
    ) -> bool:
        news = False
        stated = set()
        for found in summarize(seen).conditions:
            stated.add(found.type)
            news |= self._say(conditions, found.type, found.status, found.reason, found.message, now)
        for kind in ("FidelityUntrusted", "FidelityReduced"):
            if kind not in stated:
                news |= conditions.clear(kind, "Resolved", "no longer so", now)
        active = {run.name for run in loop.state.active_runs}
        troubles = [t for name, t in sorted(cluster.troubles.items()) if name in active]
        finished = loop.state.finished
        if finished is None and not seen.classes:
            words = "; ".join(skipped[:3]) or (
                "no node offers GPUs that its pods could use; add one, or let the operator use CPUs (cpuSlots)"
            )
            news |= self._say(conditions, "RunsBlocked", True, "NoDevices", words, now)
        elif troubles:
            worst = min(troubles, key=lambda t: (t.waits, t.reason))
            more = f" (and {len(troubles) - 1} more runs wait)" if len(troubles) > 1 else ""
            news |= self._say(conditions, "RunsBlocked", True, worst.reason, worst.message + more, now)
        else:
            news |= conditions.clear("RunsBlocked", "Running", "nothing is held up", now)
        if finished is None:
            news |= self._say_scores(conditions, loop, now)
        return news | self._progress(conditions, loop, len(troubles), now)

    def _say_scores(self, conditions: Conditions, loop: StudyLoop, now: float) -> bool:
        if not self._scores.from_prometheus:
            return conditions.clear("MetricsAvailable", "Scrape", "values are read from the trainers", now)
        found = self._scores.availability(loop.state)
        if found is None:
            return False
        return self._say(conditions, "MetricsAvailable", found.status, found.reason, found.message, now)

    def _progress(self, conditions: Conditions, loop: StudyLoop, blocked: int, now: float) -> bool:
        finished, say = loop.state.finished, self._say
        assert self._spec is not None
        if finished is None:
            going = sum(1 for run in loop.state.active_runs if run.state is RunState.RUNNING)
            if self._spec.suspend:
                return say(conditions, "Progressing", False, "Suspended", "suspended by spec.suspend", now)
            stuck = bool(blocked) and not going
            words = loop.waiting_for or (
                f"{going} runs are running" if not stuck else "no run can run; see RunsBlocked"
            )
            return conditions.set("Progressing", not stuck, "RunsBlocked" if stuck else "Running", words, now)
        failed = finished.reason == "Failed"
        conditions.set("Progressing", False, finished.reason, finished.message, now)
        if failed:
            conditions.set("Complete", False, finished.reason, finished.message, now)
            return conditions.set("Failed", True, finished.reason, finished.message, now)
        return conditions.set("Complete", True, finished.reason, finished.message, now)

    def _say(self, conditions: Conditions, kind: str, status: bool, reason: str, message: str, now: float) -> bool:
        """A condition, and where it is news an event of the same words."""
        news = conditions.set(kind, status, reason, message, now)
        if news:
            self._recorder.say(kind if reason in ("Valid", "Computed") else reason, message)
        return news

    def _write(self, status: Manifest, conditions: Conditions, generation: int) -> None:
        """Write the status where it differs from what was written last, and keep the figures of it."""
        phase, said = str(status.get("phase", "Pending")), conditions.listed()
        self.figures = figures(self.study, self._spec, phase, said, self._progress_figures)
        wanted = {**status, "observedGeneration": generation, "conditions": conditions.listed()}
        patch = {key: value for key, value in wanted.items() if self._status.get(key) != value}
        patch |= {key: None for key in self._status if key not in wanted and key in _OPTIONAL and "rungs" in status}
        self._written_at = time.time()
        if not patch:
            return
        try:
            self._shared.api.patch(STUDIES, self.study.namespace, self.study.name, {"status": patch}, part="status")
        except ApiError as error:
            if error.status == 404:
                return  # it has just been deleted
            raise
        self._status = {key: value for key, value in {**self._status, **patch}.items() if value is not None}


_OPTIONAL = ("best", "completionTime", "startTime")


def _settle_clock(status: Manifest, old: Manifest) -> None:
    """The wall clock of a study that is over stands still."""
    before = {line["name"]: line for line in old.get("budget") or []}
    if old.get("completionTime"):
        status["budget"] = [
            before.get(line["name"], line) if line["name"] == "wallClock" else line for line in status["budget"]
        ]
        status["budgetUsed"] = old.get("budgetUsed", status.get("budgetUsed", ""))
