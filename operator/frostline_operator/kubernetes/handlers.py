"""Kopf's handlers: what happens to an HPOStudy is passed on to the `Operator`."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import Iterator
from typing import Any

import kopf

from frostline_operator.api.study import GROUP, VERSION
from frostline_operator.kubernetes.client.api import Api
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.operator import Operator

_LOGIN_AGAIN = datetime.timedelta(minutes=10)
"""Tokens of service accounts and of cloud providers are renewed within the hour."""
_EXIT_SECONDS = 1.0
"""A daemon whose study is deleted ends by itself within so long, or Kopf cancels it and says so in the log."""


class _Backoffs:
    """Seconds between attempts to reach the API server: it may be away for long, and the operator waits for it."""

    def __iter__(self) -> Iterator[float]:
        pause = 0.5
        while True:
            yield pause * random.uniform(0.8, 1.2)
            pause = min(15.0, pause * 2)


def make_registry(operator: Operator) -> kopf.OperatorRegistry:
    """The handlers, for `kopf.run`."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return connection(operator.api)

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
        settings.background.instant_exit_timeout = _EXIT_SECONDS
        settings.networking.error_backoffs = _Backoffs()
        await operator.start()

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        operator.stop()

    @kopf.on.event(GROUP, VERSION, "hpostudies", registry=registry)
    async def poke(uid: str, meta: kopf.Meta, type: str | None, **_: Any) -> None:
        generation = None if meta.get("deletionTimestamp") else int(meta.get("generation", 0))
        operator.edited(uid, generation, type != "DELETED")

    @kopf.daemon(GROUP, VERSION, "hpostudies", registry=registry, id="tick", cancellation_timeout=5.0)
    async def reconcile(uid: str, body: kopf.Body, stopped: kopf.DaemonStopped, **_: Any) -> None:
        waker = asyncio.create_task(wake_when(stopped, uid))
        try:
            await operator.drive(uid, lambda: _plain(body), lambda: bool(stopped))
        finally:
            waker.cancel()

    async def wake_when(stopped: kopf.DaemonStopped, uid: str) -> None:
        await stopped.wait()
        operator.wake(uid)

    @kopf.on.delete(GROUP, VERSION, "hpostudies", registry=registry, id="stop")
    async def delete(uid: str, body: kopf.Body, **_: Any) -> None:
        await operator.delete(uid, _plain(body))

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
