"""Everything that lives as long as the operator's process: watches, threads, and one task per study.

A Kopf timer cannot be woken, so each study has a daemon that is one: it reconciles the study, then sleeps until its
time has come or something of the study has changed. What changed is not looked at here: a round looks at everything.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from frostline_operator.kubernetes.caches import Caches
from frostline_operator.kubernetes.cleanup import Sweeper
from frostline_operator.kubernetes.client.api import STUDIES, Api, ApiError, Manifest
from frostline_operator.kubernetes.cluster import KubernetesCluster, WriteBudget
from frostline_operator.kubernetes.fleet import Fleet
from frostline_operator.kubernetes.health import Health
from frostline_operator.kubernetes.journal import Journal, has_begun
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.profiler import Profiler
from frostline_operator.kubernetes.reconciler import Collaborators, Requeue, StudyController
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.kubernetes.status.events import Recorder
from frostline_operator.kubernetes.status.figures import StudyFigures
from frostline_operator.kubernetes.status.metrics import FleetCollector, StudyCollector
from frostline_operator.kubernetes.status.trials import Publisher, TrialWriter
from frostline_operator.kubernetes.status.writer import StatusWriter
from frostline_operator.kubernetes.store import KubernetesStore
from frostline_operator.runtime.backoff import Backoff
from frostline_operator.scores.asking import Asker
from frostline_operator.scores.prometheus import PrometheusClient
from frostline_operator.scores.queries import TargetLabels
from frostline_operator.scores.scores import ScoredStudy, Scores, ScoreSettings
from frostline_operator.scores.scrape import Scraper

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_THREADS = 16
_DELETE_SECONDS = 1.0
_DEFINITION_SECONDS = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_LEAST_SECONDS = 0.2
"""Between two rounds of a study, however often it is woken: changes come in bursts."""


@dataclass
class _Entry:
    """A study that is looked after."""

    controller: StudyController
    wake: asyncio.Event
    generation: int = 0
    """Of the study as it was last seen, to tell a person's edit from the operator's own writes."""


class Operator:
    """Everything that lives as long as the operator's process.

    Args:
        settings: of the operator.
        api: to the cluster.
        health: is told of every round.
    """

    def __init__(self, settings: OperatorSettings, api: Api, health: Health) -> None:
        self.api = api
        self._settings = settings
        self._health = health
        self._loop: asyncio.AbstractEventLoop | None = None
        self._studies: dict[str, _Entry] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="reconcile")
        self._caches = Caches(api, settings.namespaces, self.wake)
        self._fleet = Fleet(api, settings, self._caches.owns)
        self._scraper = Scraper(self.wake)
        self._publisher = Publisher()
        self._asker = _asker(settings, self.wake)
        health.registry.register(StudyCollector(self._figures))
        health.registry.register(FleetCollector(self._fleet.use))
        health.registry.register(api.requests)
        if self._asker is not None:
            health.registry.register(self._asker.queries)

    def _figures(self) -> list[StudyFigures]:
        """Of the studies that are looked after; those of a study that is being deleted are gone at once."""
        entries = (self._studies.get(uid) for uid in list(self._health.driven))
        return [m for entry in entries if entry is not None and (m := entry.controller.figures) is not None]

    async def start(self) -> None:
        """Begin to watch, and wait until enough is known to decide anything."""
        self._loop = asyncio.get_running_loop()
        self._health.synced = False
        await self._definitions()
        self._fleet.start()
        self._caches.start()
        self._scraper.start()
        self._publisher.start()
        if self._asker is not None:
            self._asker.start()
        while not (self._fleet.synced and self._caches.synced):
            await asyncio.sleep(0.05)
        self._health.synced = True
        where = ", ".join(self._settings.namespaces) or "all namespaces"
        log.info("looking after studies in %s", where)

    async def _definitions(self) -> None:
        """Wait until the cluster serves studies, and lets us list them: Kopf looks for them once, after this."""
        places: list[str | None] = [*self._settings.namespaces] or [None]
        said = ""
        while True:
            try:
                for place in places:
                    studies, _ = await self._in_thread(functools.partial(self.api.list, STUDIES, place))
                    for study in studies:
                        self._health.present(study["metadata"]["uid"], True)
                return
            except ApiError as error:
                missing = "there is no HPOStudy in this cluster; install its definition with frostline crds"
                words = missing if error.status == 404 else f"studies cannot be listed: {error}"
            if words != said:
                log.warning("%s", words)
                said = words
            await asyncio.sleep(_DEFINITION_SECONDS)

    def stop(self) -> None:
        """Watch no more. Runs go on."""
        self._scraper.stop()
        self._publisher.stop()
        if self._asker is not None:
            self._asker.stop()
        self._caches.stop()
        self._fleet.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def edited(self, uid: str, generation: int | None, there: bool = True) -> None:
        """Reconcile a study now if a person has changed it; the operator itself writes its status all the time.

        Args:
            uid: of the study.
            generation: of the study, None where it is being deleted.
            there: whether it is in the API server still.
        """
        self._health.present(uid, there)
        entry = self._studies.get(uid)
        if entry is not None and generation is not None and entry.generation != generation:
            entry.generation = generation
            self.wake(uid)

    def wake(self, uid: str) -> None:
        """Reconcile a study now; from any thread."""
        entry = self._studies.get(uid)
        if entry is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(entry.wake.set)

    async def drive(self, uid: str, read: Callable[[], Manifest], stopped: Callable[[], bool]) -> None:
        """Reconcile a study again and again until it is to stop.

        Args:
            uid: of the study.
            read: the study as it was last seen.
            stopped: whether to return.
        """
        entry = self._entry(uid, read())
        self._health.driven.add(uid)
        try:
            await self._drive(entry, read, stopped)
        finally:
            self._health.driven.discard(uid)

    async def _drive(self, entry: _Entry, read: Callable[[], Manifest], stopped: Callable[[], bool]) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while not stopped():
            entry.wake.clear()
            began = time.monotonic()
            try:
                requeue = await self._in_thread(lambda: self._reconcile(entry.controller, read()))
                backoff.reset()
            except ApiError as error:
                requeue = Requeue(backoff.next(), str(error))
                log.warning("%s: %s; trying again in %.0f s", entry.controller.study.name, error, requeue.after)
            except Exception as error:
                # A defect in one study's reconciliation must not end its daemon, nor hide.
                requeue = Requeue(backoff.next(), str(error))
                log.exception("%s: trying again in %.0f s", entry.controller.study.name, requeue.after)
                self._health.failed()
            log.debug("%s: again in %.1f s: %s", entry.controller.study.name, requeue.after, requeue.why)
            # A slow round means a busy machine or API server: then as long a rest, in which changes come together
            rest = max(_LEAST_SECONDS, time.monotonic() - began)
            await asyncio.sleep(rest)
            if not stopped():
                await _wait(entry.wake, max(0.0, requeue.after - rest))

    def _reconcile(self, controller: StudyController, body: Manifest) -> Requeue:
        began, waited = time.monotonic(), self.api.waited
        requeue = controller.reconcile(body)
        self._health.ticked(time.monotonic() - began, self.api.waited - waited)
        return requeue

    async def delete(self, uid: str, body: Manifest) -> None:
        """Stop everything of a study that is to go; returns once nothing of it is left, or somebody forced it away.

        It waits here and not by Kopf's retries, which call every wait an error.
        """
        controller = self._entry(uid, body).controller
        study = controller.study
        self.wake(uid)
        said, backoff = 0, Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            try:
                current = await self._in_thread(lambda: self._current(study))
                if current is None:
                    break
                left = await self._in_thread(lambda found=current: controller.delete(found))  # type: ignore[misc]
                backoff.reset()
            except ApiError as error:
                pause = backoff.next()
                log.warning("%s cannot be deleted: %s; trying again in %.0f s", study.name, error, pause)
                await asyncio.sleep(pause)
                continue
            if left == 0:
                break
            if left != said:
                log.info("%s is deleted: %d pods write or remove checkpoints", study.name, left)
                said = left
            self._health.beat()
            await asyncio.sleep(_DELETE_SECONDS)
        self._studies.pop(uid, None)
        self._health.present(uid, False)

    def _current(self, study: StudyRef) -> Manifest | None:
        """A study as the API server has it, None where it is gone. A list, as there is no right to get one."""
        items, _ = self.api.list(STUDIES, study.namespace, fields=f"metadata.name={study.name}")
        return next((item for item in items if item["metadata"]["uid"] == study.uid), None)

    def _entry(self, uid: str, body: Manifest) -> _Entry:
        if uid not in self._studies:
            self._studies[uid] = _Entry(self._controller(body), asyncio.Event())
        return self._studies[uid]

    def _controller(self, body: Manifest) -> StudyController:
        """A study's controller with all that it works with."""
        metadata, api, settings = body["metadata"], self.api, self._settings
        study = StudyRef(metadata["namespace"], metadata["name"], metadata["uid"], dict(metadata.get("labels") or {}))
        recorder, journal, writes = Recorder(api, study), Journal(api, study, has_begun(body)), WriteBudget()
        prometheus = settings.prometheus
        score_settings = ScoreSettings(
            prometheus.interval_seconds,
            settings.linger_seconds,
            settings.tick_seconds,
            TargetLabels(prometheus.namespace_label, prometheus.pod_label),
        )
        scored = ScoredStudy(study.name, study.namespace, study.uid)
        scores = Scores(scored, self._scraper, self._asker, score_settings)
        sweeper = Sweeper(api, self._caches, study, settings, recorder)
        cluster = KubernetesCluster(study, api, self._caches, self._fleet, scores, sweeper, writes, settings)
        collaborators = Collaborators(
            fleet=self._fleet,
            publisher=self._publisher,
            journal=journal,
            store=KubernetesStore(journal, recorder),
            cluster=cluster,
            writes=writes,
            scores=scores,
            profiler=Profiler(api, self._caches, study, settings),
            sweeper=sweeper,
            trials=TrialWriter(api, study),
            status=StatusWriter(api, study, recorder, dict(body.get("status") or {})),
        )
        return StudyController(study, collaborators, settings)

    def _in_thread(self, work: Callable[[], _T]) -> Awaitable[_T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work)


def _asker(settings: OperatorSettings, woken: Callable[[str], None]) -> Asker | None:
    """What asks the operator's Prometheus, where it has one."""
    if settings.prometheus.url is None:
        return None
    return Asker(PrometheusClient(settings.prometheus), settings.prometheus.lookback_seconds, woken)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
