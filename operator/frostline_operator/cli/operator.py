"""`frostline operator`: the controller, in a cluster or beside one."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import kopf
from rich.console import Console

from frostline_operator.kubernetes.client.api import Api, ApiError
from frostline_operator.kubernetes.client.lease import Lease
from frostline_operator.kubernetes.handlers import make_registry
from frostline_operator.kubernetes.health import Health, serve
from frostline_operator.kubernetes.operator import Operator
from frostline_operator.kubernetes.settings import OperatorSettings, SettingsError, load_settings
from frostline_operator.scores.prometheus import PrometheusClient, QueryError


def run_operator(
    settings_file: Path | None,
    kubeconfig: Path | None,
    namespaces: list[str],
    image: str | None,
    cpu_slots: int | None,
    checkpoints: str | None,
    prometheus_url: str | None,
    port: int,
    verbose: bool,
) -> int:
    """Run the controller until it is told to stop. Returns the exit code."""
    console = Console(stderr=True)
    try:
        settings: OperatorSettings = load_settings(
            settings_file,
            prometheus_url,
            namespaces=namespaces or None,
            image=image,
            cpu_slots=cpu_slots,
            checkpoints=checkpoints,
        )
        if settings.prometheus.url is not None:
            PrometheusClient(settings.prometheus).check_files()
    except (SettingsError, QueryError) as error:
        console.print(str(error), highlight=False, markup=False)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("kopf").setLevel(logging.DEBUG if verbose else logging.WARNING)
    try:
        api = Api.connect(None if kubeconfig is None else str(kubeconfig))
    except ApiError as error:
        console.print(str(error), highlight=False)
        return 2
    health = Health()
    server = serve(health, port)
    console.print(f"health and metrics on port {server.server_address[1]}", highlight=False)
    if settings.lease is None:
        _act(settings, api, health)
        return 0
    # Requests of its own, that no guard holds up, and that end before the lease does
    own = Api.connect(None if kubeconfig is None else str(kubeconfig), timeout=settings.lease.seconds * 0.3)
    lease = Lease(own, settings.lease)
    if not lease.wait(_told_to_stop()):
        return 0
    api.guard = lease.check
    lease.keep(_give_way)
    try:
        _act(settings, api, health)
    finally:
        lease.release()
    return 0


def _act(settings: OperatorSettings, api: Api, health: Health) -> None:
    """Look after studies until a signal says to stop."""
    registry = make_registry(Operator(settings, api, health))
    # Kopf names itself to its peers, of which there are none. Without this variable it asks for the user's name, and a
    # pod's user id may have none
    os.environ.setdefault("POD_ID", f"frostline-{os.getpid()}")
    asyncio.run(
        kopf.operator(
            registry=registry,
            standalone=True,
            namespaces=settings.namespaces,
            clusterwide=not settings.namespaces,
        )
    )


def _told_to_stop() -> Callable[[], bool]:
    """Notes SIGTERM and SIGINT, which the first process of a container would not even feel otherwise."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    return told.is_set


def _give_way(other: str) -> None:
    """Somebody else acts: end at once, with nothing half-done in a thread going on. Kubernetes starts it again."""
    logging.getLogger(__name__).critical("the lease is held by %s now; ending", other)
    os._exit(1)
