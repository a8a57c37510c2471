"""The handlers: a daemon per study that ticks it, and what wakes it earlier.

A Kopf timer cannot be woken, so each study has a daemon that is one: it ticks, then sleeps until its time has come or
something of it has changed. What changed is never looked at here; the tick looks at everything.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import kopf

from frostline_operator.api.study import GROUP, VERSION
from frostline_operator.kubernetes.caches import Caches
from frostline_operator.kubernetes.client.api import STUDIES, Api, ApiError
from frostline_operator.kubernetes.fleet import Fleet
from frostline_operator.kubernetes.health import Health
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.reconciler import Shared, StudyController
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.kubernetes.status.figures import StudyFigures
from frostline_operator.kubernetes.status.metrics import StudyCollector
from frostline_operator.kubernetes.status.metrics_operator import FleetCollector
from frostline_operator.kubernetes.status.publishing import Publisher
from frostline_operator.scores.asking import Asker
from frostline_operator.scores.prometheus import PrometheusClient
from frostline_operator.scores.scrape import Scraper

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_THREADS = 16
_LOGIN_AGAIN = datetime.timedelta(minutes=10)
"""Tokens of service accounts and of cloud providers are renewed within the hour."""
_DELETE_SECONDS = 1.0
_PODS_GO = "pods write or remove checkpoints"
_DEFINITION_SECONDS = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_LEAST_SECONDS = 0.2
"""Between two ticks of a study, however often it is woken: changes come in bursts."""


class Operator:
    """Everything that lives as long as the operator's process.

    Args:
        settings: of the operator.
        api: to the cluster.
        health: is told of every tick.
    """

    def __init__(self, settings: OperatorSettings, api: Api, health: Health) -> None:
        self.settings = settings
        self.health = health
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakes: dict[str, asyncio.Event] = {}
        self._generations: dict[str, int] = {}
        self._controllers: dict[str, StudyController] = {}
        self._leaving: dict[str, int] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tick")
        caches = Caches(api, settings.namespaces, self.wake)
        self.shared = Shared(
            api,
            caches,
            Fleet(api, settings, caches.owns),
            Scraper(self.wake),
            Publisher(),
            asker(settings, self.wake),
            settings,
        )

        health.registry.register(StudyCollector(self.figures))
        health.registry.register(FleetCollector(self.shared.fleet.use))
        health.registry.register(api.requests)
        if self.shared.asker is not None:
            health.registry.register(self.shared.asker.queries)

    def figures(self) -> list[StudyFigures]:
        """Of the studies that are looked after; those of a study that goes are gone at once."""
        driven = (self._controllers.get(uid) for uid in list(self.health.driven))
        return [c.figures for c in driven if c is not None and c.figures is not None]

    async def start(self) -> None:
        """Begin to watch, and wait until enough is known to decide anything."""
        self._loop = asyncio.get_running_loop()
        await self._definitions()
        self.shared.fleet.start()
        self.shared.caches.start()
        self.shared.scraper.start()
        self.shared.publisher.start()
        if self.shared.asker is not None:
            self.shared.asker.start()
        while not (self.shared.fleet.synced and self.shared.caches.synced):
            await asyncio.sleep(0.05)
        where = ", ".join(self.settings.namespaces) or "all namespaces"
        log.info("looking after studies in %s", where)

    async def _definitions(self) -> None:
        """Wait until the cluster serves studies, and lets us list them: Kopf looks for them once, after this."""
        place = next(iter(self.settings.namespaces), None)
        said = ""
        while True:
            try:
                await self._in_thread(lambda: self.shared.api.list(STUDIES, place))
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
        self.shared.scraper.stop()
        self.shared.publisher.stop()
        if self.shared.asker is not None:
            self.shared.asker.stop()
        self.shared.caches.stop()
        self.shared.fleet.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def edited(self, uid: str, generation: int) -> None:
        """Let a study tick now if a person has changed it; the operator itself writes its status all the time."""
        if uid in self._wakes and self._generations.get(uid) != generation:
            self._generations[uid] = generation
            self.wake(uid)

    def wake(self, uid: str) -> None:
        """Let a study tick now; from any thread."""
        event = self._wakes.get(uid)
        if event is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(event.set)

    async def drive(self, uid: str, read: Callable[[], dict[str, Any]], stopped: Callable[[], bool]) -> None:
        """Tick a study until it is to stop."""
        event = self._wakes.setdefault(uid, asyncio.Event())
        self.health.driven.add(uid)
        try:
            await self._drive(uid, event, read, stopped)
        finally:
            self.health.driven.discard(uid)

    async def _drive(
        self, uid: str, event: asyncio.Event, read: Callable[[], dict[str, Any]], stopped: Callable[[], bool]
    ) -> None:
        pause = _FIRST_PAUSE
        while not stopped():
            event.clear()
            began = time.monotonic()
            try:
                delay = await self._tick(uid, read())
                pause = _FIRST_PAUSE
            except ApiError as error:
                log.warning("%s: %s; trying again in %.0f s", read()["metadata"]["name"], error, pause)
                delay, pause = pause, min(_LONGEST_PAUSE, pause * 2)
            except Exception:
                # A defect in one study's tick must not end its daemon, nor hide.
                log.exception("%s: the tick failed; trying again in %.0f s", read()["metadata"]["name"], pause)
                self.health.failed()
                delay, pause = pause, min(_LONGEST_PAUSE, pause * 2)
            # A slow tick means a busy machine or API server: then as long a rest, in which changes come together
            rest = max(_LEAST_SECONDS, time.monotonic() - began)
            await asyncio.sleep(rest)
            if not stopped():
                await _wait(event, max(0.0, delay - rest))

    async def delete(self, uid: str, body: dict[str, Any]) -> int:
        """Stop what is left of a study; returns how many pods still go."""
        controller = self._controller(uid, body)
        left = await self._in_thread(lambda: controller.delete(body))
        if left and self._leaving.get(uid) != left:
            self._leaving[uid] = left
            log.info("%s is deleted: %d %s", body["metadata"]["name"], left, _PODS_GO)
        if left == 0:
            self._leaving.pop(uid, None)
            self._controllers.pop(uid, None)
            self._wakes.pop(uid, None)
            self._generations.pop(uid, None)
        return left

    async def _tick(self, uid: str, body: dict[str, Any]) -> float:
        controller = self._controller(uid, body)
        api = self.shared.api

        def timed() -> float:
            began, waited = time.monotonic(), api.waited
            delay = controller.tick(body)
            self.health.ticked(time.monotonic() - began, api.waited - waited)
            return delay

        return await self._in_thread(timed)

    def _controller(self, uid: str, body: dict[str, Any]) -> StudyController:
        if uid not in self._controllers:
            self._controllers[uid] = StudyController(body, self.shared)
        return self._controllers[uid]

    def _in_thread(self, work: Callable[[], _T]) -> Awaitable[_T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work)


def asker(settings: OperatorSettings, woken: Callable[[str], None]) -> Asker | None:
    """What asks the operator's Prometheus, where it has one."""
    if settings.prometheus.url is None:
        return None
    return Asker(PrometheusClient(settings.prometheus), settings.prometheus.lookback_seconds, woken)


class WaitingIsNoError(logging.Filter):
    """Keeps Kopf from calling it an error, again each second, that a deletion waits for pods."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be seen."""
        return _PODS_GO not in record.getMessage()


class _Backoffs:
    """Seconds between attempts to reach the API server: it may be away for long, and the operator waits for it."""

    def __iter__(self) -> Iterator[float]:
        pause = 0.5
        while True:
            yield pause * random.uniform(0.8, 1.2)
            pause = min(15.0, pause * 2)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


def make_registry(operator: Operator) -> kopf.OperatorRegistry:
    """The handlers, for `kopf.run`."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return connection(operator.shared.api)

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.persistence.finalizer = names.FINALIZER
        prefix = f"operator.{GROUP}"
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=prefix)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=prefix, key="last-seen")
        settings.posting.enabled = False
        # Definitions are waited for at the start: watching them for ever would take a right in the whole cluster
        settings.scanning.disabled = True
        settings.watching.server_timeout = 240
        settings.watching.client_timeout = 300
        settings.networking.request_timeout = 30
        settings.networking.error_backoffs = _Backoffs()
        await operator.start()

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        operator.stop()

    @kopf.on.event(GROUP, VERSION, "hpostudies", registry=registry)
    async def poke(uid: str, meta: kopf.Meta, **_: Any) -> None:
        operator.edited(uid, int(meta.get("generation", 0)))

    @kopf.daemon(GROUP, VERSION, "hpostudies", registry=registry, id="tick", cancellation_timeout=5.0)
    async def tick(uid: str, body: kopf.Body, stopped: kopf.DaemonStopped, **_: Any) -> None:
        await operator.drive(uid, lambda: _plain(body), lambda: bool(stopped))

    @kopf.on.delete(GROUP, VERSION, "hpostudies", registry=registry, id="stop")
    async def delete(uid: str, body: kopf.Body, **_: Any) -> None:
        try:
            left = await operator.delete(uid, _plain(body))
        except ApiError as error:
            raise kopf.TemporaryError(str(error), delay=_DELETE_SECONDS) from error
        if left:
            raise kopf.TemporaryError(f"{left} {_PODS_GO}", delay=_DELETE_SECONDS)

    return registry


def connection(api: Api) -> kopf.ConnectionInfo:
    """For Kopf, the credentials that the official client has found: both must talk to the same cluster."""
    configuration = api.configuration
    kind, _, token = str(api.authorization() or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=kind or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        expiration=datetime.datetime.now(datetime.UTC) + _LOGIN_AGAIN,
    )


def _plain(body: kopf.Body) -> dict[str, Any]:
    return {key: _copied(value) for key, value in body.items()}


def _copied(value: Any) -> Any:
    if hasattr(value, "items"):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(inner) for inner in value]
    return value
